"""The store: complete or resumed, the same bytes after a kill, made once, and only if the disk has room."""

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import numpy as np
import pytest
from numpy.typing import NDArray

from facedistill.data.files.photo_store import store_photos
from facedistill.data.files.store import Columns, Mapped, Stored, image_of, open_or_make, verify
from facedistill.errors import DataError, DiskError

COUNT, SIZE = 10, 6
IMAGE_BYTES = SIZE * SIZE * 3
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)
ENDS = (3, 4, 6, 10)  # of the batches
LEFT_OUT = range(4, 6)  # the third batch has no image


class Maker:
    """Fills a store in batches of uneven sizes, and records what it was asked for."""

    def __init__(self, images: NDArray[np.uint8] = IMAGES, fail_at: int | None = None) -> None:
        self.items, self.fail_at = images, fail_at
        self.starts: list[int] = []
        self.made: list[int] = []

    def __call__(self, start: int) -> Iterator[tuple[int, NDArray[np.uint8], Columns]]:
        self.starts.append(start)
        for end in [end for end in ENDS if end > start]:
            if end == self.fail_at:
                raise DataError("a broken image")
            chosen = np.array([number for number in range(start, end) if number not in LEFT_OUT], np.int64)
            self.made += range(start, end)
            columns = {"photo": chosen, "landmarks": np.stack([chosen / 8, chosen / 4], 1)}
            yield end, self.items[chosen], columns if len(chosen) else {}
            start = end

    def open(self, path: Path) -> Stored:
        return open_or_make(path, COUNT, image_of(SIZE), self, "filling")


KEPT = [number for number in range(COUNT) if number not in LEFT_OUT]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"store.lock"}


def bytes_of(path: Path) -> tuple[bytes, bytes]:
    return path.with_name("store.npy").read_bytes(), path.with_name("store.npz").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The two files of a store that was made in one go."""
    path = tmp_path_factory.mktemp("uninterrupted") / "store"
    Maker().open(path)
    return bytes_of(path)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    stored = Maker().open(tmp_path / "new" / "store")
    assert (stored.items.shape, len(stored.items)) == ((len(KEPT), SIZE, SIZE, 3), len(KEPT))
    assert np.asarray(stored.items).dtype == np.uint8
    np.testing.assert_array_equal(stored.items, IMAGES[KEPT])
    np.testing.assert_array_equal(stored.columns["photo"], KEPT)
    np.testing.assert_array_equal(stored.columns["landmarks"], np.array(KEPT)[:, None] / [8, 4])
    assert set(stored.columns) == {"photo", "landmarks"}
    assert names(tmp_path / "new") == {"store.npy", "store.npz"}


def test_the_pixels_are_a_plain_npy_file(tmp_path: Path) -> None:
    Maker().open(tmp_path / "store")
    np.testing.assert_array_equal(np.load(tmp_path / "store.npy", allow_pickle=False), IMAGES[KEPT])


@pytest.mark.parametrize(
    "index", [2, -1, slice(1, 7, 2), [3, 0], np.arange(8) % 3 == 0, (slice(2), 1, ..., 0)], ids=str
)
def test_items_are_indexed_like_an_array(tmp_path: Path, index: Any) -> None:
    images = Maker().open(tmp_path / "store").items
    np.testing.assert_array_equal(images[index], IMAGES[KEPT][index])
    with pytest.raises(ValueError, match="read-only"):
        images[0][0] = 0


def test_the_second_call_makes_nothing(tmp_path: Path) -> None:
    Maker().open(tmp_path / "store")
    other = Maker()
    np.testing.assert_array_equal(other.open(tmp_path / "store").items, IMAGES[KEPT])
    assert other.starts == []


def test_no_image_is_an_error_and_leaves_no_store(tmp_path: Path) -> None:
    def nothing(start: int) -> Iterator[tuple[int, NDArray[np.uint8], Columns]]:
        yield COUNT, IMAGES[:0], {}

    with pytest.raises(DataError, match="no image"):
        open_or_make(tmp_path / "store", COUNT, image_of(SIZE), nothing, "filling")
    assert names(tmp_path) == set()


class Damage(NamedTuple):
    suffix: str
    size: int | None  # bytes that are left; None: removed


@pytest.mark.parametrize(
    "damage",
    [
        Damage(".npz", None),
        Damage(".npz", 0),
        Damage(".npz", 2),
        Damage(".npz", 200),
        Damage(".npy", None),
        Damage(".npy", 0),
        Damage(".npy", 60),
        Damage(".npy", 300),
    ],
    ids=str,
)
def test_a_damaged_store_is_made_again(tmp_path: Path, damage: Damage) -> None:
    Maker().open(tmp_path / "store")
    hurt = (tmp_path / "store").with_suffix(damage.suffix)
    if damage.size is None:
        hurt.unlink()
    else:
        assert hurt.stat().st_size > damage.size
        os.truncate(hurt, damage.size)
    maker = Maker()
    stored = maker.open(tmp_path / "store")
    np.testing.assert_array_equal(stored.items, IMAGES[KEPT])
    assert maker.starts == [0]
    verify(stored.items)


def test_a_store_that_the_disk_fails_to_read_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    Maker().open(tmp_path / "store")
    again = Maker()
    with monkeypatch.context() as patch:
        patch.setattr("facedistill.data.files.formats.npz.ZipFile", fail)
        with pytest.raises(DiskError, match=r"store: Input/output error.*cache_dir="):
            again.open(tmp_path / "store")
    np.testing.assert_array_equal(again.open(tmp_path / "store").items, IMAGES[KEPT])
    assert again.starts == []


def test_a_store_without_checksums_is_made_again(tmp_path: Path) -> None:
    np.save(tmp_path / "store.npy", IMAGES)
    np.savez(tmp_path / "store.npz", sha256=np.str_("0" * 64), shape=np.array(IMAGES.shape))
    np.testing.assert_array_equal(Maker().open(tmp_path / "store").items, IMAGES[KEPT])


@pytest.mark.parametrize("fail_at", ENDS)
def test_filling_resumes_after_a_failure(tmp_path: Path, fail_at: int, uninterrupted: tuple[bytes, bytes]) -> None:
    first, second = Maker(fail_at=fail_at), Maker()
    with pytest.raises(DataError, match="a broken image"):
        first.open(tmp_path / "store")
    assert names(tmp_path) == {"store.part", "store.journal"}
    second.open(tmp_path / "store")
    assert first.made + second.made == list(range(COUNT))
    assert bytes_of(tmp_path / "store") == uninterrupted
    assert names(tmp_path) == {"store.npy", "store.npz"}


KILLED = """
import os, signal, sys
from pathlib import Path
import facedistill.data.files.store as store
from test_store import Maker

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

