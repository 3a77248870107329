"""The one place that calls what a configuration names: what it builds, and what it refuses."""

from pathlib import Path

import pytest

from facedistill.config.build import build, check_target
from facedistill.data.sources.source import build_source
from facedistill.data.sources.synthetic import SyntheticFaces
from facedistill.errors import ConfigError, DataError


@pytest.mark.parametrize(
    "target",
    [
        "builtins.open",
        "os.system",
        "subprocess.run",
        "None",
        "facedistill.config.build.build",  # ours, but nothing that a configuration builds
        "facedistill.runs.run.Run",
        "facedistill.data.files.store.shutil.rmtree",
        "facedistill.data.files.layouts.folders.os.system",
        "facedistill.data.sources.packed.sha256",  # imported there from elsewhere
        "facedistill.data.sources.synthetic.ProcessPoolExecutor",
        "facedistill.models.weights.pickle.loads",
        "facedistill.distill.soft.F",  # a module
        "facedistill.data.sources.synthetic.FOLDS",  # a number
        "facedistill.models.backbone.BLOCKS",  # a dict
        "facedistill.models.nothing.Here",
        "facedistill.models.backbone.nothing",
        "facedistill.models.backbone.",
        "facedistill.models.",
    ],
)
def test_what_is_not_ours_to_build_is_refused_and_not_called(target: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    with pytest.raises(ConfigError, match="_target_"):
        build({"_target_": target, "file": str(victim), "path": str(victim), "command": f"rmdir {victim}"})
    assert victim.is_dir()


def test_build_without_a_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="_target_"):
        build({"name": "x"})


def test_build_passes_every_key_and_describing_keys_only_where_they_are_taken() -> None:
    node = {
        "_target_": "facedistill.data.sources.synthetic.SyntheticFaces",
        "name": "mine",
        "num_identities": 3,
        "images_per_identity": 4,
        "pairs_per_fold": 2,
        "seed": 5,
    }
    assert build(node) == SyntheticFaces("mine", 3, 4, 2, 5)
    term = {"_target_": "facedistill.distill.soft.SoftTarget", "name": "no argument of it", "rates": [1], "weight": 0.5}
    soft = build(term, student_width=2, teacher_width=2, tau=4.0, tau_squared=False)
    assert (soft.weight, soft.tau, soft.scale) == (0.5, 4.0, 1.0)


@pytest.mark.parametrize(("extra", "said"), [({"colour": 1, "reduction": "sum"}, "colour"), ({}, "reduction")])
def test_an_unknown_or_missing_argument_names_what_is_taken(extra: dict[str, object], said: str) -> None:
    node = {"_target_": "facedistill.distill.hidden.HiddenTarget", "weight": 1.0, **extra}
    for call in (build, check_target):
        with pytest.raises(ConfigError) as refusal:
            call(node, student_width=1, teacher_width=1)
        assert said in str(refusal.value)
        assert "takes weight, student_width, teacher_width, reduction" in str(refusal.value)


def test_check_target_does_not_build() -> None:
    node = {"_target_": "facedistill.data.sources.synthetic.SyntheticFaces", "name": "x", "num_identities": -1}
    rest = {"images_per_identity": 4, "pairs_per_fold": 2, "seed": 5}
    check_target(node, **rest)
    with pytest.raises(DataError):
        build_source({**node, **rest})
