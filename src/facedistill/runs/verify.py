"""Whether a complete run is whole: its record, its weights and its ancestors fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Any

from facedistill.errors import WeightsError
from facedistill.runs.folders import RunFolder
from facedistill.runs.run import WeightsFile
from facedistill.runs.sample_scores import SAMPLE_SCORES, SampleScores
from facedistill.system.files import hash_of, sha256

# What ``fit.describe`` writes; the checksum of the weights came later, group and teacher's score may be null.
RECORD: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("identity", "name", "role"), str),
    **dict.fromkeys(("recipe", "config", "parents", "metrics", "data", "versions", "device"), dict),
    **dict.fromkeys(("overrides", "history"), list),
    **dict.fromkeys(("params", "params_with_classifier", "macs", "weights_bytes"), int),
    **dict.fromkeys(("seconds", "images_per_second"), (int, float)),
}
ROUNDING = 1e-3  # of a mean of float32, in points
_STATISTICS = ("running_mean", "running_var")  # of BatchNorm: in the weights, but no parameters


def faults(run: RunFolder, runs: Sequence[RunFolder]) -> list[str]:
    """What does not fit together in a complete run; nothing, if all does."""
    from facedistill.models.weights import read_weights  # torch takes seconds

    record = run.record
    assert record is not None
    if bad := improper(record):
        return [f"record.json has no proper {', '.join(bad)}"]
    found = []
    if not _is_hash(record["identity"], record["recipe"]):
        found.append("its identity is not the hash of its recipe: record.json was changed")
    if record["name"] != run.name or not run.name.endswith(record["identity"]):
        found.append(f"its record is that of {record['name']}: the folder was renamed")
    found += _strange_ancestors(run, runs)
    found += _strange_sample_scores(run.directory, record)
    weights = run.directory / "weights.safetensors"
    try:
        tensors, about = read_weights(weights)
    except WeightsError as error:
        return [*found, str(error)]
    if "weights_sha256" in record and record["weights_sha256"] != sha256(weights):
        found.append("weights.safetensors is not what the run wrote: its SHA-256 is another")
    if not isinstance(about, dict) or about.get("run") != record["identity"]:
        found.append("weights.safetensors does not say that it is of this run")
    if (size := weights.stat().st_size) != record["weights_bytes"]:
        found.append(f"weights.safetensors has {size} bytes, not {record['weights_bytes']}")
    learnt = [tensor for name, tensor in tensors.items() if name.rpartition(".")[2] not in _STATISTICS]
    count = sum(tensor.numel() for tensor in learnt if tensor.is_floating_point())
    if count != record["params_with_classifier"]:
        found.append(f"weights.safetensors has {count} parameters, not {record['params_with_classifier']}")
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        found.append("weights.safetensors holds a number that is not finite")
    return found


def _strange_sample_scores(directory: Path, record: Mapping[str, Any]) -> list[str]:
    """What a run said of every test sample has the mean that its record has. Runs before ``latency_ms`` kept none."""
    if "latency_ms" not in record:
        return []
    sample_scores = SampleScores.read(directory)
    if sample_scores is None:
        return [f"{SAMPLE_SCORES} is not there, or damaged: the report has no intervals over its test samples"]
    try:
        scored = float(record["metrics"][record["config"]["task"]["metric"]])
    except (KeyError, TypeError, ValueError):
        return ["record.json has no score of its task"]
    mean = sample_scores.score.mean(dtype=float) if len(sample_scores.score) else scored
    return (
        []
        if isclose(mean, scored, abs_tol=ROUNDING)
        else [f"{SAMPLE_SCORES} has a mean of {mean:.4g}, not {scored:.4g}"]
    )


def improper(record: Mapping[str, Any]) -> list[str]:
    """The keys that a record lacks, or whose values are of a wrong type."""
    return [key for key, kind in RECORD.items() if not isinstance(record.get(key), kind)]


def _is_hash(identity: str, recipe: dict[str, Any]) -> bool:
    try:
        return hash_of(recipe) == identity
    except ValueError:  # NaN
        return False


def _strange_ancestors(run: RunFolder, runs: Sequence[RunFolder]) -> list[str]:
    """Faults of the ancestors, runs or files of weights, that are there: each must have the identity in the recipe."""
    assert run.record is not None
    names, identities = run.record["parents"], run.record["recipe"].get("parents")
    if not isinstance(identities, dict) or identities.keys() != names.keys():
        return ["its ancestors are not those of its recipe"]
    there = {other.name: other.record.get("identity") for other in runs if other.record is not None}
    there |= {name: WeightsFile(Path(name)).identity for name in run.ancestors if Path(name).is_file()}
    return [
        f"its {role}, {name}, is not the one that it was made with"
        for role, name in names.items()
        if str(name) in there and there[str(name)] != identities[role]
    ]
