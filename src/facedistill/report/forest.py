"""Forest plots: for every claim the paper's effects beside ours with their intervals."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from facedistill.report.claims import Assessment, Finding, Part
from facedistill.report.plotting import BLUE, INK, MUTED, VERMILION
from facedistill.report.rule import MARGIN, Answer
from facedistill.report.tables import METRICS
from facedistill.report.wording import SYMBOLS, detectable, note, signed

COLORS = {
    Answer.REPRODUCED: BLUE,
    Answer.CONTRADICTED: VERMILION,
    Answer.UNDECIDED: INK,
    Answer.VOID: MUTED,
    Answer.NOT_RUN: MUTED,
}
WIDTH, LINE, HEAD, FOOT = 10.0, 0.19, 0.55, 0.5  # inches
TEXT = 7.0  # points
CHARACTER = 0.062  # inches of TEXT that a character takes at most, on average
NOTES = 3.35  # inches for the numbers on the right


class Line(NamedTuple):
    """A line of the plot.

    Attributes:
        depth: 0 of the claim, 1 of a part, 2 of a comparison.
        paper: the paper's effect, in the unit of the claim as everything else.
    """

    label: str
    depth: int
    found: Assessment | Part | Finding
    paper: float | None
    same: bool = False


def forest(one: Assessment) -> Figure | None:
    """The plot of a claim; None: nothing of it was run."""
    if not any(finding.effect for finding in one.findings):
        return None
    lines = list(lines_of(one))
    height = HEAD + LINE * len(lines) + FOOT
    left = 0.15 + CHARACTER * max(len(line.label) for line in lines)
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((left / WIDTH, FOOT / height, 1 - (left + NOTES) / WIDTH, 1 - (HEAD + FOOT) / height))
    axes.axvline(0, color=INK, linewidth=0.8)
    for place, line in enumerate(lines):
        _draw(axes, place, line)
    axes.set_yticks(range(len(lines)), [line.label for line in lines], fontsize=TEXT)
    for text, line in zip(axes.get_yticklabels(), lines, strict=True):
        text.set_fontweight("bold" if line.depth < 2 else "normal")
        text.set_alpha(0.65 if _is_grey(line) else 1)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=TEXT)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.06)
    axes.set_xlabel(_unit(one), fontsize=TEXT)
    _write(axes, -0.9, ("the paper", "ours, 95 % interval", "detectable"), weight="bold")
    figure.legend(
        handles=_legend(lines), loc="upper left", ncols=7, fontsize=TEXT, handletextpad=0.3, columnspacing=1.2
    )
    return figure


def lines_of(one: Assessment) -> Iterator[Line]:
    """The claim, its parts, and their comparisons; what is the same number is one line."""
    if len(one.findings) > 1:
        yield Line("the claim", 0, one, one.paper, len(one.parts) == 1 and one.parts[0].same)
    for part in one.parts:
        if len(one.parts) > 1:
            yield Line(part.text, 1, part, part.paper, part.same)
        if len(one.parts) == 1 or len(part.findings) > 1:
            sets = {finding.comparison.table.stands_for for finding in part.findings}
            for finding in part.findings:
                label = finding.comparison.label.replace(" (control)", "")
                label += f", {finding.comparison.table.stands_for}" if len(sets) > 1 else ""
                yield Line(label, 2, finding, finding.paper_in_unit, part.same)


def _draw(axes: Axes, place: int, line: Line) -> None:
    color, found = COLORS[line.found.answer], line.found
    effect = found.in_unit if isinstance(found, Finding) else found.effect
    if line.same:
        axes.barh(place, 2 * MARGIN, 0.8, -MARGIN, color=MUTED, alpha=0.2)
    if effect is not None:
        seeds = list(effect.by_seed.values())
        if effect.low is not None and effect.high is not None:
            style = "-" if len(seeds) > 1 else ":"
            axes.plot([effect.low, effect.high], [place, place], style, color=color, linewidth=1 + (line.depth < 2))
        if len(seeds) > 1:
            axes.plot(seeds, [place] * len(seeds), "|", color=color, ms=5, alpha=0.6)
        marker = "x" if found.answer is Answer.VOID else "D" if line.depth < 2 else "o"
        axes.plot(effect.mean, place, marker, color=color, ms=6 if line.depth < 2 else 4.5)
    if line.paper is not None:
        marker = "D" if line.depth < 2 else "o"
        shade = MUTED if _is_grey(line) else INK
        axes.plot(line.paper, place, marker, color=shade, markerfacecolor="none", ms=7.5 if line.depth < 2 else 6)
    least = detectable(found)
    _write(
        axes,
        place,
        (signed(line.paper), f"{SYMBOLS[found.answer]} {note(found)}", "" if least is None else f"{least:.2f}"),
        alpha=0.65 if _is_grey(line) else 1,
        weight="bold" if line.depth < 2 else "normal",
    )


def _write(axes: Axes, place: float, texts: Sequence[str], alpha: float = 1, weight: str = "normal") -> None:
    """The numbers of a line in columns on the right."""
    inch = 1 / (WIDTH * axes.get_position().width)
    for text, inches, side in zip(texts, (0.6, 0.72, 3.25), ("right", "left", "right"), strict=True):
        where, at = axes.get_yaxis_transform(), 1 + inches * inch
        axes.text(at, place, text, transform=where, ha=side, va="center", size=TEXT, alpha=alpha, weight=weight)


def _is_grey(line: Line) -> bool:
    return line.found.answer in (Answer.VOID, Answer.NOT_RUN)


def _unit(one: Assessment) -> str:
    if one.unit == "%":
        return "% of the score compared with; to the right: in favour of the claim"
    metric = METRICS[one.findings[0].comparison.table.metric].partition(" ")[0]
    return f"points of {metric}; to the right: in favour of the claim"


def _legend(lines: list[Line]) -> list[Line2D]:
    handles = [_handle("o", INK, "the paper, one run a cell", filled=False)]
    if any(line.depth < 2 for line in lines):
        handles.append(_handle("D", INK, "averages of lines below", filled=False))
    handles.append(_handle("|", INK, "a seed"))
    for answer in Answer:
        if answer is not Answer.NOT_RUN and any(line.found.answer is answer for line in lines):
            handles.append(_handle("x" if answer is Answer.VOID else "o", COLORS[answer], f"ours: {answer}"))
    return handles


def _handle(marker: str, color: str, label: str, filled: bool = True) -> Line2D:
    inside = color if filled else "none"
    return Line2D([], [], color=color, marker=marker, markerfacecolor=inside, ls="", ms=5, label=label)
