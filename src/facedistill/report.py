"""Write the tables of the paper beside ours, from the records of finished runs.

python -m facedistill.report [runs_dir=runs] [out=reports] [data=synthetic,synthetic_large] [alignment=synthetic]

``data`` names what takes the place of CASIA-WebFace and of MS-Celeb-1M, ``alignment`` of CelebA.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from facedistill.files import write_aside
from facedistill.reporting.accuracy import accuracy_figure
from facedistill.reporting.pictures import save
from facedistill.reporting.tables import Record, markdown, of_one_setting, tables, values
from facedistill.runs import all_records

DEFAULTS = {"runs_dir": "runs", "out": "reports", "data": "synthetic,synthetic_large", "alignment": "synthetic"}


def write_report(runs_dir: Path, out: Path, data: Sequence[str], alignment: str) -> Path:
    """Write ``out/README.md`` and ``out/accuracy.png``; runs that are missing are named, with the command."""
    records = [record for record in all_records(runs_dir) if record["config"]["task"]["name"] != "hint"]
    chosen = [(table, *of_one_setting(table.of(records), table.data)) for table in tables(data, alignment)]
    parts = [_head(runs_dir, records)]
    for table, ours, left_out in chosen:
        parts.append(f"## Table {table.number}: {table.title}, {table.stands_for}")
        parts.append(f"Ours: `data={table.data}`{_setting(ours)}.")
        if left_out:
            parts.append(f"{left_out} runs of other images, models or schedules on this data are left out.")
        parts.append(markdown(table, ours))
        missing = [row.label for row in table.rows if not values(ours, row, table.metric)]
        if missing:
            parts.append(f"Missing: {'; '.join(missing)}. To make them: `{table.command}`")
    if any(ours for _, ours, _ in chosen):
        save(accuracy_figure([(table, ours) for table, ours, _ in chosen]), out / "accuracy.png")
        parts.insert(1, "![The score of every cell beside its teacher's](accuracy.png)")
    with write_aside(out / "README.md") as part:
        part.write_text("\n\n".join(parts) + "\n")
    return out / "README.md"


def _head(runs_dir: Path, records: Sequence[Record]) -> str:
    hours = sum(record["seconds"] for record in records) / 3600
    versions = {f"facedistill {r['versions']['facedistill']}, torch {r['versions']['torch']}" for r in records}
    text = (
        "# Tables of the paper, and ours\n\n"
        f"From {len(records)} finished runs in `{runs_dir}`, {hours:.2f} hours of training in all"
        f"{'; ' + '; '.join(sorted(versions)) if versions else ''}. "
        "Paper: arXiv 1709.02929, single runs on real faces. Ours: mean ± standard deviation over seeds, no spread "
        "where there is one seed. *pairs* is ten-fold verification accuracy on people that were never trained on."
    )
    return text if records else text + "\n\nNo finished run was found: `make reproduce` makes them."


def _setting(records: Sequence[Record]) -> str:
    if not records:
        return ""
    first = records[0]
    config, counts = first["config"], first["data"]
    rates = config["task"]["learning_rates"]
    return (
        f", {counts['identities']} identities, {counts['train']} training and {counts['test']} test images, "
        f"{config['image']['crop']} px, {config['schedule']['epochs']} epochs at each of the learning rates "
        f"{rates['random']} (from an initialization {rates['initialized']}), network {config['model']['name']}"
    )


def main(words: Sequence[str]) -> int:
    """The command."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    unknown = [word for word in words if word.split("=", 1)[0] not in DEFAULTS]
    if unknown:
        print(__doc__)
        return 0 if unknown == ["--help"] else 2
    options = {**DEFAULTS, **given}
    page = write_report(
        Path(options["runs_dir"]), Path(options["out"]), options["data"].split(","), options["alignment"]
    )
    print(f"{page} and {page.with_name('accuracy.png').name} are written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