class Killed(Maker):
    def __call__(self, start):
        for end, images, columns in super().__call__(start):
            Path(sys.argv[1], "made").open("a").write(f"{end}\\n")
            if sys.argv[2] == str(end):
                die()
            yield end, images, columns

if not sys.argv[2].isdigit():
    setattr(store, sys.argv[2], die)
Killed().open(Path(sys.argv[1], "store"))
"""


@pytest.mark.parametrize("when", ["4", "10", "_entry", "verify", "write_aside"])
def test_filling_resumes_wherever_it_was_killed(tmp_path: Path, when: str, uninterrupted: tuple[bytes, bytes]) -> None:
    """In the maker, between pixels and journal, while verifying, between the renames of pixels and index."""
    words = [sys.executable, "-c", KILLED, str(tmp_path), when]
    child = subprocess.run(words, cwd=Path(__file__).parent, timeout=60)
    assert child.returncode == -signal.SIGKILL
    made_before = [int(end) for end in (tmp_path / "made").read_text().split()]
    journalled = made_before if when in ("verify", "write_aside") else made_before[:-1]
    (tmp_path / "made").unlink()
    assert "store.npz" not in names(tmp_path)
    maker = Maker()
    np.testing.assert_array_equal(maker.open(tmp_path / "store").items, IMAGES[KEPT])
    assert maker.starts == [max(journalled, default=0)]
    assert bytes_of(tmp_path / "store") == uninterrupted
    assert names(tmp_path) == {"store.npy", "store.npz"}


class Interrupted(NamedTuple):
    """A folder with a store that is filled up to its last batch; where the journal's batches end."""

    path: Path
    ends: list[int]

    @property
    def part(self) -> Path:
        return self.path.with_name("store.part")

    @property
    def journal(self) -> Path:
        return self.path.with_name("store.journal")

    def resumes_at(self) -> int:
        maker = Maker()
        np.testing.assert_array_equal(maker.open(self.path).items, IMAGES[KEPT])
        assert maker.made == list(range(maker.starts[0], COUNT))
        return maker.starts[0]


