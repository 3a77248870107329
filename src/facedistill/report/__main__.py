"""The report of a sweep: verdicts on the claims of the paper, its tables beside ours, figures, and every run.

facedistill report [runs_dir=runs] [out=reports] [data=synthetic,synthetic_large] [alignment=synthetic]
                   [wandb=ENTITY/PROJECT]

It writes out/index.html (one file, to be opened from disk), README.md, tables/*.csv and figures/*.svg and *.png.
``data`` names what stands for CASIA-WebFace and for MS-Celeb-1M, ``alignment`` for CelebA. ``wandb`` makes or updates a
workspace of these runs in Weights & Biases, and logs the tables there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.cli import run_command, split_words
from facedistill.errors import ConfigError
from facedistill.system.terminal import say
from facedistill.system.text import shown

if TYPE_CHECKING:  # matplotlib and scipy take a second, and --help needs neither
    from facedistill.report.claims import Assessment
    from facedistill.report.study import Study

DEFAULTS = {"runs_dir": "runs", "out": "reports", "data": "synthetic,synthetic_large", "alignment": "synthetic"}


def main(words: Sequence[str]) -> int:
    return run_command(words, __doc__, _report)


def _report(words: list[str]) -> int:
    own, others = split_words(words, (*DEFAULTS, "wandb"))
    for word in [*others, *(key for key, value in own.items() if not value)]:
        raise ConfigError(f"{word}: words are {', '.join(f'{key}=…' for key in (*DEFAULTS, 'wandb'))}; see --help")
    from facedistill.report.claims import assess
    from facedistill.report.page import write_report
    from facedistill.report.study import Study

    options = {**DEFAULTS, **own}
    if "runs_dir" in own and not Path(own["runs_dir"]).is_dir():
        raise ConfigError(f"runs_dir={own['runs_dir']} does not exist: name the folder of the runs, runs_dir=FOLDER")
    study = Study.read(Path(options["runs_dir"]), options["data"].split(","), options["alignment"])
    assessed = assess(study)
    page = write_report(study, assessed, Path(options["out"]))
    print(verdicts(assessed))
    for name, reason in study.unreadable.items():
        say(f"{name} is left out: {reason}")
    left_out = f", {len(study.unreadable)} left out" if study.unreadable else ""
    print(f"\n{len(study.records)} runs{left_out}; open {shown(page)}")
    if "wandb" in own:
        _publish(own["wandb"], study, page.parent)
    return 0


def _publish(target: str, study: Study, out: Path) -> None:
    """Show the runs and the tables in a workspace of Weights & Biases, and print its address."""
    import pandas as pd  # late, as W&B: they take seconds

    from facedistill.tracking.wandb_workspace import publish

    tables = {path.stem: pd.read_csv(path) for path in sorted(out.glob("tables/*.csv"))}
    published = publish(target, study.records, tables)
    print(f"The workspace is {published.url}")
    if published.missing:
        folders = study.runs_dir / "*" / "wandb" / "offline-run-*"
        print(f"{len(published.missing)} runs are not there yet: wandb sync {shown(folders)}")


def verdicts(assessed: Sequence[Assessment]) -> str:
    """A line for each claim: its name, verdict and text, and how many of its comparisons hold."""
    return "\n".join(f"{one.name}  {one.verdict:13}  {one.claim} [{one.tally}]" for one in assessed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
