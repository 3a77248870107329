"""Files that are either whole or not there."""

import errno
import hashlib
import json
import os
import re
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from facedistill.errors import BusyError, DiskError
from facedistill.system.files import disk_of, hash_of, held, sha256, write_aside, write_json


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_appears_only_when_the_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file.txt"
    with write_aside(path) as part:
        part.write_text("whole")
        assert not path.exists()
        assert part.parent == path.parent  # a rename from another disk is no rename
    assert path.read_text() == "whole"
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_content_and_no_temporary_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def half() -> None:
        with write_aside(path) as part:
            part.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_an_error_of_the_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as refusal:
        write_json(tmp_path / "record.json", {})
    assert refusal.value.filename == str(tmp_path / "record.json")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("filename", "said"),
    [
        (None, "/data/runs: Disk quota exceeded. It belongs to the runs: .*runs_dir=FOLDER"),
        ("/data/runs/a/b.json", "/data/runs/a/b.json: Disk quota exceeded. It belongs to the runs: .*runs_dir=FOLDER"),
        ("/data", "/data: Disk quota exceeded. It belongs to the runs: .*runs_dir=FOLDER"),
        ("/dev/shm/x", "^/dev/shm/x: Disk quota exceeded$"),
    ],
)
def test_an_error_of_a_disk_names_the_word_that_moves_its_files(filename: str | None, said: str) -> None:
    with pytest.raises(DiskError, match=said), disk_of("the runs", "runs_dir=FOLDER", Path("/data/runs")):
        raise OSError(errno.EDQUOT, "Disk quota exceeded", filename)


def test_who_waits_for_a_lock_is_told_for_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        with held(tmp_path / "lock", "reading /faces"):
            begun.set()
            done.wait(30)

    monkeypatch.setattr("facedistill.system.files.NOTICE_AFTER", 0.01)
    begun, done = threading.Event(), threading.Event()
    other = threading.Thread(target=work)
    other.start()
    begun.wait(30)
    with (
        pytest.raises(BusyError, match=rf"process {os.getpid()} on {socket.gethostname()}"),
        held(tmp_path / "lock", "reading /faces", wait=False),
    ):
        pass
    threading.Timer(0.2, done.set).start()
    with held(tmp_path / "lock", "reading /faces"):
        said = capsys.readouterr().err
    other.join()
    assert re.fullmatch(rf"waiting for process {os.getpid()} on .+, for \d+ s: reading /faces\n", said)
    assert names(tmp_path) == ["lock"]


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with write_aside(path) as one, write_aside(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # the outer block ends last
    assert names(tmp_path) == ["file.txt"]


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_is_no_number_and_keeps_the_old_file(tmp_path: Path, value: float) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"top1": 1.5})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"metrics": {"top1": value}})
    assert json.loads(path.read_text()) == {"top1": 1.5}
    assert names(tmp_path) == ["record.json"]


def test_json_is_read_back_and_is_the_same_bytes_for_the_same_value(tmp_path: Path) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    write_json(one, {"b": [1, 0.1, None], "a": "é τ"})
    write_json(other, {"a": "é τ", "b": [1, 0.1, None]})
    assert json.loads(one.read_text()) == {"a": "é τ", "b": [1, 0.1, None]}
    assert one.read_bytes() == other.read_bytes()


def test_sha256_of_a_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}, True),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": None}, {}, False),
        ([1, 2], [2, 1], False),
        (["ab", "c"], ["a", "bc"], False),
        ([1, 23], [12, 3], False),
    ],
)
def test_the_hash_of_a_value_depends_on_the_value_alone(one: Any, other: Any, equal: bool) -> None:
    assert (hash_of(one) == hash_of(other)) is equal
    assert len(hash_of(one)) == 12
    assert hash_of(one, 32).startswith(hash_of(one))
