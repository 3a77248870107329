"""Whether a complete run is sound: its record, weights and ancestors fit together; and whether a cache is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.config.recognizer import ContractConfig
from facedistill.data.files.formats.base64_tsv import verify_index
from facedistill.data.files.store import verify_store
from facedistill.data.sources.packed import MANIFEST, Packed
from facedistill.errors import DataError, WeightsError
from facedistill.runs.folders import RunFolder
from facedistill.runs.identity import RESULTS_VERSION, recipe_of
from facedistill.runs.record import RECORD, Record
from facedistill.runs.run import WEIGHTS, WeightsFile
from facedistill.runs.sample_scores import SAMPLE_SCORES, SampleScores
from facedistill.system.files import hash_of, is_file, sha256

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = 1e-3  # of a mean of float32, in points
_STATISTICS = ("running_mean", "running_var")  # of BatchNorm: in the weights, but no parameters


def faults_of(run: RunFolder, runs: Sequence[RunFolder]) -> list[str]:
    """What does not fit together in a complete run; nothing, if all does."""
    from facedistill.models.weights import read_weights  # torch takes seconds

    record = run.record
    assert record is not None
    found = []
    if not _is_hash(record):
        found.append(f"its identity is not the hash of its recipe: {RECORD} was changed")
    elif record.version == RESULTS_VERSION and not _is_of_its_recipe(record):
        found.append(f"its configuration is not that of its recipe: {RECORD} was changed")
    if record.name != run.name or not run.name.endswith(record.identity):
        found.append(f"its record is that of {record.name}: the folder was renamed")
    found += [*_faults_of_ancestors(record, runs), *_faults_of_sample_scores(run.directory, record)]
    weights = run.directory / WEIGHTS
    try:
        tensors, about, *_ = read_weights(weights)
    except WeightsError as error:
        return [*found, str(error)]
    if record.weights_sha256 != sha256(weights):
        found.append(f"{WEIGHTS} is not what the run wrote: its SHA-256 differs")
    if not isinstance(about, dict) or about.get("run") != record.identity:
        found.append(f"{WEIGHTS} does not say that it is of this run")
    if (size := weights.stat().st_size) != record.weights_bytes:
        found.append(f"{WEIGHTS} has {size} bytes, not {record.weights_bytes}")
    learnt = [tensor for name, tensor in tensors.items() if name.rpartition(".")[2] not in _STATISTICS]
    count = sum(tensor.numel() for tensor in learnt if tensor.is_floating_point())
    if count != record.params_with_classifier:
        found.append(f"{WEIGHTS} has {count} parameters, not {record.params_with_classifier}")
    if not all(map(_is_finite, tensors.values())):
        found.append(f"{WEIGHTS} holds a number that is not finite")
    return found


def _is_of_its_recipe(record: Record) -> bool:
    try:
        return recipe_of(record.config, record.recipe["data"], record.recipe["parents"]) == record.recipe
    except Exception:  # a configuration may say anything
        return False


def _is_finite(tensor: Tensor) -> bool:
    try:
        return bool(tensor.isfinite().all())
    except NotImplementedError:  # of fewer than 16 bits, as no run publishes
        return False


def faults_of_cache(folder: Path) -> tuple[int, list[str]]:
    """Compare everything in a cache with its checksums: how many stores, packs and indexes, and what is damaged."""
    packs = {path.parent for path in folder.rglob(MANIFEST)}
    stores = {path.with_suffix("") for path in folder.rglob("*.npz") if path.parent not in packs}
    single = {path for path in folder.rglob("*.npy") if path.parent not in packs and path.with_suffix("") not in stores}
    checks: list[Callable[[], None]] = [
        *(Packed("packed", str(pack)).verify for pack in sorted(packs)),
        *(partial(verify_store, store) for store in sorted(stores)),
        *(partial(verify_index, index) for index in sorted(single)),
    ]
    faults = []
    for check in checks:
        try:
            check()
        except DataError as error:
            faults.append(str(error))
    return len(checks), faults


def _faults_of_sample_scores(directory: Path, record: Record) -> list[str]:
    """The scores of a run's test samples have the mean that its record has."""
    kept = SampleScores.read(directory)
    if kept is None:
        return [f"{SAMPLE_SCORES} is missing or damaged: the report has no intervals over its test samples"]
    score = record.score
    if score is None:
        return [f"{RECORD} has no score of its task"]
    mean = kept.score.mean(dtype=float) if len(kept.score) else score
    return (
        [] if isclose(mean, score, abs_tol=ROUNDING) else [f"{SAMPLE_SCORES} has a mean of {mean:.4g}, not {score:.4g}"]
    )


def _is_hash(record: Record) -> bool:
    try:
        return hash_of(record.recipe) == record.identity
    except ValueError:  # NaN
        return False


def _faults_of_ancestors(record: Record, runs: Sequence[RunFolder]) -> list[str]:
    """Of the ancestors that are here: each must have the identity in the recipe."""
    identities = record.recipe.get("parents")
    if not isinstance(identities, dict) or identities.keys() != record.parents.keys():
        return ["its ancestors are not those of its recipe"]
    here = {other.name: {other.record.identity} for other in runs if other.record is not None}
    config = record.config
    networks = [({}, ContractConfig()), (config.teacher.model, config.teacher.contract)]
    networks += [(teacher.get("model", {}), config.contract_of(role)) for role, teacher in config.teachers.items()]
    for file in filter(is_file, record.parents.values()):
        here[file] = {WeightsFile(Path(file), model, contract=contract).identity for model, contract in networks}
    return [
        f"its {role}, {name}, is not the one that it was trained with"
        for role, name in record.parents.items()
        if name in here and identities[role] not in here[name]
    ]
