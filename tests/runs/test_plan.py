"""What a run stands on, which words reach it, and that each ancestor is made once and first."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from every_target import TARGETS
from facedistill.config.schema import Config
from facedistill.data.sources.synthetic import SyntheticFaces
from facedistill.errors import ConfigError, DataError, FacedistillError, WeightsError
from facedistill.runs.data_identity import Identities
from facedistill.runs.plan import check_tree, plan, tree
from facedistill.runs.run import Run, WeightsFile
from made_records import complete

Planner = Callable[..., Run]


def parent(run: Run, role: str) -> Run:
    found = run.parents[role]
    assert isinstance(found, Run)
    return found


def choices(config: Config) -> tuple[str, int, str, str]:
    return config.task.name, config.rate, config.init.name, config.target.name


def everything(run: Run) -> Iterator[Run]:
    yield run
    for found in run.parents.values():
        if isinstance(found, Run):
            yield from everything(found)


def test_a_teacher_and_a_student_alone_stand_on_nothing(planned: Planner) -> None:
    assert planned("task=teacher").parents == {}
    assert planned("target=none").parents == {}


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_stands_on_the_teacher(planned: Planner, target: str) -> None:
    run = planned("rate=8", *TARGETS[target])
    assert run.parents.keys() == {"teacher"}
    assert choices(parent(run, "teacher").config) == ("teacher", 1, "scratch", "none")
    assert parent(run, "teacher").parents == {}


def test_full_stands_on_the_teacher_and_on_w_s0_of_the_same_rate(planned: Planner) -> None:
    run = planned("rate=8", "init=full", "target=soft")
    assert run.parents.keys() == {"teacher", "init"}
    alone = parent(run, "init")
    assert choices(alone.config) == ("classify", 8, "scratch", "none")
    assert alone.parents == {}
    assert alone.identity == planned("rate=8").identity


def test_full_without_a_target_stands_on_w_s0_alone(planned: Planner) -> None:
    assert planned("rate=8", "init=full").parents.keys() == {"init"}


def test_fitnet_stands_on_the_hint_which_stands_on_the_same_teacher(planned: Planner) -> None:
    run = planned("rate=4", "init=fitnet", "target=soft")
    hint = parent(run, "init")
    assert choices(hint.config) == ("hint", 4, "scratch", "none")
    assert hint.parents.keys() == {"teacher"}
    assert parent(hint, "teacher").identity == parent(run, "teacher").identity


def test_cells_of_a_sweep_share_their_teacher_whatever_their_own_words(planned: Planner) -> None:
    cells = [
        planned("rate=8", "target=soft"),
        planned("rate=2", "target=soft", "target.tau=5", "target.alpha=0.3"),
        planned("rate=4", "target=hidden", "target.beta=0.1"),
        planned("rate=4", "init=full", "target=soft", "model.width=24"),
        planned("rate=4", "init=fitnet", "target=logits", "task.batch_size=64"),
    ]
    assert len({parent(cell, "teacher").identity for cell in cells}) == 1
    assert parent(cells[0], "teacher").identity == planned("task=teacher").identity


def test_own_words_do_not_reach_ancestors(planned: Planner) -> None:
    run = planned("rate=8", "init=full", "target=soft", "target.tau=5", "target.alpha=0.3", "target.beta=0.1")
    assert (run.config.target.tau, run.config.target.alpha, run.config.target.beta) == (5, 0.3, 0.1)
    for ancestor in list(everything(run))[1:]:
        assert ancestor.config.target.active() == {}
        assert ancestor.config.target.tau == 3.0
    plain = planned("rate=8", "init=full", "target=soft")
    assert {role: found.identity for role, found in run.parents.items()} == {
        role: found.identity for role, found in plain.parents.items()
    }


def test_words_with_a_plus_do_not_reach_ancestors_either(planned: Planner) -> None:
    run = planned("target=soft", "+target.terms.soft.note=1")
    assert parent(run, "teacher").identity == planned("task=teacher").identity


@pytest.mark.parametrize(
    "word",
    [
        "schedule.epochs=1",
        "data.seed=5",
        "image.crop=16",
        "seed=4 teacher.seed=4",
        "schedule.reading=one_rate",
        "batch_sizes.classification=48",
    ],
)
def test_shared_words_reach_every_ancestor(planned: Planner, word: str) -> None:
    words = ("rate=8", "init=fitnet", "target=soft")
    plain, changed = list(everything(planned(*words))), list(everything(planned(*words, *word.split())))
    assert len(plain) == len(changed) == 4
    assert all(one.identity != other.identity for one, other in zip(plain, changed, strict=True))


def test_where_runs_are_kept_reaches_every_ancestor(planned: Planner, tmp_path: Path) -> None:
    places = [f"runs_dir={tmp_path}/elsewhere", f"cache_dir={tmp_path}/cache", "logger.project=mine"]
    for found in everything(planned("init=fitnet", "target=soft", *places)):
        assert found.directory.parent == tmp_path / "elsewhere"
        assert found.config.logger.project == "mine"
        assert found.config.cache_dir == f"{tmp_path}/cache"


def test_a_batch_size_of_the_task_reaches_ancestors_of_that_task_alone(planned: Planner) -> None:
    run = planned("init=full", "target=soft", "task.batch_size=7")
    assert parent(run, "init").config.task.batch_size == 7
    assert parent(run, "teacher").config.task.batch_size == planned("task=teacher").config.task.batch_size != 7


def test_all_seeds_share_one_teacher_unless_each_is_to_have_its_own(planned: Planner) -> None:
    def teachers(*words: str) -> list[Run]:
        return [parent(planned("target=soft", f"seed={seed}", *words), "teacher") for seed in range(2)]

    for words, seed in (((), 0), (("teacher.seed=9",), 9)):
        shared = teachers(*words)
        assert {teacher.config.seed for teacher in shared} == {seed}
        assert len({teacher.identity for teacher in shared}) == 1
    assert [teacher.config.seed for teacher in teachers("teacher.seed=${seed}")] == [0, 1]


@pytest.mark.parametrize("task", ["align", "verify"])
def test_undistilled_stands_on_the_student_that_distill_s_own_student_starts_from(planned: Planner, task: str) -> None:
    run = planned(f"task={task}", "rate=8", "init=undistilled", "target=none")
    assert run.parents.keys() == {"init"}
    distilled = parent(planned(f"task={task}", "rate=8", "init=distill", "target=none"), "init")
    assert parent(run, "init").identity == parent(distilled, "init").identity == planned("rate=8").identity
    assert planned(f"task={task}", "rate=8", "init=undistilled", "target=soft").parents.keys() >= {"init", "recognizer"}


def test_a_file_takes_the_place_of_the_teacher_everywhere(planned: Planner, tmp_path: Path) -> None:
    file = tmp_path / "teacher.safetensors"
    file.write_bytes(b"weights")
    word = f"teacher.weights={file}"
    run = planned("init=fitnet", "target=soft", word)
    for found in (run.parents["teacher"], parent(run, "init").parents["teacher"]):
        assert isinstance(found, WeightsFile)
        assert found.weights == file
        assert found.config == planned("task=teacher", word).config
    before = run.identity
    assert before != planned("init=fitnet", "target=soft").identity
    file.write_bytes(b"other weights")
    assert planned("init=fitnet", "target=soft", word).identity != before
    assert planned("target=none", word).identity == planned("target=none").identity


def test_a_backbone_is_what_the_teacher_starts_from(planned: Planner, tmp_path: Path) -> None:
    file = tmp_path / "backbone.pt"
    file.write_bytes(b"weights")
    run = planned("target=soft", f"teacher.backbone={file}")
    assert run.parents.keys() == {"teacher"}
    assert parent(run, "teacher").parents == {"init": WeightsFile(file, run.config.teacher.model)}


@pytest.mark.parametrize("key", ["teacher.weights", "teacher.backbone"])
def test_a_file_that_is_missing_is_noticed_before_anything_is_trained(
    planned: Planner, tmp_path: Path, key: str
) -> None:
    with pytest.raises(WeightsError, match=r"gone\.pt"):
        check_tree(planned("target=soft", f"{key}={tmp_path}/gone.pt"))


@pytest.mark.parametrize(
    "words", ["+model.colour=1", "+target.terms.soft.colour=1", "+target.terms.soft._target_=os.system"]
)
def test_what_can_not_be_built_is_noticed_before_anything_is_trained(planned: Planner, words: str) -> None:
    with pytest.raises(ConfigError, match=r"colour|os\.system"):
        check_tree(planned("target=soft", *words.split()))


def test_what_a_target_does_not_take_is_said_by_its_key(planned: Planner) -> None:
    with pytest.raises(ConfigError, match=r"^target\.terms\.dkd: beta=-1 must be a number that is not negative$"):
        check_tree(planned("target=dkd", "target.terms.dkd.beta=-1"))


def test_a_term_says_whether_its_target_takes_labels(planned: Planner) -> None:
    dkd = "+target.terms.more={type:dkd,compares:logits,from:auto,weight:1.0,tau:3.0,beta:8.0}"
    with pytest.raises(ConfigError, match=r"target\.terms\.more takes labels: \+target\.terms\.more\.needs=labels$"):
        check_tree(planned("target=soft", dkd))
    check_tree(planned("target=soft", dkd, "+target.terms.more.needs=labels"))
    with pytest.raises(ConfigError, match=r"soft takes no labels: leave out target\.terms\.soft\.needs$"):
        check_tree(planned("target=soft", "+target.terms.soft.needs=labels"))


def test_an_unbuildable_teacher_is_noticed_in_a_students_plan(planned: Planner) -> None:
    with pytest.raises(ConfigError, match="colour"):
        check_tree(planned("target=soft", "+teacher.model.colour=1"))


def test_what_is_shipped_can_be_built(planned: Planner) -> None:
    for words in ("init=full target=soft", "init=fitnet target=hidden", "target=logits"):
        check_tree(planned(*words.split()))


def test_data_that_is_missing_is_noticed_when_planned(tmp_path: Path) -> None:
    with pytest.raises(FacedistillError, match="nowhere"):
        plan(["data=identity_folders", f"data.root={tmp_path}/nowhere"])


def test_cells_of_a_sweep_ask_a_data_source_once_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    of_faces = SyntheticFaces.identity
    monkeypatch.setattr(SyntheticFaces, "identity", lambda source: asked.append(source.seed) or of_faces(source))
    known: Identities = {}
    for rate in (2, 4, 8):
        plan([f"rate={rate}", "init=full", "target=soft"], data=known)
    plan(["data=synthetic_large"], data=known)
    assert asked == [0, 1]
    plan(["rate=8"])
    assert asked == [0, 1, 0]


def test_a_plan_writes_nothing(planned: Planner, tmp_path: Path) -> None:
    run = planned("init=fitnet", "target=soft")
    tree(run)
    assert list(tmp_path.iterdir()) == []


def printed(run: Run) -> list[str]:
    console = Console(width=200, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(tree(run, "cell 1/1 "))
    return console.export_text().splitlines()


def test_the_tree_shows_what_is_there(planned: Planner) -> None:
    run = planned("rate=8", "init=full", "target=soft")
    teacher, alone = parent(run, "teacher"), parent(run, "init")
    complete(teacher)
    lines = printed(run)
    assert len(lines) == 3
    for line, found, state in zip(
        lines, (run, teacher, alone), ("to be trained", "complete", "to be trained"), strict=True
    ):
        assert found.name in line
        assert line.rstrip().endswith(state)
    assert lines[0].startswith("cell 1/1 ")
    assert "teacher: " in lines[1]
    assert "init: " in lines[2]


def test_a_path_with_brackets_is_shown_as_it_is(planned: Planner, tmp_path: Path) -> None:
    folder = tmp_path / "[bold] weights"
    folder.mkdir()
    (folder / "t.pt").write_bytes(b"x")
    run = planned("target=soft", f"teacher.weights='{folder}/t.pt'")
    assert any(str(folder / "t.pt") in line for line in printed(run))


def test_several_machines_are_not_started_from_one(planned: Planner, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "facedistill.train", "trainer=ddp", "trainer.num_nodes=2", f"runs_dir={tmp_path}"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "facedistill worker trainer=ddp trainer.num_nodes=2" in done.stderr


# alignment and verification


def test_a_teacher_of_alignment_stands_on_that_of_classification(planned: Planner) -> None:
    run = planned("task=align", "rate=1", "init=teacher")
    assert run.role == "teacher"
    assert run.parents.keys() == {"init"}
    assert parent(run, "init").identity == planned("task=teacher").identity
    assert run.config.network == run.config.teacher.model


@pytest.mark.parametrize("task", ["align", "verify"])
def test_distill_stands_on_the_distilled_classification_student_of_its_rate(planned: Planner, task: str) -> None:
    run = planned(f"task={task}", "rate=8", "init=distill", "target=none")
    assert run.parents.keys() == {"init"}
    start = parent(run, "init")
    assert choices(start.config) == ("classify", 8, "full", "soft")
    assert start.identity == planned("rate=8", "init=full", "target=soft").identity


def test_distill_keeps_the_default_rate_of_its_own_task(planned: Planner) -> None:
    run = planned("task=align", "init=distill")
    assert parent(run, "init").config.rate == run.config.rate


@pytest.mark.parametrize("softmax", ["false", "true"])
def test_pretrain_stands_on_the_same_task_without_a_target(planned: Planner, softmax: str) -> None:
    words = ("task=verify", "rate=8", f"task.softmax={softmax}", "task.options.margin=0.3")
    run = planned(*words, "init=pretrain", "target=hidden")
    start = parent(run, "init")
    assert choices(start.config) == ("verify", 8, "scratch", "none")
    assert (start.config.task.softmax, start.config.task.options["margin"]) == (softmax == "true", 0.3)
    assert start.parents == {}
    own_teacher = parent(run, "teacher")
    assert choices(own_teacher.config) == ("verify", 1, "teacher", "none")
    assert own_teacher.config.task.softmax == (softmax == "true")


@pytest.mark.parametrize(
    ("words", "roles"),
    [
        (["task=align", "target=hidden"], ["teacher"]),
        (["task=align", "target=soft"], ["recognizer"]),
        (["task=align", "target=soft", "target.beta=0.1"], ["recognizer", "teacher"]),
        (["task=align", "target=logits"], ["recognizer"]),
        (["task=verify", "target=soft"], ["recognizer"]),
        (["task=verify", "target=soft", "task.softmax=true"], ["teacher"]),
        (["task=verify", "target=soft", "task.softmax=true", "target.terms.soft.from=recognizer"], ["recognizer"]),
        (["task=verify", "target=hidden", "target.terms.soft.from=recognizer"], ["teacher"]),
    ],
    ids=" ".join,
)
def test_the_soft_prediction_is_the_recognizers_and_the_hidden_layer_the_own_teachers(
    planned: Planner, words: list[str], roles: list[str]
) -> None:
    run = planned(*words, "init=scratch")
    assert sorted(run.parents) == roles
    recognizer = planned("task=teacher").identity
    if "recognizer" in roles:
        assert parent(run, "recognizer").identity == recognizer
    if "teacher" in roles:
        assert parent(parent(run, "teacher"), "init").identity == recognizer


def test_weights_of_a_target_do_not_reach_the_classification_student(planned: Planner) -> None:
    run = planned("task=verify", "init=distill", "target=soft", "target.alpha=0.3")
    assert run.config.target.alpha == 0.3
    assert parent(run, "init").config.target.alpha == 1.0


@pytest.mark.parametrize("c", ["0.333", "3", "null"])
def test_parity_is_of_one_run_and_changes_none_of_its_ancestors(planned: Planner, c: str) -> None:
    cell = ("task=verify", "init=distill", "target=soft")
    plain, changed = planned(*cell), planned(*cell, f"target.parity={c}")
    assert plain.identity != changed.identity
    for role, ancestor in plain.parents.items():
        assert changed.parents[role].identity == ancestor.identity
    assert changed.config.target.parity == (None if c == "null" else float(c))


def test_how_teachers_answer_is_one_choice_for_a_chain(planned: Planner) -> None:
    run = planned("task=verify", "init=distill", "target=soft", "rate=8", "target.views=live", "target.bank=float32")
    student = run.parents["init"]
    assert isinstance(student, Run)
    assert (student.config.target.name, student.config.target.views) == ("soft", "live")
    assert student.identity == planned("rate=8", "init=full", "target=soft", "target.views=live").identity


def test_classification_ancestors_may_see_other_faces(planned: Planner) -> None:
    own = ("data=synthetic", "data.num_identities=7")
    other = ("data@recognition=synthetic_large", "recognition.num_identities=9")
    words = ("task=align", "rate=8", "init=distill", "target=soft", "target.beta=1", *own)
    run = planned(*words, *other)
    recognizer = planned("task=teacher", "data=synthetic_large", "data.num_identities=9").identity
    assert parent(run, "recognizer").identity == recognizer
    assert parent(parent(run, "teacher"), "init").identity == recognizer
    assert parent(run, "init").config.data["num_identities"] == 9
    assert parent(run, "teacher").config.data["num_identities"] == run.config.data["num_identities"] == 7
    assert run.identity != planned(*words).identity


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["data@recognition=lfw", "recognition.root=/nowhere"],
            r"^recognition\.root=/nowhere does not exist: .*, recognition\.root=FOLDER",
        ),
        (
            ["data@recognition=synthetic", "recognition.images_per_identity=1"],
            r"^recognition\.num_identities and",
        ),
        (
            ["data@protocol=lfw", "protocol.root=/nowhere"],
            r"^protocol\.root=/nowhere .* protocol\.root=FOLDER",
        ),
        (["data@protocol=mtfl", "protocol.root=/x"], r"^data@protocol=mtfl has no pairs .* Use data@protocol=lfw"),
        (["data@protocol=synthetic", "protocol.pairs_per_fold=3"], r"^protocol\.pairs_per_fold must be even"),
        (
            ["data@recognition=lfw", "recognition.root=/x/data.root/data.zip"],
            r"^recognition\.root=/x/data\.root/data\.zip does",
        ),
        (["data.pairs_per_fold=3"], r"^data\.pairs_per_fold must be even"),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else "",
)
def test_what_is_wrong_with_faces_is_said_in_the_words_that_were_typed(
    planned: Planner, words: list[str], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        planned("task=align", "init=distill", "target=soft", *words)


def test_faces_of_the_recognizer_change_nothing_where_it_is_not_asked(planned: Planner) -> None:
    other = "data@recognition=synthetic_large"
    assert planned("task=align", "init=pretrain", other).identity == planned("task=align", "init=pretrain").identity


def test_options_of_a_task_change_the_run(planned: Planner) -> None:
    plain = planned("task=verify").identity
    words = ("task.options.margin=0.3", "task.options.mining=all", "task.options.normalize=false", "task.softmax=true")
    assert len({plain, *(planned("task=verify", word).identity for word in words)}) == 5
    assert planned("task=verify", "task.images_per_identity=2").identity != plain


def test_an_unknown_option_of_a_task_is_refused_before_anything_is_trained(planned: Planner) -> None:
    with pytest.raises(ConfigError, match=r"colour.*margin, mining, normalize"):
        check_tree(planned("task=verify", "+task.options.colour=1"))
