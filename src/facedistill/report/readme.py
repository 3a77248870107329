"""The report for GitHub, in Markdown."""

import re
from collections.abc import Mapping, Sequence

from facedistill.report.claims import Assessment
from facedistill.report.cost import hours_of, runs_behind
from facedistill.report.deviations import deviations
from facedistill.report.facts import REPRODUCE, remarks, summary
from facedistill.report.study import FilledTable, Study
from facedistill.report.wording import (
    SYMBOLS,
    answer_in_words,
    correction,
    detectable,
    effect_in_words,
    p_in_words,
    power,
    reasons,
    signed,
    survival_in_words,
)
from facedistill.system.text import shown


def readme(
    study: Study, assessed: Sequence[Assessment], captions: Mapping[str, str], failed: Sequence[str] = ()
) -> str:
    """The text of the file; ``captions``: of the figures, by name; ``failed``: as for the page."""
    parts = ["# Results of the sweep", "`index.html` has the same, sortable, and the runs behind every number."]
    parts.append("\n".join(f"- **{name}**: {_escaped(text)}" for name, text in summary(study).items()))
    parts += [f"**{_escaped(text)}**" for text in remarks(study, failed)]
    if not study.records:
        return "\n\n".join([*parts, f"No finished run was found: `{REPRODUCE}` trains them."]) + "\n"
    heads = ("claim", "", "answer", "ours, 95 % interval", "the paper", "detectable", "p", "survives")
    lines = [
        (
            *(one.title, one.claim, f"{SYMBOLS[one.answer]} {answer_in_words(one)}"),
            f"{effect_in_words(one.effect)} {one.unit}" if one.effect else "—",
            *(signed(one.paper), "—" if (least := detectable(one)) is None else f"{least:.2f}"),
            *(p_in_words(one.p), survival_in_words(one)),
        )
        for one in assessed
    ]
    parts += ["## Claims", _table(heads, lines), correction(assessed), *power(assessed)]
    parts += [f"{one.title}. {_escaped(reason)}" for one in assessed for reason in reasons(one)]
    for filled in study.tables:
        parts += [f"## {filled.table.heading}", f"Ours: {_escaped(filled.table.data)}."]
        if filled.records:
            parts.append(markdown(filled))
        if filled.missing:
            parts.append(f"Missing: {'; '.join(filled.missing)}. To train them: {_code(filled.command)}")
    for filled in study.neighbours:
        parts += [f"## {filled.table.heading}", f"Ours: {_escaped(filled.table.data)}.", markdown(filled)]
        if filled.missing:
            parts.append(f"Missing: {'; '.join(filled.missing)}. To train them: {_code(filled.command)}")
    parts += [*_sensitivity(study), *_on_device(study)]
    parts += ["## Deviations from the paper", _deviations(study), "## Cost", _cost(study), "## Figures"]
    for name, caption in captions.items():
        parts += [f"![{_escaped(caption)}](figures/{name}.svg)", _escaped(caption)]
    return "\n\n".join(parts) + "\n"


def markdown(filled: FilledTable) -> str:
    """One table: the paper's numbers, on its data, then ours, for every metric that the paper prints."""
    table = filled.table
    heads = [f"{whose}: {title}" for whose in ("paper", "ours") for title in table.printed.values()]
    lines = []
    for row in table.rows:
        entries = [filled.entry(row, metric) for metric in table.printed]
        papers = ["—" if entry.paper is None else f"{entry.paper:.2f}" for entry in entries]
        last = filled.weights(row) or "—", str(len(filled.records_of(row)))
        lines.append((row.label, *papers, *(entry.text for entry in entries), *last))
    return _table((table.stands_for, *heads, "weight of the target", "runs"), lines)


def _sensitivity(study: Study) -> list[str]:
    parts = []
    for filled in study.tables:
        lines = [
            (
                *(one.row.label, " ".join(map(_code, one.words)), one.entry.text),
                *(effect_in_words(one.effect), str(len(one.records))),
            )
            for one in filled.variants
        ]
        if lines:
            heads = ("cell", "in another setting", "score", "difference from the table's runs, + is better", "runs")
            parts += [f"### {filled.table.heading}", _table(heads, lines)]
    return ["## Sensitivity", *parts] if parts else []


def _on_device(study: Study) -> list[str]:
    parts = []
    for scale, files in study.device.by_scale.items():
        lines = []
        for file in files:
            model = file.model
            numbers = ((file.megabytes, 2), (model.score, 2), (model.median_ms, 2), (model.p95_ms, 2))
            values = ["—" if value is None else f"{value:.{digits}f}" for value, digits in numbers]
            texts = [_escaped(text) for text in (file.label, model.format, file.machine)]
            lines.append((*texts[:2], *values[:2], signed(file.loss), *values[2:], texts[2]))
        heads = ("run", "format", "MB", scale.title, "lost", "ms", "95 % below", "timed on")
        parts += [f"### {_escaped(scale.heading)}", _table(heads, lines)]
    return ["## On the device", *parts] if parts else []


def _deviations(study: Study) -> str:
    lines = [
        (one.what, one.paper, _escaped(one.ours), _code(one.undo) if one.undo else "—") for one in deviations(study)
    ]
    return _table(("", "the paper", "these runs", "undone by"), lines)


def _cost(study: Study) -> str:
    lines = [(one.table.heading, runs_behind(study, one)) for one in (*study.tables, *study.neighbours) if one.records]
    lines.append(("all runs of the folder", study.records))
    heads = ("with what they stand on, each run once", "runs", "hours of training")
    return _table(heads, [(title, str(len(runs)), f"{hours_of(runs):.3f}") for title, runs in lines])


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * len(heads), *lines])


def _code(text: str) -> str:
    """Text as code in Markdown, between more backticks than it has."""
    text = shown(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _escaped(text: str) -> str:
    """Text without anything that Markdown would interpret, links that it would find by itself (``:``) included."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$&:])", r"\\\1", shown(text))
