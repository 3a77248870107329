"""The pixel store: whole or made again, made once, and never on a disk that is too small."""

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from facedistill.data.store import Columns, Stored, is_whole, open_or_make
from facedistill.errors import DataError

COUNT, SIZE = 10, 6
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)


class Maker:
    """Fills a store in batches of uneven sizes, and counts how often."""

    def __init__(self, images: NDArray[np.uint8] = IMAGES, fail_after: int | None = None) -> None:
        self.images, self.fail_after, self.calls = images, fail_after, 0

    def __call__(self) -> Iterator[tuple[NDArray[np.uint8], Columns]]:
        self.calls += 1
        for number, chosen in enumerate(np.split(np.arange(len(self.images)), [3, 4])):
            if number == self.fail_after:
                raise DataError("a broken image")
            yield self.images[chosen], {"photo": chosen, "landmarks": np.stack([chosen / 8, chosen / 4], 1)}

    def open(self, path: Path, count: int = COUNT) -> Stored:
        return open_or_make(path, count, SIZE, self, "filling")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    stored = Maker().open(tmp_path / "new" / "store")
    assert stored.images.dtype == np.uint8
    np.testing.assert_array_equal(stored.images, IMAGES)
    np.testing.assert_array_equal(stored.columns["photo"], np.arange(COUNT))
    np.testing.assert_array_equal(stored.columns["landmarks"], np.arange(COUNT)[:, None] / [8, 4])
    assert set(stored.columns) == {"photo", "landmarks"}
    assert isinstance(stored.images, np.memmap)


def test_the_second_open_makes_nothing(tmp_path: Path) -> None:
    Maker().open(tmp_path / "store")
    other = Maker()
    np.testing.assert_array_equal(other.open(tmp_path / "store").images, IMAGES)
    assert other.calls == 0


def test_fewer_images_than_announced(tmp_path: Path) -> None:
    stored = Maker(IMAGES[:7]).open(tmp_path / "store")
    np.testing.assert_array_equal(stored.images, IMAGES[:7])
    assert stored.columns["photo"].tolist() == list(range(7))
    assert is_whole(tmp_path / "store", checksum=True)


def test_no_image_at_all_is_an_error_and_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image"):
        open_or_make(tmp_path / "store", COUNT, SIZE, lambda: iter(()), "filling")
    assert not is_whole(tmp_path / "store")


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
def test_a_half_written_store_is_made_again(tmp_path: Path, damage: Damage) -> None:
    Maker().open(tmp_path / "store")
    hurt = (tmp_path / "store").with_suffix(damage.suffix)
    if damage.size is None:
        hurt.unlink()
    else:
        assert hurt.stat().st_size > damage.size
        os.truncate(hurt, damage.size)
    maker = Maker()
    np.testing.assert_array_equal(maker.open(tmp_path / "store").images, IMAGES)
    assert maker.calls == 1
    assert is_whole(tmp_path / "store", checksum=True)


@pytest.mark.parametrize("fail_after", [0, 1, 2])
def test_a_maker_that_fails_leaves_no_store_and_no_rubbish(tmp_path: Path, fail_after: int) -> None:
    with pytest.raises(DataError, match="a broken image"):
        Maker(fail_after=fail_after).open(tmp_path / "store")
    assert not is_whole(tmp_path / "store")
    assert [path for path in tmp_path.iterdir() if path.name != "store.lock"] == []
    np.testing.assert_array_equal(Maker().open(tmp_path / "store").images, IMAGES)


def test_the_checksum_is_of_the_pixels_and_notices_a_flipped_bit(tmp_path: Path) -> None:
    Maker().open(tmp_path / "store")
    pixels = tmp_path / "store.npy"
    with np.load(tmp_path / "store.npz") as index:
        assert str(index["sha256"]) == hashlib.sha256(pixels.read_bytes()).hexdigest()
    assert is_whole(tmp_path / "store", checksum=True)
    content = bytearray(pixels.read_bytes())
    content[-1] ^= 1
    pixels.write_bytes(content)
    assert is_whole(tmp_path / "store")
    assert not is_whole(tmp_path / "store", checksum=True)


@pytest.mark.parametrize("spare", [-1, 0])
def test_a_disk_that_is_too_small_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    class Usage(NamedTuple):
        total: int
        used: int
        free: int

    def usage(path: Any) -> Usage:
        return Usage(10**6, 0, COUNT * SIZE * SIZE * 3 + spare)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    maker = Maker()
    if spare < 0:
        with pytest.raises(DataError, match=r"10 images of 6 pixels.*cache_dir=.*image\.resize="):
            maker.open(tmp_path / "store")
        assert maker.calls == 0
    else:
        maker.open(tmp_path / "store")
        assert maker.calls == 1


def test_threads_that_want_the_same_store_make_it_once(tmp_path: Path) -> None:
    makers = [Maker() for _ in range(4)]
    threads = [threading.Thread(target=maker.open, args=(tmp_path / "store",)) for maker in makers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sum(maker.calls for maker in makers) == 1


def test_stores_whose_names_have_dots_are_two(tmp_path: Path) -> None:
    Maker().open(tmp_path / "my.faces-1")
    other = Maker(IMAGES[::-1].copy())
    np.testing.assert_array_equal(other.open(tmp_path / "my.faces-2").images, IMAGES[::-1])
    assert other.calls == 1
