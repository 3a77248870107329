"""Forest plots: where the paper's effects and ours lie, what is grey, and that all of it can be read."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from made_study import TABLES, Key, made_study, with_score
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from facedistill.report.claims import Assessment, assess
from facedistill.report.forest import forest, lines_of
from facedistill.report.plotting import BLUE, INK, MUTED, STYLE, VERMILION
from facedistill.report.rule import Answer

SEEDS = range(4)


def assessed(changes: Mapping[Key, float | Mapping[int, float]], without: tuple[str, ...] = ()) -> list[Assessment]:
    """Students at 50 ± 1, teachers far better; ``changes`` by file of the table and label."""
    scores: dict[Key, dict[int, float]] = {}
    for place, table in enumerate(TABLES):
        for number, row in enumerate(table.rows):
            key = (table.file_name, row.label)
            score = changes.get(key, (10.0 if table.lower_is_better else 90.0) if row.is_teacher else 50.0)
            noise = np.random.default_rng([place, number]).normal(0, 1, len(SEEDS))
            drawn = {seed: score + float(noise[seed]) for seed in SEEDS} if isinstance(score, float) else score
            if row.label not in without:
                scores[key] = dict(drawn)
    return assess(made_study(scores, TABLES))


def claim(found: list[Assessment], title: str) -> Assessment:
    return next(one for one in found if one.title == title)


def plot(one: Assessment) -> Figure:
    with mpl.rc_context(STYLE):
        figure = forest(one)
    assert figure is not None
    return figure


def marks(figure: Figure, place: int) -> list[tuple[list[float], str, bool]]:
    """What is drawn at a line: abscissas, colour, and whether it is hollow."""
    (axes,) = figure.axes
    return [
        ([float(x) for x in line.get_xdata()], line.get_color(), line.get_markerfacecolor() == "none")  # type: ignore[union-attr]
        for line in axes.lines
        if set(line.get_ydata()) == {place}  # type: ignore[arg-type]
    ]


def written(figure: Figure, place: int) -> list[str]:
    """The numbers of a line: the paper's, ours, the smallest effect that would have been seen."""
    return [text.get_text() for text in figure.axes[0].texts if text.get_position()[1] == place]


def texts(figure: Figure) -> list[Text]:
    (axes,) = figure.axes
    return [*axes.texts, *axes.get_yticklabels()]


FULL = {(f"table2-{name}", f"/{rate} full"): 60.0 for name in ("casia-webface", "ms-celeb-1m") for rate in (2, 4, 8)}
FULL |= {("table1-casia-webface", "full, soft"): 60.0}


def test_the_paper_is_hollow_and_ours_has_an_interval() -> None:
    one = claim(assessed(FULL), "C2")
    lines = [line.label for line in lines_of(one)]
    assert lines[:4] == [
        "the claim",
        "full beats Scratch",
        "/2 full > /2 Scratch, CASIA-WebFace",
        "/4 full > /4 Scratch, CASIA-WebFace",
    ]
    assert lines[-1] == "full beats FitNet", "its only comparison is the same number"
    found = marks(plot(one), 2)
    hollow = [x for x, _, is_hollow in found if is_hollow]
    assert hollow == [[pytest.approx(91.01 - 82.25)]]
    effect = one.parts[0].findings[0].effect
    assert effect is not None
    differences = list(effect.by_seed.values())
    half = 3.182446 * np.std(differences, ddof=1) / 2  # Student's t of three degrees of freedom; four seeds
    middle = np.mean(differences)
    ours = [(x, color) for x, color, is_hollow in found if not is_hollow]
    assert ([pytest.approx(middle - half), pytest.approx(middle + half)], BLUE) in ours
    assert ([pytest.approx(middle)], BLUE) in ours
    assert (pytest.approx(differences), BLUE) in [(x, color) for x, color in ours if len(x) == len(SEEDS)]