@pytest.fixture
def interrupted(tmp_path: Path) -> Interrupted:
    ends = [0]
    for fail_at in ENDS[1:]:
        with pytest.raises(DataError):
            Maker(fail_at=fail_at).open(tmp_path / "store")
        ends.append((tmp_path / "store.journal").stat().st_size)
    return Interrupted(tmp_path / "store", ends)


@pytest.mark.parametrize("image", range(4))
def test_a_flipped_bit_in_the_part_file_is_noticed_and_made_again(interrupted: Interrupted, image: int) -> None:
    flip(interrupted.part, 128 + image * IMAGE_BYTES + image)
    assert interrupted.resumes_at() == (0 if image < 3 else 3)


@pytest.mark.parametrize("lost", [1, IMAGE_BYTES, IMAGE_BYTES + 1, 10**6])
def test_a_part_file_that_was_cut_off(interrupted: Interrupted, lost: int) -> None:
    os.truncate(interrupted.part, max(0, interrupted.part.stat().st_size - lost))
    assert interrupted.resumes_at() == (3 if lost <= IMAGE_BYTES else 0)


def test_pixels_that_the_journal_does_not_list_are_removed(
    interrupted: Interrupted, uninterrupted: tuple[bytes, bytes]
) -> None:
    with interrupted.part.open("ab") as file:
        file.write(bytes(100 * IMAGE_BYTES + 1))
    assert interrupted.resumes_at() == 6
    assert bytes_of(interrupted.path) == uninterrupted


def test_a_journal_that_was_cut_off_anywhere(interrupted: Interrupted, uninterrupted: tuple[bytes, bytes]) -> None:
    part, journal = interrupted.part.read_bytes(), interrupted.journal.read_bytes()
    cuts = {cut for end in interrupted.ends for cut in range(end - 13, end + 13)} | set(range(0, len(journal), 149))
    for cut in sorted(cuts & set(range(len(journal) + 1))):
        interrupted.path.with_name("store.npz").unlink(missing_ok=True)
        interrupted.part.write_bytes(part)
        interrupted.journal.write_bytes(journal[:cut])
        batches = sum(end <= cut for end in interrupted.ends) - 1
        assert interrupted.resumes_at() == (0, *ENDS)[batches], cut
        assert bytes_of(interrupted.path) == uninterrupted


def test_a_journal_with_a_flipped_bit(interrupted: Interrupted) -> None:
    part, journal = interrupted.part.read_bytes(), interrupted.journal.read_bytes()
    for at in range(0, len(journal), 61):
        interrupted.path.with_name("store.npz").unlink(missing_ok=True)
        interrupted.part.write_bytes(part)
        interrupted.journal.write_bytes(journal)
        flip(interrupted.journal, at)
        batches = sum(end <= at for end in interrupted.ends) - 1
        assert interrupted.resumes_at() == (0, *ENDS)[batches], at


def test_a_journal_of_too_many_items_is_ignored(interrupted: Interrupted) -> None:
    def make(start: int) -> Iterator[tuple[int, NDArray[np.uint8], Columns]]:
        starts.append(start)
        yield 2, IMAGES[:2], {}

    starts: list[int] = []
    np.testing.assert_array_equal(open_or_make(interrupted.path, 2, image_of(SIZE), make, "filling").items, IMAGES[:2])
    assert starts == [0]


def test_a_disk_that_returns_something_else_leaves_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def faulty(handle: int) -> None:
        sync(handle)
        os.pwrite(handle, bytes([255 - IMAGES[7, 0, 0, 0]]), 128 + 5 * IMAGE_BYTES)

    monkeypatch.setattr("facedistill.data.files.store.os.fsync", faulty)
    with pytest.raises(DataError, match=rf"store\.part: image 5 \(from 0; at byte {128 + 5 * IMAGE_BYTES}\)"):
        Maker().open(tmp_path / "store")
    assert "store.npz" not in names(tmp_path)
    monkeypatch.undo()
    maker = Maker()
    verify(maker.open(tmp_path / "store").items)
    assert maker.starts == [6]


