"""The tables: means, spreads, dashes, signs, and settings that must not mix."""

from dataclasses import replace
from functools import cache

import pytest

from facedistill.report.readme import markdown
from facedistill.report.study import FilledTable
from facedistill.report.tables import Row, Table, one_setting, tables
from facedistill.runs.plan import plan
from facedistill.runs.record import Record
from facedistill.runs.run import Run
from made_records import record_of


@cache
def run_of(words: str) -> Run:
    return plan(words.split())


def record(words: str, top1: float, pairs: float | None = None) -> Record:
    return record_of(run_of(words), metrics={"top1": top1, "pairs": pairs})


def filled(table: Table, records: list[Record]) -> FilledTable:
    return FilledTable(table, records, [], [0], lambda _: None)


def table_of(*rows: Row) -> Table:
    return Table(9, "a title", "A-DATASET", "synthetic", rows)


def lines(table: Table, records: list[Record]) -> list[list[str]]:
    """The cells of every line."""
    text = markdown(filled(table, records))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def values(records: list[Record], row: Row, metric: str) -> list[float]:
    """The numbers of a row, of a table whose metric is top-1."""
    return list(filled(table_of(row), records).entry(row, metric).ours)


SOFT = Row("soft", 8, "scratch", "soft", paper={"top1": 61.27})
ALONE = Row("alone", 8, "scratch", "none")
TABLE = table_of(SOFT, ALONE)
USUAL = [table for table in tables(["synthetic"]) if table.reading == "both_rates"]


def test_a_line_has_the_number_of_the_paper_ours_and_runs() -> None:
    records = [record(f"rate=8 target=soft seed={seed}", top1) for seed, top1 in [(0, 60.0), (1, 64.0)]]
    head, ruler, soft, alone = lines(table_of(SOFT, ALONE), records)
    assert head == ["A-DATASET", "paper: top-1 %", "ours: top-1 %", "weight of the target", "runs"]
    assert len(ruler) == len(head)
    assert soft == ["soft", "61.27", "62.00 ± 2.83", "—", "2"]
    assert alone == ["alone", "—", "—", "—", "0"]


def test_the_weight_of_a_target_is_the_mean_of_what_its_runs_had() -> None:
    records = [
        replace(record(f"rate=8 target=soft seed={seed}", 60.0), target_weights={"soft": weight, "another": 1.0})
        for seed, weight in ((0, 3.0), (1, 4.0))
    ]
    _, _, soft, alone = lines(TABLE, [*records, record("rate=8 target=none", 60.0)])
    assert [soft[3], alone[3]] == ["1, 3.5", "—"]


def test_one_run_has_no_spread() -> None:
    records = [record("rate=8 target=soft", 60.0), record("rate=8 target=none", 12.5)]
    _, _, soft, alone = lines(table_of(SOFT, ALONE), records)
    assert soft == ["soft", "61.27", "60.00", "—", "1"]
    assert alone == ["alone", "—", "12.50", "—", "1"]


def test_pairs_have_columns_of_their_own_where_the_paper_has_them() -> None:
    row = Row("soft", 8, "scratch", "soft", paper={"top1": 66.12, "pairs": 95.12})
    records = [record("rate=8 target=soft", 70.0, 96.0), record("rate=8 target=soft seed=1", 70.0)]
    head, _, found = lines(table_of(row), records)
    assert head[1:-2] == ["paper: top-1 %", "paper: pairs %", "ours: top-1 %", "ours: pairs %"]
    assert found == ["soft", "66.12", "95.12", "70.00 ± 0.00", "96.00", "—", "2"]


@pytest.mark.parametrize(
    "words",
    [
        "rate=4 target=soft",
        "rate=8 target=hidden",
        "rate=8 init=full target=soft",
        "rate=8 init=scratch_whole target=soft",
    ],
)
def test_a_neighbouring_cell_is_not_of_the_row(words: str) -> None:
    assert values([record(words, 50.0)], SOFT, "top1") == []


def test_the_teacher_is_not_a_student_alone_at_rate_1() -> None:
    teacher = Row("teacher", 1, "scratch", "none", task="teacher")
    both = [record("task=teacher", 80.0), record("rate=1 target=none", 70.0)]
    assert values(both, teacher, "top1") == [80.0]
    assert values(both, Row("alone", 1, "scratch", "none"), "top1") == [70.0]


