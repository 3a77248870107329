"""What changes a run's identity and what does not; its directory, name, role and record."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from facedistill.config.compose import compose_config
from facedistill.errors import WeightsError
from facedistill.runs.plan import plan
from facedistill.runs.run import Run, WeightsFile
from made_records import complete, record_of

Planner = Callable[..., Run]
BASE = ("rate=4", "init=scratch", "target=soft")


@pytest.fixture(scope="module")
def base() -> Run:
    return plan(BASE)


ELSEWHERE = [
    "runs_dir=elsewhere",
    "cache_dir=/tmp/elsewhere",
    "logger=csv",
    "logger.project=other",
    "logger.mode=offline",
    "logger.entity=someone",
    "trainer.accelerator=cpu",
    "trainer.num_workers=3",
    "trainer.progress=false",
    "group=a-table",
    "cells=12",
    "plan=true",
]
UNUSED = [
    "target.beta=0",
    "target.terms.hidden.reduction=sum",  # of a term that does not count
    "task.learning_rates.initialized=[0.5]",  # of a schedule that is not used
    "batch_sizes.alignment=7",
    "target.views=10",  # as many as there are epochs: each has its own, as with all
]


def test_where_and_how_a_run_is_executed_is_not_part_of_it(base: Run) -> None:
    assert plan([*BASE, *ELSEWHERE]).identity == base.identity


def test_what_is_not_used_is_not_part_of_it(base: Run) -> None:
    assert plan([*BASE, *UNUSED]).identity == base.identity


CHANGES = [
    "trainer.threads=2",
    "seed=1",
    "rate=8",
    "init=full",
    "init=scratch_whole",
    "target=none",
    "target=hidden",
    "target.alpha=0.5",
    "target.parity=3",
    "target.parity=null",
    "target.tau=4",
    "target.beta=0.5",
    "target.terms.soft.tau_squared=false",
    "target.views=live",
    "target.views=2",
    "target.bank=float32",
    "target.bank=top8",
    "target.bank=top9",
    "task.learning_rates.random=[0.05]",
    "schedule.epochs=2",
    "schedule.reading=one_rate",
    "schedule.momentum=0.5",
    "schedule.weight_decay=0",
    "image.crop=16",
    "image.resize=56",
    "data=synthetic_large",
    "data.seed=9",
    "data.num_identities=10",
    "trainer.precision=bf16-mixed",
    "trainer.compile=true",
    "task.batch_size=16",
    "batch_sizes.classification=16",
    "model.width=24",
    "model.layers=[2,1,1,1]",
    "teacher.seed=7",
    "teacher.model.width=24",
    "model@teacher.model=resnet50",
]


def test_each_thing_that_changes_the_result_changes_the_identity_to_another(base: Run) -> None:
    identities = {word: plan([*BASE, word]).identity for word in CHANGES}
    assert identities.pop("batch_sizes.classification=16") != identities["task.batch_size=16"]  # the teacher's, too
    assert base.identity not in identities.values()
    assert len(set(identities.values())) == len(identities)


@pytest.mark.parametrize("target", ["none", "hidden", "logits"])
def test_the_temperature_counts_only_with_the_soft_target(target: str) -> None:
    words = ["rate=4", f"target={target}"]
    assert plan([*words, "target.tau=7"]).identity == plan(words).identity


def test_the_bank_counts_only_where_a_teacher_is_asked_from_it() -> None:
    for target, word in (("none", "target.views=2"), ("none", "target.bank=float32"), ("none", "target.bank=top8")):
        words = ["rate=4", f"target={target}"]
        assert plan([*words, word]).identity == plan(words).identity
    live = ["rate=4", "target=soft", "target.views=live"]
    assert plan([*live, "target.bank=float32"]).identity == plan(live).identity
    assert "bank" not in plan(live).recipe


def test_the_teacher_counts_only_for_those_who_have_one() -> None:
    alone = plan(["rate=4", "target=none"]).identity
    for word in ("teacher.seed=3", "teacher.model.width=24", "teacher.backbone=a.pt"):
        assert plan(["rate=4", "target=none", word]).identity == alone


def test_the_order_of_the_words_does_not_matter(base: Run) -> None:
    assert plan(reversed(BASE)).identity == base.identity  # type: ignore[arg-type]


def test_a_changed_version_of_the_code_is_another_run(base: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = base.identity
    monkeypatch.setattr("facedistill.runs.identity.RESULTS_VERSION", 10**6)
    assert plan(BASE).identity != before


def test_the_recipe_is_plain_and_finite(base: Run) -> None:
    assert json.loads(json.dumps(base.recipe, allow_nan=False)) == base.recipe


def test_the_name_shows_every_axis_and_is_the_directory(planned: Planner) -> None:
    run = planned("rate=8", "init=full", "target=soft", "seed=3")
    assert run.name == f"classify-r8-full-soft-synthetic-s3-{run.identity}"
    assert run.directory == Path("runs") / run.name
    assert len(run.identity) == 12
    for path in (run.weights, run.checkpoint, run.lock):
        assert path.parent == run.directory
    assert planned("task=teacher").name.startswith("teacher-r1-synthetic-s0-")
    assert planned("task=hint", "rate=2").name.startswith("hint-r2-synthetic-s0-")


@pytest.mark.parametrize(
    ("words", "role"),
    [
        ("task=teacher", "teacher"),
        ("target=none", "alone"),
        ("target=soft", "student"),
        ("init=full target=soft", "student"),
        ("task=hint", "student"),
    ],
)
def test_roles(planned: Planner, words: str, role: str) -> None:
    assert planned(*words.split()).role == role


def test_a_run_is_complete_once_its_record_is_there(planned: Planner) -> None:
    run = planned()
    assert not run.is_complete
    run.directory.mkdir(parents=True)
    for path in (run.weights, run.checkpoint, run.lock):
        path.write_bytes(b"x")
    assert not run.is_complete
    complete(run, metrics={"top1": 1.5})
    assert run.is_complete
    assert run.record == record_of(run, metrics={"top1": 1.5})
    assert planned().is_complete


def test_a_record_with_nan_does_not_complete_a_run(planned: Planner) -> None:
    run = planned()
    with pytest.raises(ValueError, match="JSON"):
        complete(run, metrics={"top1": float("nan")})
    assert not run.is_complete


def test_a_file_of_weights_is_known_by_its_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one.pt", tmp_path / "other.pt"
    one.write_bytes(b"weights")
    other.write_bytes(b"weights")
    assert WeightsFile(one).identity == WeightsFile(other).identity
    assert WeightsFile(one, {"type": "timm", "mean": [0, 0, 0]}).identity != WeightsFile(one).identity
    other.write_bytes(b"weightz")
    assert WeightsFile(one).identity != WeightsFile(other).identity
    assert WeightsFile(one).name == str(one)
    assert WeightsFile(one).is_complete
    with pytest.raises(WeightsError, match=r"gone\.pt"):
        _ = WeightsFile(tmp_path / "gone.pt").identity


def test_the_default_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert compose_config([]).cache_dir == f"{tmp_path}/x/facedistill"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert compose_config([]).cache_dir == f"{tmp_path}/home/.cache/facedistill"


@pytest.mark.parametrize(
    ("names", "features", "may"),
    [
        (["backbone.net.conv1.weight", "classifier.weight"], None, True),
        (["backbone.net.conv1.weight"], None, False),
        (["module.conv1.weight", "module.fc.weight"], 0, True),
        (["conv1.weight", "head.fc.weight"], 512, False),  # its own last layer makes the embedding
        (["backbone.head.fc.weight", "head.weight"], 512, True),
    ],
)
def test_whether_a_file_may_have_a_classifier_is_told_by_its_names(
    tmp_path: Path, names: list[str], features: int | None, may: bool
) -> None:
    save_file({name: np.zeros(1) for name in names}, tmp_path / "w.safetensors")
    model = {} if features is None else {"features": features}
    assert WeightsFile(tmp_path / "w.safetensors", model).may_classify == may


def test_what_is_no_file_of_weights_is_refused_when_it_is_planned(tmp_path: Path) -> None:
    (tmp_path / "w.gguf").write_bytes(b"GGUF")
    with pytest.raises(WeightsError, match="is a GGUF file"):
        WeightsFile(tmp_path / "w.gguf")
    (tmp_path / "w.pt").write_bytes(b"x")
    assert WeightsFile(tmp_path / "w.pt").may_classify  # only torch can tell
