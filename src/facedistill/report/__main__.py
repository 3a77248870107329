"""Say what a sweep said: the claims of the paper answered, its tables beside ours, figures, and every run behind them.

python -m facedistill.report [runs_dir=runs] [out=reports] [data=synthetic,synthetic_large] [alignment=synthetic]
                             [wandb=ENTITY/PROJECT]

It writes out/index.html (one file, to be opened from disk), README.md, tables/*.csv and figures/*.svg and *.png.
``data`` names what takes the place of CASIA-WebFace and of MS-Celeb-1M, ``alignment`` of CelebA. ``wandb`` makes or
updates a workspace of these runs in Weights & Biases, and logs the tables there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from facedistill.errors import ConfigError, FacedistillError
from facedistill.report.claims import Answer, answers
from facedistill.report.page import write_report
from facedistill.report.study import Study

DEFAULTS = {"runs_dir": "runs", "out": "reports", "data": "synthetic,synthetic_large", "alignment": "synthetic"}


def main(words: Sequence[str]) -> int:
    """The command."""
    if "--help" in words:
        print(__doc__)
        return 0
    try:
        given = _given(words)
        options = {**DEFAULTS, **given}
        study = Study.of(Path(options["runs_dir"]), options["data"].split(","), options["alignment"])
        answered = answers(study)
        page = write_report(study, answered, Path(options["out"]))
        print(verdicts(answered))
        print(f"\n{len(study.records)} runs; open {page}")
        if "wandb" in given:
            _publish(given["wandb"], study, page.parent)
    except (FacedistillError, OSError) as error:
        print(f"facedistill: {error}", file=sys.stderr)
        return 2
    return 0


def _publish(target: str, study: Study, out: Path) -> None:
    """Show the runs and the tables in a workspace of Weights & Biases, and say where it is."""
    import pandas as pd  # late, as W&B: they take seconds

    from facedistill.tracking.workspace import publish

    tables = {path.stem: pd.read_csv(path) for path in sorted(out.glob("tables/*.csv"))}
    published = publish(target, study.records, tables)
    print(f"The workspace is {published.url}")
    if published.absent:
        folders = study.runs_dir / "*" / "wandb" / "offline-run-*"
        print(f"{len(published.absent)} runs are not there yet: wandb sync {folders}")


def _given(words: Sequence[str]) -> dict[str, str]:
    for word in words:
        key, _, value = word.partition("=")
        if key not in (*DEFAULTS, "wandb") or not value:
            raise ConfigError(f"{word}: words are {', '.join(f'{key}=…' for key in (*DEFAULTS, 'wandb'))}; see --help")
    return dict(word.split("=", 1) for word in words)


def verdicts(answered: Sequence[Answer]) -> str:
    """A line a claim: what it says, the answer, and how many comparisons said so."""
    return "\n".join(f"{answer.name}  {answer.verdict:13}  {answer.claim} [{answer.told}]" for answer in answered)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
