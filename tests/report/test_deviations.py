"""What the page says of the deviations from the paper follows from the runs, and its words undo them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from facedistill.report.deviations import Deviation, deviations
from facedistill.report.study import FilledTable, Study
from facedistill.report.tables import tables
from facedistill.runs.plan import plan
from facedistill.runs.record import Record
from made_records import record_of

CELLS = {
    1: "rate=8 init=fitnet target=soft",
    3: "task=align rate=8 init=pretrain target=hidden",
    4: "task=verify rate=8 init=pretrain target=hidden",
}


OPEN = ("FOLDER", "RUN_DIR", "…", " or ")  # in words that leave something to be chosen


def found_in(cells: Mapping[int, Sequence[str]], seeds: Sequence[int] = (0,)) -> list[Deviation]:
    """Of runs of a cell of some tables, by number."""
    filled = []
    for table in tables(["synthetic"]):
        if table.number in cells and table.reading == "both_rates":
            runs = [plan([*cells[table.number], f"seed={seed}"]) for seed in seeds]
            records: list[Record] = [record_of(run, metrics={table.metric: 50.0, "pairs": 90.0}) for run in runs]
            filled.append(FilledTable(table, records, [], list(seeds), lambda _: None))
    return deviations(Study(Path("runs"), [], filled, {}, []))


def test_every_deviation_of_the_embedded_study_is_said() -> None:
    found = {one.what: one for one in found_in({number: words.split() for number, words in CELLS.items()})}
    assert {
        "Faces",
        "Images",
        "Networks",
        "Epochs at each learning rate",
        "Batch size of classification",
    } <= found.keys()
    assert {"Weights of the targets", "Learning rates of FitNet's second stage", "The teacher answers"} <= found.keys()
    assert {"Triplets of a batch", "Embeddings K in verification", "Pairs of strangers"} <= found.keys()
    assert {"Batches of verification", "Pretrain starts"} <= found.keys()
    assert found["Networks"].ours == "students resnet_small, teacher resnet_small"
    assert not {"Split", "Recognizer", "Seeds", "Teacher", "τ", "λ"} & found.keys()


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (4, "task=verify rate=8 init=distill target=soft", True),
        (3, "task=align rate=8 init=distill target=soft", True),
        (4, "task=verify rate=8 init=distill target=hidden", False),
        (5, "task=verify task.softmax=true rate=8 init=distill target=soft", False),
    ],
)
def test_whose_soft_prediction_it_is_matters_where_there_is_no_softmax_loss(
    number: int, words: str, said: bool
) -> None:
    found = {one.what for one in found_in({number: words.split()})}
    assert ("Soft prediction without a softmax loss" in found) is said


@pytest.mark.parametrize("number", CELLS)
def test_the_words_of_a_deviation_undo_it(number: int) -> None:
    words = CELLS[number].split()
    found = [one for one in found_in({number: words}) if one.undo]
    undone = {one.what: one.undo.split() for one in found if not any(open_ in one.undo for open_ in OPEN)}
    assert len(undone) >= 6
    assert {"model=resnet50", "model@teacher.model=resnet50"} <= {word for part in undone.values() for word in part}
    again = {one.what for one in found_in({number: [*words, *(word for part in undone.values() for word in part)]})}
    assert not again & undone.keys()


def test_at_the_papers_scale_its_own_choices_are_no_deviations() -> None:
    found = {one.what for one in found_in({1: ["rate=8", "init=scratch", "target=soft", "scale=paper"]})}
    assert not found & {"Images", "Networks", "Epochs at each learning rate", "The teacher answers"}
    assert not {what for what in found if what.startswith(("Learning rates", "Batch size"))}
    assert "Weights of the targets" in found


def test_another_optimizer_and_augmentation_are_said() -> None:
    cell = ["rate=8", "init=scratch", "target=none"]
    assert not {"Optimizer", "Augmentation"} & {one.what for one in found_in({1: cell})}
    words = [*cell, "schedule.optimizer=adamw", "schedule.shape=cosine", "schedule.warmup=0.05", "augment=recognizer"]
    found = {one.what: one for one in found_in({1: [*words, "learning_rates.classification.random=[0.001]"]})}
    assert found["Optimizer"].ours == "AdamW, along a cosine after 5% of warm-up"
    assert found["Augmentation"].ours == "augment=recognizer"


def test_the_two_readings_are_named_where_both_were_run() -> None:
    words = ["rate=8", "init=scratch", "target=none"]
    (table,) = (one for one in tables(["synthetic"]) if one.number == 1 and one.reading == "both_rates")
    records = [record_of(plan([*words, f"schedule.reading={name}"])) for name in ("both_rates", "one_rate")]
    filled = FilledTable(table, records, [], [0], lambda _: None)
    found = {one.what: one for one in deviations(Study(Path("runs"), [], [filled], {}, []))}
    (reading,) = (one for what, one in found.items() if what.startswith("Reading"))
    assert reading.ours.count(";") == 1
    assert "Weights of the targets" not in found, "there is no target"


def test_several_seeds_are_one_and_one_teacher_for_all_of_them_another() -> None:
    cell = {1: ["rate=8", "init=scratch", "target=none"]}
    found = {one.what: one for one in found_in(cell, seeds=(0, 1, 2))}
    assert found["Seeds"].ours.startswith("3, ")
    assert "Teacher" in found
    own = {1: [*cell[1], "teacher.seed=${seed}"]}
    assert "Teacher" not in {one.what for one in found_in(own, seeds=(0, 1))}