def test_values_are_in_the_order_of_seeds() -> None:
    records = [record(f"rate=8 target=soft seed={seed}", float(seed)) for seed in (2, 0, 1)]
    assert values(records, SOFT, "top1") == [0.0, 1.0, 2.0]
    assert values(records, SOFT, "pairs") == []


OTHER_SETTINGS = [
    "image.crop=16",
    "schedule.epochs=1",
    "learning_rates.classification.random=[0.01]",
    "task.learning_rates.random=[0.01]",
    "schedule.momentum=0.5",
    "data.num_identities=10",
    "data.seed=7",
    "model.width=24",
    "teacher.model.width=24",
    "batch_sizes.classification=16",
    "task.batch_size=16",
    "trainer.precision=bf16-mixed",
    "trainer.threads=2",
    "target.alpha=0.3",
    "target.tau=8",
    "target.beta=0.5",
    "target.terms.soft.tau_squared=false",
]


@pytest.mark.parametrize("word", OTHER_SETTINGS)
def test_runs_of_another_setting_are_no_repetitions(word: str) -> None:
    cell = "rate=8 target=soft" if word.startswith("target.") else "rate=8"  # which needs no teacher to be composed
    ours = [record(f"{cell} seed={seed}", 60.0) for seed in range(2)]
    other = record(f"{cell} seed=2 {word}", 0.0)
    kept, left_out = one_setting([*ours[:1], other, *ours[1:]], TABLE)
    assert kept == ours
    assert left_out == [other]
    assert [line[2] for line in lines(table_of(SOFT, ALONE), kept)[2:] if line[-1] == "2"] == ["60.00 ± 0.00"]


@pytest.mark.parametrize("word", ["target.views=live", "target.views=2", "target.bank=float32"])
def test_runs_with_other_views_of_their_teachers_are_no_repetitions(word: str) -> None:
    chain = "task=verify rate=8 init=distill target=none"  # stands on a student that had a teacher
    for cell in ("rate=8 target=soft", chain):
        ours = [record(f"{cell} seed={seed}", 60.0) for seed in range(2)]
        other = record(f"{cell} seed=2 {word}", 0.0)
        assert one_setting([*ours, other], TABLE) == (ours, [other])
    alone = [record("rate=8 target=none", 60.0), record(f"rate=8 target=none seed=1 {word}", 0.0)]
    assert one_setting(alone, TABLE) == (alone, [])


def test_a_cell_with_several_views_of_the_teacher_has_those_of_most_of_the_table() -> None:
    """A sweep whose soft and logits cells were also trained live, for comparison, and more often."""
    targets = ("hidden", "logits", "soft")
    banked = [record(f"rate={rate} target={target}", 60.0) for rate in (4, 8) for target in targets]
    live = [
        record(f"rate=8 target={target} target.views=live seed={seed}", 0.0)
        for target in targets[1:]
        for seed in range(2)
    ]
    kept, left_out = one_setting([*live, *banked], TABLE)
    assert sorted(kept, key=banked.index) == banked
    assert left_out == live
    only_live = [record("rate=2 target=soft target.views=live", 50.0)]
    assert one_setting([*live, *banked, *only_live], TABLE)[0] == [*kept, *only_live]


def test_what_was_trained_for_comparison_stays_out_however_often_and_even_alone_in_its_cell() -> None:
    usual = [record("rate=8 target=soft", 60.0), record("rate=4 target=soft", 60.0)]
    word = "target.terms.soft.tau_squared=false"
    variants = [record(f"rate=8 target=soft seed={seed} {word}", 0.0) for seed in range(3)]
    alone_in_its_cell = record(f"rate=2 target=soft {word}", 0.0)
    assert one_setting([*variants, *usual, alone_in_its_cell], TABLE) == (usual, [*variants, alone_in_its_cell])
    # as many cells as the usual setting, and more runs: what needs no word is the table's
    assert one_setting([*variants, usual[0]], TABLE) == ([usual[0]], variants)