def test_checksums_are_of_the_images_and_a_flipped_bit_is_found(tmp_path: Path) -> None:
    stored = Maker().open(tmp_path / "store")
    with np.load(tmp_path / "store.npz") as index:
        assert index["crc32"].tolist() == [zlib.crc32(IMAGES[number].tobytes()) for number in KEPT]
    flip(tmp_path / "store.npy", 128 + 6 * IMAGE_BYTES - 1)
    with pytest.raises(DataError, match=rf"{tmp_path}/store\.npy: image 5 .*at byte {128 + 5 * IMAGE_BYTES}\)"):
        verify(stored.items)


def test_items_that_are_not_what_was_written_are_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], uninterrupted: tuple[bytes, bytes]
) -> None:
    """Most of them zeroed, the first and the last intact: whoever compares some of them may see nothing."""
    Maker().open(tmp_path / "store")
    with (tmp_path / "store.npy").open("r+b") as file:
        file.seek(128 + IMAGE_BYTES)
        file.write(bytes(6 * IMAGE_BYTES))
    again = Maker()
    np.testing.assert_array_equal(again.open(tmp_path / "store").items, IMAGES[KEPT])
    assert again.starts == [0]
    assert bytes_of(tmp_path / "store") == uninterrupted
    [line] = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}/store.npy: image 1 " in line
    assert "made again" in line


@pytest.mark.parametrize("member", ["photo", "landmarks", "crc32"])
def test_columns_that_are_not_what_was_written_are_made_again(tmp_path: Path, member: str) -> None:
    Maker().open(tmp_path / "store")
    path = tmp_path / "store.npz"
    with ZipFile(path) as archive:
        start = archive.getinfo(f"{member}.npy").header_offset
    flip(path, start + 30 + len(f"{member}.npy") + 20 + 128)  # local header, its extra field, header of the array
    again = Maker()
    stored = again.open(tmp_path / "store")
    assert again.starts == [0]
    assert stored.columns["photo"].tolist() == KEPT


def test_columns_of_other_lengths_are_made_again(tmp_path: Path) -> None:
    Maker().open(tmp_path / "store")
    with np.load(tmp_path / "store.npz") as arrays:
        np.savez(tmp_path / "store.npz", **{**arrays, "photo": arrays["photo"][:-1]})
    assert Maker().open(tmp_path / "store").columns["photo"].tolist() == KEPT


def test_a_file_is_verified_once_unless_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(items: Mapped) -> None:
        verified.append(items.path.name)
        verify(items)

    def opened() -> int:
        verified.clear()
        Maker().open(tmp_path / "store")
        return len(verified)

    verified: list[str] = []
    monkeypatch.setattr("facedistill.data.files.store.verify", count)
    assert opened() == 1  # the part, once it is filled
    assert opened() == 0
    path = tmp_path / "store.npy"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert (opened(), opened()) == (1, 0)
    status = path.stat()
    shutil.copy2(path, tmp_path / "copy")
    (tmp_path / "copy").replace(path)
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert path.stat().st_ino != status.st_ino
    assert (opened(), opened()) == (1, 0)
    monkeypatch.setattr("socket.gethostname", lambda: "another machine")
    assert (opened(), opened()) == (1, 0)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", f"{tmp_path}/file")  # where nothing can be remembered
    assert (opened(), opened()) == (1, 1)


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("filelock.FileLock.acquire", PermissionError(errno.EACCES, "Permission denied")),  # another user's
        ("filelock.FileLock.acquire", OSError(errno.EROFS, "Read-only file system")),
        ("filelock.FileLock.acquire", NotImplementedError("no flock")),
        ("pathlib.Path.mkdir", OSError(errno.EROFS, "Read-only file system")),
        ("os.fsync", OSError(errno.ENOSPC, "No space left on device")),
        ("os.fsync", OSError(errno.EDQUOT, "Disk quota exceeded")),
        ("tempfile.mkstemp", OSError(errno.ENAMETOOLONG, "File name too long")),
    ],
    ids=str,
)
def test_only_a_store_that_is_not_complete_needs_a_disk_to_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    (tmp_path / "cache").mkdir()
    Maker().open(tmp_path / "cache" / "complete")
    monkeypatch.setattr(name, raising(error))
    np.testing.assert_array_equal(Maker().open(tmp_path / "cache" / "complete").items, IMAGES[KEPT])
    with pytest.raises(DiskError, match=rf"^{tmp_path}/cache.*: .*belongs to the cache: .*cache_dir=FOLDER"):
        Maker().open(tmp_path / "cache" / "new")


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    stored = Maker().open(tmp_path / "store")
    (tmp_path / "store.npy").unlink()
    with pytest.raises(DataError, match=rf"{tmp_path}/store\.npy: No such file"):
        verify(stored.items)