def test_a_line_has_the_colour_of_its_answer() -> None:
    hidden = {("table1-casia-webface", "Scratch, hidden"): 95.0}
    one = claim(assessed(hidden), "C1")
    assert [line.found.answer for line in lines_of(one)] == [
        Answer.CONTRADICTED,
        Answer.CONTRADICTED,
        Answer.UNDECIDED,
    ]
    colors = [{color for _, color, is_hollow in marks(plot(one), place) if not is_hollow} for place in range(3)]
    assert colors == [{VERMILION}, {VERMILION}, {INK}]


def test_what_is_void_or_not_run_is_grey_and_says_so() -> None:
    found = assessed({("table3-celeba", "teacher"): 52.0}, without=("/8 Distill, soft",))
    one = claim(found, "C4")
    figure = plot(one)
    by_label = {line.label: place for place, line in enumerate(lines_of(one))}
    void, not_run = by_label["/8 Pretrain, hidden > /8 Pretrain, none"], by_label["/8 Distill, none > /8 Distill, soft"]
    assert {color for _, color, _ in marks(figure, void)} == {MUTED}
    assert {color for _, color, _ in marks(figure, not_run)} == {MUTED}
    assert [is_hollow for *_, is_hollow in marks(figure, not_run)] == [True], "the paper's alone"
    assert written(figure, void)[1].startswith("○ void: ")
    assert written(figure, not_run) == ["+0.25", "– not run", ""]


def test_claims_of_several_metrics_are_drawn_in_percent_of_the_score_compared_with() -> None:
    better = dict.fromkeys(SEEDS, 40.0)
    found = assessed({("table3-celeba", "/8 Distill, none"): better, ("table3-celeba", "/8 Pretrain, none"): 50.0})
    one = claim(found, "C5")
    place = [line.label for line in lines_of(one)].index("/8 Distill, none > /8 Pretrain, none")
    effect = one.parts[0].findings[0].effect
    assert effect is not None
    pretrain = np.mean([40.0 + difference for difference in effect.by_seed.values()])
    figure = plot(one)
    ours, paper = marks(figure, place)[-2:]
    assert ours[0] == [pytest.approx(100 * (pretrain - 40.0) / pretrain)]
    assert paper[0] == [pytest.approx(100 * (3.36 - 3.29) / 3.36)]
    assert figure.axes[0].get_xlabel().startswith("% of the score compared with")
    assert plot(claim(found, "C4")).axes[0].get_xlabel().startswith("points of NRMSE")


def test_what_so_many_seeds_could_have_seen_stands_where_nothing_is_decided() -> None:
    one = claim(assessed(FULL), "C1")
    assert one.answer is Answer.UNDECIDED
    written = [text.get_text() for text in plot(one).axes[0].texts if text.get_position()[1] == 0]
    assert f"{one.detectable:.2f}" in written
    decided = [
        text.get_text() for text in plot(claim(assessed(FULL), "C2")).axes[0].texts if text.get_position()[1] == 0
    ]
    assert decided[-1] == ""


def test_nothing_is_drawn_of_what_was_not_run() -> None:
    assert [forest(one) for one in assess(made_study({}))] == [None] * 12
    one_seed = assess(made_study(with_score(50.0, [0])))
    assert all(forest(one) for one in one_seed)


def test_no_text_is_cut_or_lies_on_another() -> None:
    worst = {("table4-casia-webface", "teacher"): 49.0}  # void
    worst |= {(table.file_name, "/2 full"): -99.0 for table in TABLES if table.number == 2}  # the widest numbers
    found = assessed(worst)
    for one in (claim(found, title) for title in ("C2", "C3", "C4", "C5", "C6", "C7", "K3 (one_rate)", "K4")):
        figure = plot(one)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        legend = figure.legends[0].get_window_extent(renderer)
        boxes = [text.get_window_extent(renderer) for text in texts(figure) if text.get_text()]
        (axes,) = figure.axes
        boxes += [legend, axes.xaxis.label.get_window_extent(renderer)]
        for box in boxes:
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, one.title
            assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, one.title
        inside = [box.shrunk(0.98, 0.8) for box in boxes]
        assert not [pair for pair in combinations(inside, 2) if pair[0].overlaps(pair[1])], one.title
