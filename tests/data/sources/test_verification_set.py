"""InsightFace's verification sets as protocols, intact and damaged."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.model_selection import KFold

from facedistill.config.compose import CONFIG_DIR
from facedistill.data.faces import Pairs
from facedistill.data.sources import verification_set
from facedistill.data.sources.source import build_source
from facedistill.data.sources.verification_set import VerificationSet, find_bin
from facedistill.errors import DataError

SIDE = 16


def encoded(image: np.ndarray, form: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, form)
    return file.getvalue()


def pictures(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def write(path: Path, images: list[bytes], same: list[bool] | None = None) -> Path:
    path.write_bytes(pickle.dumps((images, same or [i % 2 == 0 for i in range(len(images) // 2)])))
    return path


def write_random(path: Path, pairs: int = 20) -> Path:
    return write(path, [encoded(image) for image in pictures(2 * pairs)])


def read(root: Path, size: int = SIDE, name: str = "cfp_fp") -> Pairs:
    return VerificationSet(name, str(root)).protocol(size, root.parent / "cache", {"Ann"})


def refused(root: Path, *said: str) -> str:
    with pytest.raises(DataError) as refusal:
        read(root)
    message = str(refusal.value)
    assert [word for word in said if word not in message] == [], message
    return message


def test_pairs_are_two_neighbours_pixel_for_pixel_at_their_own_size(tmp_path: Path) -> None:
    images = pictures(42, 112)
    same = [True, False, False, *[True, False] * 9]
    jpegs = [encoded(image, "jpeg") for image in images[40:]]
    file = write(tmp_path / "cfp_fp.bin", [*map(encoded, images[:40]), *jpegs], same)
    pairs = read(file, 112)
    for number in range(20):
        np.testing.assert_array_equal(pairs.images[pairs.left[number]], images[2 * number])
        np.testing.assert_array_equal(pairs.images[pairs.right[number]], images[2 * number + 1])
    for index, jpeg in zip((pairs.left[20], pairs.right[20]), jpegs, strict=True):
        np.testing.assert_array_equal(pairs.images[index], np.asarray(Image.open(io.BytesIO(jpeg))))
    assert pairs.same.tolist() == same
    assert pairs.trained_on.tolist() == [False] * 21  # whoever was: the file has no names


@pytest.mark.parametrize("count", [20, 21, 23, 29, 60])
def test_folds_are_those_of_kfold(tmp_path: Path, count: int) -> None:
    pairs = read(write_random(tmp_path / "cfp_fp.bin", count))
    assert len(pairs.fold) == count
    for number, (_, part) in enumerate(KFold(10, shuffle=False).split(np.arange(count))):
        np.testing.assert_array_equal(np.flatnonzero(pairs.fold == number), part)


@pytest.mark.parametrize("size", [8, 48, 80])
def test_another_size_shows_all_of_the_square(tmp_path: Path, size: int) -> None:
    """A gradient from edge to edge has the same values at every size."""
    centres = (np.arange(SIDE) + 0.5) / SIDE
    slope = np.stack(np.broadcast_arrays(20 + 200 * centres[:, None], 220 - 200 * centres[None], 128), 2)
    pairs = read(write(tmp_path / "cfp_fp.bin", [encoded(slope.round().astype(np.uint8))] * 40), size)
    assert pairs.images.shape == (40, size, size, 3)
    centres = (np.arange(size) + 0.5) / size
    inside = (centres > 0.15) & (centres < 0.85)  # beyond the outermost centres a slope goes flat
    image = pairs.images[7].astype(float)
    np.testing.assert_allclose(image[inside][:, 3, 0], 20 + 200 * centres[inside], atol=1.5)
    np.testing.assert_allclose(image[3][inside, 1], 220 - 200 * centres[inside], atol=1.5)
    assert (image[..., 2] == 128).all()


def test_the_file_or_a_folder_that_holds_it(tmp_path: Path) -> None:
    folder = tmp_path / "faces_webface_112x112"
    folder.mkdir()
    (folder / "train.rec").write_bytes(b"\x00")
    file = write_random(folder / "cfp_fp.bin")
    write_random(folder / "lfw.bin", 21)
    assert find_bin(str(folder), "cfp_fp") == find_bin(str(file), "lfw") == file
    assert find_bin(str(folder), "calfw") is find_bin(str(folder / "train.rec"), "cfp_fp") is None
    assert len(read(folder).same) == len(read(file).same) == 20
    assert len(read(folder, name="lfw").same) == 21


def test_images_are_decoded_once_and_again_when_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_random(tmp_path / "cfp_fp.bin")
    decoded = []
    decode = verification_set.decode_photo
    monkeypatch.setattr(
        verification_set, "decode_photo", lambda data, where: (decoded.append(where), decode(data, where))[1]
    )
    first = read(file)
    assert len(decoded) == 40
    np.testing.assert_array_equal(read(file).images, first.images)
    assert len(decoded) == 40
    date = file.stat().st_mtime_ns
    write(file, [encoded(255 - image) for image in pictures(40)])
    os.utime(file, ns=(date, date))
    np.testing.assert_array_equal(read(file).images, 255 - np.asarray(first.images))


def test_the_identity_is_that_of_the_bytes_on_any_path(tmp_path: Path) -> None:
    first, copy = write_random(tmp_path / "cfp_fp.bin"), tmp_path / "copy.bin"
    copy.write_bytes(first.read_bytes())
    identities = [VerificationSet("cfp_fp", str(root)).identity() for root in (first, tmp_path, copy)]
    assert identities[0] == identities[1] == identities[2]
    write(copy, [encoded(image) for image in pictures(20)], [True] + [False] * 9)
    assert VerificationSet("cfp_fp", str(copy)).identity() != identities[0]


def test_there_is_nobody_to_train_on(tmp_path: Path) -> None:
    source = VerificationSet("calfw", str(tmp_path))
    with pytest.raises(DataError, match=rf"evaluate protocol=calfw root={tmp_path} "):
        source.faces(SIDE, tmp_path)


@pytest.mark.parametrize("name", ["cfp_fp", "agedb_30", "calfw", "cplfw"])
def test_every_set_has_a_name_to_type(tmp_path: Path, name: str) -> None:
    node = yaml.safe_load((CONFIG_DIR / "data" / f"{name}.yaml").read_text())
    assert (node["name"], node["gives"], node["root"]) == (name, [], "???")
    write_random(tmp_path / f"{name}.bin")
    assert len(build_source({**node, "root": str(tmp_path)}).protocol(SIDE, tmp_path / "cache", set()).same) == 20


def test_a_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "gone.bin", f"data.root={tmp_path / 'gone.bin'} does not exist")
    refused(tmp_path / "gone", f"data.root={tmp_path / 'gone'} does not exist")
    (tmp_path / "lfw.bin").write_bytes(b"")
    refused(tmp_path, f"data.root={tmp_path} holds no cfp_fp.bin")
    with pytest.raises(DataError, match=r"holds no cfp_fp\.bin"):
        VerificationSet("cfp_fp", str(tmp_path)).identity()


def test_a_tree_of_images_is_no_bin_file(tmp_path: Path) -> None:
    (tmp_path / "pairs_CALFW.txt").touch()
    refused(tmp_path, "holds no cfp_fp.bin", "protocol=lfw data.images=FOLDER data.pairs=pairs_CALFW.txt")


@pytest.mark.parametrize("name", ["cfp_fp.zip", "cfp_fp.bin"])
def test_a_zip(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as file:
        file.writestr("cfp_fp.bin", b"")
    refused(tmp_path / name, str(tmp_path / name), "unpack")


class _Runs:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.trace),)


def test_a_pickle_that_runs_code_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    (tmp_path / "cfp_fp.bin").write_bytes(pickle.dumps(([_Runs(trace)] * 20, [True] * 10)))
    refused(tmp_path, str(tmp_path / "cfp_fp.bin"), "mkdir", "may run code")
    assert not trace.exists()
    pickle.loads((tmp_path / "cfp_fp.bin").read_bytes())  # it would have
    assert trace.exists()


@pytest.mark.parametrize("left", [0, 1, 1000, -1])
def test_a_file_that_was_cut_off(tmp_path: Path, left: int) -> None:
    file = write_random(tmp_path / "cfp_fp.bin")
    file.write_bytes(file.read_bytes()[:left])
    refused(file, str(file), "ends too early")


def test_fewer_pairs_than_folds(tmp_path: Path) -> None:
    file = write_random(tmp_path / "cfp_fp.bin", 5)
    refused(file, str(file), "5 pairs", "10 folds")
    refused(write_random(file, 9), "9 pairs")


@pytest.mark.parametrize(
    ("same", "said"),
    [
        ([True] * 15 + [False] * 15, "all pairs of fold 1 of 10 are of one person, which tells nothing"),
        ([True, False] * 14 + [False] * 2, "all pairs of fold 10 of 10 are of two people, which tells nothing"),
    ],
)
def test_folds_of_one_kind_tell_nothing(tmp_path: Path, same: list[bool], said: str) -> None:
    file = write(tmp_path / "cfp_fp.bin", [encoded(pictures(1)[0])] * 60, same)
    refused(file, f"{file}: {said}")


@pytest.mark.parametrize(("kind", "said"), [(True, "of one person"), (False, "of two people")])
def test_pairs_of_one_kind_are_read_but_can_not_be_compared_by_accuracy(tmp_path: Path, kind: bool, said: str) -> None:
    file = write(tmp_path / "cfp_fp.bin", [encoded(pictures(1)[0])] * 60, [kind] * 30)
    assert read(file).same.tolist() == [kind] * 30
    with pytest.raises(DataError) as refusal:
        VerificationSet("cfp_fp", str(file)).identity()
    assert str(refusal.value) == f"{file}: all of its 30 pairs are {said}, which tells nothing: both kinds are needed"


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (b"not an image", "not a readable image"),
        (encoded(pictures(1)[0])[:300], "not a readable image"),
        (encoded(pictures(1)[0][:12]), "16×12 pixels, not the square"),
        (encoded(pictures(1, 6)[0]), "6×6 pixels, too small"),
        (b"", "not the bytes of an encoded image"),
    ],
    ids=["text", "cut off", "not square", "tiny", "empty"],
)
def test_a_broken_image_is_named_and_never_skipped(tmp_path: Path, image: bytes, said: str) -> None:
    images = [encoded(image) for image in pictures(40)]
    images[13] = image
    file = write(tmp_path / "cfp_fp.bin", images)
    for _ in range(2):  # a failed attempt leaves no store
        assert "on_error" not in refused(file, str(file), "image 13 (from 0)", said)