def test_two_chains_of_one_cell_do_not_both_stand_in_a_table() -> None:
    one, other = record("rate=8 init=full target=soft", 60.0), record("rate=8 init=full target=soft", 70.0)
    other = replace(other, name="other", overrides=[*other.overrides, "some.word=1"])
    assert one_setting([other, one], TABLE) == ([one], [other])


def test_a_reading_of_the_schedule_has_a_table_of_its_own() -> None:
    both, one = record("rate=8 target=soft", 60.0), record("rate=8 target=soft schedule.reading=one_rate", 50.0)
    first, second = (table for table in tables(["synthetic"]) if table.number == 1)
    assert one_setting([both, one], first) == ([both], [])
    assert one_setting([both, one], second) == ([one], [])


def test_cells_of_one_setting_stand_in_one_table() -> None:
    words = [
        "task=teacher",
        "rate=8",
        "rate=2 target=soft",
        "rate=8 init=full target=soft",
        "rate=8 target=hidden seed=1",
    ]
    records = [record(each, 50.0) for each in words]
    assert one_setting(records, TABLE) == (records, [])


def test_where_and_how_does_not_split_a_setting() -> None:
    records = [record(f"rate=8 seed={i} {word}", 1.0) for i, word in enumerate(["group=x", "trainer.num_workers=2"])]
    assert one_setting(records, TABLE) == (records, [])


def test_other_data_is_not_counted_and_no_data_is_no_error() -> None:
    large = record("data=synthetic_large rate=8", 1.0)
    small = record("rate=8", 2.0)
    assert one_setting([large, small], TABLE) == ([small], [])
    assert one_setting([large], TABLE) == ([], [])
    assert one_setting([], TABLE) == ([], [])


def test_of_two_equally_frequent_settings_the_choice_is_the_same_in_any_order() -> None:
    one, other = record("rate=8", 1.0), record("rate=8 image.crop=16", 2.0)
    assert one_setting([one, other], TABLE) == one_setting([other, one], TABLE)


PAPER = {
    ("CASIA-WebFace", 1): {
        ("classify", 8, "scratch", "hidden"): (60.08,),
        ("classify", 8, "scratch", "logits"): (59.77,),
        ("classify", 8, "scratch", "soft"): (61.27,),
        ("classify", 8, "fitnet", "soft"): (69.88,),
        ("classify", 8, "full", "soft"): (75.06,),
    },
    ("CASIA-WebFace", 2): {
        ("teacher", 1, "scratch", "none"): (88.61, 97.67),
        ("classify", 2, "scratch", "soft"): (82.25, 97.27),
        ("classify", 4, "scratch", "soft"): (79.36, 96.7),
        ("classify", 8, "scratch", "soft"): (66.12, 95.12),
        ("classify", 2, "full", "soft"): (91.01, 98.2),
        ("classify", 4, "full", "soft"): (87.21, 97.57),
        ("classify", 8, "full", "soft"): (75.06, 96.18),
    },
    ("MS-Celeb-1M", 2): {
        ("teacher", 1, "scratch", "none"): (90.53, 99.11),
        ("classify", 2, "scratch", "soft"): (84.59, 98.61),
        ("classify", 4, "scratch", "soft"): (81.94, 98.03),
        ("classify", 8, "scratch", "soft"): (57.84, 96.33),
        ("classify", 2, "full", "soft"): (88.38, 98.88),
        ("classify", 4, "full", "soft"): (85.26, 98.18),
        ("classify", 8, "full", "soft"): (70.98, 96.98),
    },
}


def test_the_numbers_of_the_paper() -> None:
    found = {
        (table.stands_for, table.number): {
            (row.task, row.rate, row.init, row.target): tuple(row.paper[k] for k in ("top1", "pairs") if k in row.paper)
            for row in table.rows
            if row.paper
        }
        for table in tables(["synthetic", "synthetic_large"])
        if table.number < 3
    }
    assert found == PAPER


def transferred(number: int, rate: int) -> dict[str, tuple[float, ...]]:
    """What is printed of a rate, in the order of the targets none, hidden, soft."""
    (table,) = (table for table in USUAL if table.number == number)
    rows = {(row.init, row.target): row.paper[table.metric] for row in table.rows if row.rate == rate and row.paper}
    order = ("none", "hidden", "soft")
    return {init: tuple(rows[init, target] for target in order) for init in ("pretrain", "distill")}


