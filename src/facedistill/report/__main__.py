"""The report of a sweep: answers to the claims of the paper, its tables beside ours, figures, and every run.

facedistill report [runs_dir=runs] [out=reports] [data=synthetic,synthetic_large] [alignment=synthetic]
                   [judged_by=top1] [exports=exports] [wandb=ENTITY/PROJECT]

It writes out/index.html (one file, to be opened from disk), README.md, tables/*.csv and figures/*.svg and *.png.
``data`` names what stands for CASIA-WebFace and for MS-Celeb-1M, ``alignment`` for CelebA. ``judged_by=pairs`` answers
the claims by the accuracy on pairs of strangers instead of top-1. ``exports`` is the folder of `facedistill export`:
what the model files of these runs score, and how large and how fast they are. ``wandb`` makes or updates a workspace of
these runs in Weights & Biases, and logs the tables there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
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
DEFAULTS |= {"judged_by": "top1", "exports": "exports"}
JUDGES = ("top1", "pairs")


def main(words: Sequence[str]) -> int:
    return run_command(words, __doc__, _report)


def _report(words: list[str]) -> int:
    own, others = split_words(words, (*DEFAULTS, "wandb"))
    for word in [*others, *(key for key, value in own.items() if not value)]:
        raise ConfigError(f"{word}: words are {', '.join(f'{key}=…' for key in (*DEFAULTS, 'wandb'))}; see --help")
    from facedistill.report.claims import assess
    from facedistill.report.files import write_report
    from facedistill.report.on_device import OnDevice
    from facedistill.report.study import Study

    options = {**DEFAULTS, **own}
    for key, whose in (("runs_dir", "runs"), ("exports", "exports")):
        if key in own and not Path(own[key]).is_dir():
            raise ConfigError(f"{key}={own[key]} does not exist: name the folder of the {whose}, {key}=FOLDER")
    if options["judged_by"] not in JUDGES:
        raise ConfigError(f"judged_by={options['judged_by']}: choices are {', '.join(JUDGES)}")
    data = options["data"].split(",")
    study = Study.read(Path(options["runs_dir"]), data, options["alignment"], options["judged_by"])
    study = replace(study, device=OnDevice.read(Path(options["exports"]), study.records))
    assessed = assess(study)
    page = write_report(study, assessed, Path(options["out"]))
    print(verdicts(assessed))
    for name, reason in (*study.unreadable.items(), *study.device.unreadable.items()):
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
    """A line for each claim: its name, answer, effect beside the paper's, text, and how far the answer goes."""
    from facedistill.report.wording import effect_in_words, signed

    lines = []
    for one in assessed:
        effect = f"{effect_in_words(one.effect)} {one.unit}" if one.effect else "—"
        scope = f" ({one.scope})" if one.scope else ""
        lines.append((one.title, str(one.answer), effect, f"paper {signed(one.paper)}", f"{one.claim}{scope}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)][:-1]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[-1]]) for line in lines
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
