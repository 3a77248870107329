"""Reads what an offline run of Weights & Biases wrote, from the layout of the file alone.

A ``.wandb`` file is seven bytes of header, then a LevelDB log: blocks of 32 KiB, in which a chunk is a checksum (4
bytes), a length (2 bytes, little endian), a type (1: whole, 2: first, 3: middle, 4: last) and its bytes. A record is a
``wandb.proto.wandb_internal_pb2.Record``.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import ArtifactRecord, Record, RunRecord

BLOCK = 32 * 1024
CHUNK = struct.Struct("<IHB")
LAST = {1, 4}


@dataclass
class OfflineRun:
    """The content of a file."""

    folder: Path
    run: RunRecord
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[ArtifactRecord] = field(default_factory=list)
    exit_code: int | None = None

    def media(self, key: str) -> Path:
        """The picture that the summary names."""
        return self.folder / "files" / self.summary[f"{key}/path"]


def read_offline(run_directory: Path) -> OfflineRun:
    """The only offline run in a directory of ours."""
    (file,) = run_directory.glob("wandb/offline-run-*/*.wandb")
    return read_file(file)


def read_file(file: Path) -> OfflineRun:
    """An offline run."""
    records = [Record.FromString(payload) for payload in payloads(file.read_bytes())]
    (run,) = [record.run for record in records if record.HasField("run")]
    found = OfflineRun(file.parent, run)
    for item in run.config.update:
        found.config[item.key] = json.loads(item.value_json)
    for record in records:
        for item in record.config.update:
            found.config[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        if record.HasField("history"):
            found.history.append(_values(record.history.item))
        found.summary |= _values(record.summary.update)
        if record.HasField("artifact"):
            found.artifacts.append(record.artifact)
        if record.HasField("exit"):
            found.exit_code = record.exit.exit_code
    return found


def payloads(data: bytes) -> Iterator[bytes]:
    """The records of a log, each put together from its chunks."""
    position, parts = 7, b""
    while position + CHUNK.size <= len(data):
        if BLOCK - position % BLOCK < CHUNK.size:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = CHUNK.unpack_from(data, position)
        position += CHUNK.size
        parts += data[position : position + length]
        position += length
        if kind in LAST:
            yield parts
            parts = b""


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