def test_the_numbers_of_the_paper_for_the_transfer() -> None:
    assert transferred(3, 8) == {"pretrain": (3.36, 3.24, 3.60), "distill": (3.29, 3.21, 3.54)}
    assert transferred(4, 2) == {"pretrain": (63.98, 60.66, 66.50), "distill": (71.29, 68.74, 71.23)}
    assert transferred(4, 4) == {"pretrain": (61.74, 61.71, 62.64), "distill": (68.17, 66.74, 68.12)}
    assert transferred(4, 8) == {"pretrain": (51.03, 49.19, 51.76), "distill": (56.69, 53.99, 56.52)}
    assert transferred(5, 2) == {"pretrain": (72.38, 70.54, 73.62), "distill": (79.51, 77.63, 79.96)}
    assert transferred(5, 4) == {"pretrain": (66.64, 65.08, 68.24), "distill": (72.01, 70.31, 72.82)}
    assert transferred(5, 8) == {"pretrain": (51.86, 51.43, 53.45), "distill": (57.66, 56.87, 57.78)}
    teachers = {table.number: [r.paper for r in table.rows if r.rate == 1] for table in USUAL[2:]}
    assert teachers == {3: [{"nrmse": 3.02}], 4: [{"top1": 73.81}], 5: [{"top1": 74.16}]}


def test_a_row_of_table_4_is_not_one_of_table_5() -> None:
    words = "task=verify rate=8 init=distill target=none"
    triplet, joint = record(words, 50.0), record(f"{words} task.softmax=true", 60.0)
    four, five = USUAL[3:]
    for table, own, other in ((four, triplet, joint), (five, joint, triplet)):
        assert [one.cell in {row.cell for row in table.rows} for one in (own, other)] == [True, False]
        assert ["/8 Distill, none", "50.00" if table is four else "60.00"] in [
            [line[0], line[2]] for line in lines(table, [own, other])
        ]


def test_the_metric_of_a_table_is_its_column() -> None:
    run = run_of("task=align rate=8 init=pretrain target=none")
    found = record_of(run, metrics={"nrmse": 3.5, "failure_10": 1.0})
    head, _, *rows = lines(USUAL[2], [found])
    assert head == ["CelebA", "paper: NRMSE %", "ours: NRMSE %", "weight of the target", "runs"]
    assert ["/8 Pretrain, none", "3.36", "3.50", "—", "1"] in rows


def test_controls_are_rows_without_a_number_of_the_paper() -> None:
    for table in tables(["synthetic", "synthetic_large"])[:3]:
        cells = {(row.rate, row.init, row.target) for row in table.students if not row.paper}
        rates = (8,) if table.number == 1 else (2, 4, 8)
        whole = rates if table.stands_for == "CASIA-WebFace" else ()
        expected = {(rate, "scratch", "none") for rate in rates}
        expected |= {(rate, "scratch_whole", target) for rate in whole for target in ("none", "soft")}
        assert cells == expected
    for table in USUAL[2:]:
        cells = {(row.rate, row.init, row.target) for row in table.students if not row.paper}
        rates = (8,) if table.number == 3 else (2, 4, 8)
        undistilled = {(rate, "undistilled", target) for rate in rates for target in ("none", "hidden", "soft")}
        assert cells == undistilled | {(rate, "scratch", "none") for rate in rates}
        labels = [row.label for row in table.rows]
        assert len(set(labels)) == len(labels)


def test_peoples_own_data_takes_the_place_of_the_first_set() -> None:
    found = tables(["mine"], alignment="mine")
    assert [(table.number, table.data, table.stands_for) for table in found] == [
        (1, "mine", "CASIA-WebFace"),
        (2, "mine", "CASIA-WebFace"),
        (3, "mine", "CelebA"),
        (4, "mine", "CASIA-WebFace"),
        (5, "mine", "CASIA-WebFace"),
    ] * 2
    assert [table.reading for table in found] == ["both_rates"] * 5 + ["one_rate"] * 5
    assert [table.command.endswith(" schedule.reading=one_rate") for table in found] == [False] * 5 + [True] * 5
    assert len({table.file_name for table in found}) == len(found)
    assert all("data=mine" in table.command for table in found)
    assert all("data=" not in table.command for table in tables(["synthetic"]))
