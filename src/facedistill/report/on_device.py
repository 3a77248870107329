"""The exports of a study's runs: how large each model file is, how good, and how fast on which machine."""

import csv
import io
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

from facedistill.errors import WeightsError
from facedistill.report.tables import METRICS
from facedistill.runs.exported import CARD, CONTRACT, Exported, ModelFile
from facedistill.runs.record import Record
from facedistill.system.text import table_cell

_TITLES = {**METRICS, "cosine": "cosine with the teacher, %"}


class Scale(NamedTuple):
    """What scores have in common that can be compared: the task, the metric, and the faces or pairs."""

    task: str
    metric: str
    of: str

    @property
    def title(self) -> str:
        """The metric, for an axis."""
        return _TITLES.get(self.metric, f"{self.metric} %")

    @property
    def lower_is_better(self) -> bool:
        return self.metric == "nrmse"

    @property
    def heading(self) -> str:
        return f"{self.task}: {self.title} on {self.of}{', less is better' if self.lower_is_better else ''}"


@dataclass(frozen=True)
class DeviceFile:
    """A model file in the export of a run; ``folder``: the export."""

    record: Record
    exported: Exported
    model: ModelFile
    folder: Path

    @property
    def label(self) -> str:
        """The cell and its seed; the task is in the heading of its scale, as are mostly the data."""
        record, of = self.record, self.exported.judged.of
        data = "" if record.data_name in of else f"{record.data_name}, "
        return f"/{record.cell.rate} {record.cell.init}, {record.cell.target}, {data}seed {record.seed}"

    @property
    def megabytes(self) -> float:
        return self.model.bytes / 1e6

    @property
    def loss(self) -> float | None:
        """Points that it is worse than the network; None: it can't be run where it was made."""
        return None if self.model.score is None else self.exported.judged.loss(self.model.score)

    @property
    def machine(self) -> str:
        """On which it was timed."""
        threads = self.exported.threads
        return f"{self.exported.processor}, {threads} thread{'s' * (threads != 1)}"

    @property
    def scale(self) -> Scale:
        judged = self.exported.judged
        return Scale(self.record.config.compared_as, judged.metric, judged.of)

    @property
    def card(self) -> Path | None:
        return self.folder / CARD if (self.folder / CARD).is_file() else None


@dataclass(frozen=True)
class OnDevice:
    """The model files of the runs of a study.

    Attributes:
        unreadable: why an export is left out, by its name.
        others: how many exports are of no run of the study.
    """

    files: Sequence[DeviceFile] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    others: int = 0

    @classmethod
    def read(cls, folder: Path, records: Sequence[Record]) -> Self:
        """Read a folder of exports; one that does not exist has none."""
        by_identity = {record.identity: record for record in records}
        files: list[DeviceFile] = []
        unreadable, others = {}, 0
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name.startswith(".") or not os.path.lexists(path / CONTRACT):  # one in the making, or none
                continue
            try:
                exported = Exported.read(path)
            except WeightsError as error:
                unreadable[path.name] = str(error)
                continue
            record = by_identity.get(exported.identity)
            others += record is None
            if record is not None:
                files += [DeviceFile(record, exported, model, path) for model in exported.files]
        files.sort(key=lambda file: (file.scale, file.label, file.record.name))
        return cls(files, unreadable, others)

    @cached_property
    def by_scale(self) -> Mapping[Scale, list[DeviceFile]]:
        """The files whose scores can be compared."""
        found = defaultdict(list)
        for file in self.files:
            found[file.scale].append(file)
        return found


def usual_machine(files: Sequence[DeviceFile]) -> str:
    """That on which most of the files were timed; empty: none was."""
    timed = Counter(sorted(file.machine for file in files if file.model.median_ms is not None))
    return timed.most_common(1)[0][0] if timed else ""


def as_csv(device: OnDevice) -> str:
    """A line for each file; empty, where it can't be run where it was made."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    head = "run data task rate init target seed export format file bytes metric of network score loss cosine"
    writer.writerow([*head.split(), "median_ms", "p95_ms", "processor", "threads"])
    for file in device.files:
        record, exported, model, judged = file.record, file.exported, file.model, file.exported.judged
        cell = [record.name, record.data_name, record.config.compared_as, *record.cell[2:], record.seed]
        texts = [*cell, file.folder.name, model.format, model.file, model.bytes, judged.metric, judged.of]
        numbers = (judged.score, model.score, file.loss, model.cosine, model.median_ms, model.p95_ms)
        values = ["" if number is None else f"{number:.6g}" for number in numbers]
        writer.writerow([*map(table_cell, texts), *values, table_cell(exported.processor), exported.threads])
    return table.getvalue()