@pytest.mark.parametrize("broken", [set(), {5, 6, 7, 8}])
def test_decoding_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: set[int]) -> None:
    """No photograph is decoded twice, whether it could be read or, as a whole batch here, could not."""

    def decode(number: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        decoded.append(number)
        if number == stop:
            raise KeyboardInterrupt
        if number in broken:
            raise DataError("a broken image")
        return IMAGES[number], {"landmarks": np.full((5, 2), number)}

    def read() -> Stored:
        return store_photos(tmp_path / "store", COUNT, SIZE, decode, "skip", "reading")

    monkeypatch.setattr("facedistill.data.files.photo_store._READ_AT_ONCE", 4)
    decoded: list[int] = []
    stop = 9
    with pytest.raises(KeyboardInterrupt):
        read()
    decoded.clear()
    stop = -1
    stored = read()
    kept = [number for number in range(COUNT) if number not in broken]
    assert set(decoded) - broken == {8, 9} - broken
    assert stored.columns["photo"].tolist() == kept
    np.testing.assert_array_equal(stored.columns["landmarks"][:, 0, 0], kept)
    np.testing.assert_array_equal(stored.items, IMAGES[kept])


@pytest.mark.parametrize("spare", [-1, 0])
@pytest.mark.parametrize("filled", [0, 3])
def test_a_disk_that_is_too_small_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled: int, spare: int
) -> None:
    """What is filled already needs no room."""

    class Usage(NamedTuple):
        total: int
        used: int
        free: int

    if filled:
        with pytest.raises(DataError):
            Maker(fail_at=4).open(tmp_path / "store")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 0, (COUNT - filled) * IMAGE_BYTES + spare))
    maker = Maker()
    if spare < 0:
        with pytest.raises(DataError, match=rf"{COUNT - filled} images of 6 pixels.*cache_dir=.*image\.resize="):
            maker.open(tmp_path / "store")
        assert maker.starts == []
    else:
        maker.open(tmp_path / "store")
        assert maker.starts == [filled]


def test_threads_make_a_store_once(tmp_path: Path) -> None:
    makers = [Maker() for _ in range(4)]
    threads = [threading.Thread(target=maker.open, args=(tmp_path / "store",)) for maker in makers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sum(len(maker.starts) for maker in makers) == 1


def test_names_with_dots_are_different_stores(tmp_path: Path) -> None:
    Maker().open(tmp_path / "my.faces-1")
    other = Maker(IMAGES[::-1].copy())
    np.testing.assert_array_equal(other.open(tmp_path / "my.faces-2").items, IMAGES[::-1][KEPT])
    assert other.starts == [0]


def test_the_bar_starts_where_filling_resumes(interrupted: Interrupted, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr("rich.progress.Progress.reset", lambda self, task, **given: calls.append(given))
    interrupted.resumes_at()
    assert calls == [{"description": "filling", "completed": 6}]


def checksum_in_another_process(images: Mapped) -> int:
    return zlib.crc32(images[3:].tobytes())


def test_another_process_maps_the_same_file(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (COUNT, 64, 64, 3), dtype=np.uint8)
    stored = open_or_make(tmp_path / "store", COUNT, image_of(64), lambda start: [(COUNT, images, {})], "filling")
    assert len(pickle.dumps(stored.items)) < 400 + len(str(tmp_path)) < images.nbytes
    again = pickle.loads(pickle.dumps(stored.items))
    np.testing.assert_array_equal(again, images)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(checksum_in_another_process, (stored.items,)) == zlib.crc32(images[3:].tobytes())


def another_header(content: bytes) -> bytes:
    return content.replace(b"|u1", b"|i1")


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-1], lambda content: content + b"\0", lambda content: content[1:], another_header],
    ids=["cut", "longer", "shifted", "signed"],
)
def test_a_file_that_does_not_fit_is_not_mapped(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    Maker().open(tmp_path / "store")
    path = tmp_path / "store.npy"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"store\.npy does not hold 8 images of 6 pixels"):
        Mapped(path, 8, image_of(SIZE))
    with pytest.raises(DataError, match="No such file"):
        Mapped(tmp_path / "nowhere.npy", 8, image_of(SIZE))
