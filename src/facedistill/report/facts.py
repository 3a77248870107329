"""What was run, and what is left out of the report."""

from collections import Counter
from collections.abc import Iterable, Sequence

from facedistill.config.groups import ScheduleConfig
from facedistill.report.study import Study, seeds_of
from facedistill.runs.record import Record

REPRODUCE = "make reproduce"


def summary(study: Study) -> dict[str, str]:
    """What was run."""
    records = study.records
    configs, devices = [record.config for record in records], [record.device for record in records]
    if not records:
        return {"Runs": f"0 finished in {study.runs_dir}"}
    return {
        "Runs": f"{len(records)} finished in {study.runs_dir}, {seeds_text(records)}",
        "Faces": _distinct(f"{record.data_name}, {record.config.image.crop} px" for record in records),
        "Networks": _distinct(f"students {one.model['name']}, teacher {one.teacher.model['name']}" for one in configs),
        "Schedule": _distinct(map(_schedule, (one.schedule for one in configs))),
        "Versions": _distinct(
            f"facedistill {record.versions.get('facedistill')}, torch {record.versions.get('torch')}, results version "
            f"{record.version}"
            for record in records
        ),
        "Machine": _distinct(
            f"{one.get('name')}, {one.get('threads')} thread{'s' * (one.get('threads') != 1)}" for one in devices
        ),
        "Training": f"{sum(record.seconds for record in records) / 3600:.2f} hours in all",
    }


def _schedule(schedule: ScheduleConfig) -> str:
    along = "along a cosine" if schedule.shape == "cosine" else "at each learning rate"
    return f"{schedule.epochs} epochs {along}{', AdamW' if schedule.optimizer == 'adamw' else ''}"


def _distinct(texts: Iterable[str]) -> str:
    """Every different text, the most frequent first."""
    return "; ".join(text for text, _ in Counter(sorted(texts)).most_common())


def seeds_text(records: Sequence[Record]) -> str:
    """As in "seeds 0, 1"."""
    seeds = seeds_of(records)
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}"


def remarks(study: Study, failed: Sequence[str]) -> list[str]:
    """Which runs and figures (``failed``) are left out, and why, and what that means for the tables."""
    found = [f"This page is without {figure}" for figure in failed]
    found += [f"{name} is left out: {reason}" for name, reason in sorted(study.unreadable.items())]
    found += [f"The export {name} is left out: {reason}" for name, reason in study.device.unreadable.items()]
    if study.unfinished:
        count = f"{len(study.unfinished)} run{'s are' if len(study.unfinished) > 1 else ' is'}"
        found.append(f"{count} not finished: facedistill runs stale lists them and the commands that finish them")
    versions = sorted({record.version for record in study.records})
    if len(versions) > 1:
        found.append(f"There are runs of results versions {', '.join(map(str, versions))}: a table has those of one")
    for filled in (*study.tables, *study.neighbours):
        if filled.left_out:
            name = f"Table {filled.table.number}" if filled in study.tables else filled.table.number
            found.append(
                f"{name} ({filled.table.stands_for}) leaves out {len(filled.left_out)} runs with "
                "other images, models, schedules, versions or views of the teacher"
            )
    if len(seeds_of(study.records)) == 1:
        found.append("One seed decides nothing: with seed=0,1,2,3,4 the same sweep gives spreads and answers")
    return found
