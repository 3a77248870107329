"""The report as Markdown, for GitHub: verdicts, tables, figures."""

import re
from collections.abc import Mapping, Sequence

from facedistill.report.claims import Assessment, Verdict
from facedistill.report.overview import REPRODUCE, remarks, summary
from facedistill.report.study import FilledTable, Study

SYMBOLS = {Verdict.HOLDS: "✓", Verdict.FAILS: "✗", Verdict.UNDECIDED: "?", Verdict.MISSING: "–"}


def readme(study: Study, assessed: Sequence[Assessment], captions: Mapping[str, str]) -> str:
    """The text of the file; ``captions``: of the figures, by name."""
    parts = ["# Results of the sweep", "`index.html` has the same, sortable, and the runs behind every number."]
    parts.append("\n".join(f"- **{name}**: {_escaped(text)}" for name, text in summary(study).items()))
    parts += [f"**{_escaped(text)}**" for text in remarks(study)]
    if not study.records:
        return "\n\n".join([*parts, f"No finished run was found: `{REPRODUCE}` trains them."]) + "\n"
    lines = ["| claim | | verdict | comparisons |", "|---|---|---|---|"]
    lines += [f"| {one.name} | {one.claim} | {SYMBOLS[one.verdict]} {one.verdict} | {one.tally} |" for one in assessed]
    parts += ["## Claims", "\n".join(lines)]
    for filled in study.tables:
        parts += [f"## {filled.table.heading}", f"Ours: {_escaped(filled.table.data)}."]
        if filled.records:
            parts.append(markdown(filled))
        if filled.missing:
            parts.append(f"Missing: {'; '.join(filled.missing)}. To train them: {_code(filled.command)}")
    parts.append("## Figures")
    parts += [f"![{caption}](figures/{name}.svg)\n\n{caption}" for name, caption in captions.items()]
    return "\n\n".join(parts) + "\n"


def markdown(filled: FilledTable) -> str:
    """One table: the paper's number, ours and the difference, for every metric that the paper prints."""
    table = filled.table
    heads = [f"{title}: {column}" for title in table.printed.values() for column in ("paper", "ours", "difference")]
    lines = [f"| {table.stands_for} | " + " | ".join(heads) + " | runs |", "|---" * (len(heads) + 2) + "|"]
    for row in table.rows:
        cells = []
        for entry in (filled.entry(row, metric) for metric in table.printed):
            paper = "—" if entry.paper is None else f"{entry.paper:.2f}"
            cells += [paper, entry.text, "—" if entry.difference is None else f"{entry.difference:+.2f}"]
        lines.append(f"| {row.label} | " + " | ".join(cells) + f" | {len(filled.records_of(row))} |")
    return "\n".join(lines)


def _code(text: str) -> str:
    """Text as code in Markdown, between more backticks than it has."""
    text = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _escaped(text: str) -> str:
    """Text without anything that Markdown would interpret."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$&])", r"\\\1", " ".join(text.split()))
