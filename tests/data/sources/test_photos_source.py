"""Faces without labels: trees of images written here, intact and damaged, and the real ones if they are available."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from facedistill.config.compose import compose_config
from facedistill.data.faces import FaceSet
from facedistill.data.files.alignment import ARCFACE_TEMPLATE, align
from facedistill.data.files.photos import open_photo
from facedistill.data.sources import photos
from facedistill.data.sources.photos import Photos
from facedistill.data.sources.source import build_source, is_test_sample
from facedistill.errors import DataError

SIZE = 16
NAMES = ["a.png", "deep/er/b.png", "deep/c.png", *(f"many/{i}.png" for i in range(7))]  # as folders are walked
ORDER = ["a.png", "deep/c.png", "deep/er/b.png", *(f"many/{i}.png" for i in range(7))]


def photograph(path: Path, value: int) -> None:
    """Told from others by its value; noise, so that its alignment shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def tree(root: Path, names: list[str] = NAMES, first: int = 0) -> Path:
    for number, name in enumerate(names):
        photograph(root / name, first + number)
    return root


def points(number: int) -> NDArray[np.float64]:
    return np.round(ARCFACE_TEMPLATE / 4 + [number, 3], 2)


def listed(path: Path, names: list[str], first: int = 0) -> None:
    rows = [[name, *map(str, points(first + number).ravel())] for number, name in enumerate(names)]
    path.write_text("".join(" ".join(row) + "\n" for row in rows))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "photos")


def source(
    root: object, alignment: object = "centre", landmarks: object = None, on_error: str = "raise", **words: object
) -> Photos:
    roots = list(map(str, root)) if isinstance(root, list) else str(root)
    node = {"type": "photos", "name": "photos", "root": roots, "alignment": alignment, "landmarks": landmarks}
    built = build_source(
        {**node, "leave_out": None, "every_face": False, "test_share": 0.2, "on_error": on_error, **words}
    )
    assert isinstance(built, Photos)
    return built


def read(root: object, *words: object, size: int = SIZE, **more: object) -> FaceSet:
    top = Path(str([*root, "."][0] if isinstance(root, list) else root))
    return source(root, *words, **more).faces(size, top.parent / "cache")


def squares(paths: list[Path], size: int = SIZE) -> list[NDArray[np.uint8]]:
    """The centre squares of images of 60 × 40 pixels."""
    opened = [Image.open(path).resize((size, size), Image.Resampling.BILINEAR, (10, 0, 50, 40)) for path in paths]
    return [np.asarray(image) for image in opened]


def refused(root: object, *words: object, said: list[str], **more: str) -> None:
    with pytest.raises(DataError) as refusal:
        read(root, *words, **more)
    missing = [word for word in said if word not in str(refusal.value)]
    assert not missing, refusal.value


def test_every_image_of_a_tree_in_the_order_of_the_names_split_by_them(root: Path) -> None:
    faces = read(root)
    np.testing.assert_array_equal(faces.images, squares([root / name for name in ORDER]))
    assert faces.is_test.tolist() == [is_test_sample(name) for name in ORDER]
    assert faces.labels.tolist() == [0] * len(ORDER)
    assert (faces.identities, faces.landmarks, faces.crop_boxes, faces.pairs) == ([], None, None, None)
    assert faces.counts == {"images": 10, "identities": 0, "skipped": 0}


def test_a_twentieth_is_held_out_and_what_is_tested_then_is_tested_at_every_larger_share(tmp_path: Path) -> None:
    """1,000 names, of which 50 are expected: six standard deviations are 41."""
    assert compose_config(["data=photos", "data.root=x", "task.needs=faces"]).data["test_share"] == 0.05
    (tmp_path / "photos").mkdir()
    for number in range(1000):
        (tmp_path / "photos" / f"{number}.png").touch()
    few, many = (
        source(tmp_path / "photos", test_share=share).samples(tmp_path / "cache").is_test for share in (0.05, 0.2)
    )
    assert 9 < few.sum() < 91
    assert 125 < many.sum() < 275
    assert not (few & ~many).any()


@pytest.mark.parametrize("share", [0, 1.0, -0.1, float("nan"), "some", None, True])
def test_a_share_that_leaves_nothing_on_one_side_is_refused(root: Path, share: object) -> None:
    with pytest.raises(DataError, match=r"data.test_share=.* must be a number between 0 and 1, as 0.05"):
        source(root, test_share=share)


def test_folders_merge_in_the_order_in_which_they_are_named(root: Path, tmp_path: Path) -> None:
    other = tree(tmp_path / "others", ["a.png", "z.png"], first=50)
    faces = read([other, root])
    paths = [other / "a.png", other / "z.png", *(root / name for name in ORDER)]
    np.testing.assert_array_equal(faces.images, squares(paths))
    assert faces.is_test.tolist() == [is_test_sample(name) for name in ("a.png", "z.png", *ORDER)]


def test_a_copy_of_a_folder_elsewhere_is_the_same_data(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "elsewhere" / "copied")
    copied = source(tmp_path / "elsewhere" / "copied")
    assert copied.identity() == source(root).identity()
    np.testing.assert_array_equal(copied.faces(SIZE, tmp_path / "cache").is_test, read(root).is_test)


@pytest.mark.parametrize(
    "change", ["an image more", "another size", "another alignment", "another list", "two folders", "another share"]
)
def test_what_changes_the_faces_changes_the_identity(root: Path, tmp_path: Path, change: str) -> None:
    listed(root / "points.txt", NAMES)
    words: tuple[object, ...] = (root, "similarity", "points.txt")
    before = source(*words).identity()
    if change == "an image more":
        photograph(root / "z.png", 99)
    elif change == "another size":
        Image.new("RGB", (40, 40)).save(root / "a.png")
    elif change == "another alignment":
        words = (root, "none", "points.txt")
    elif change == "another list":
        listed(root / "points.txt", NAMES, first=1)
    else:
        more = tree(tmp_path / "more", ["x.png"], first=70)
        words = ([root, more], ["similarity", "centre"], "points.txt")
    assert source(*words).identity() != before
    assert (
        source(root, "similarity", "points.txt", "skip").identity()
        == source(root, "similarity", "points.txt").identity()
    )


def test_equal_files_count_once_wherever_they_are(root: Path, tmp_path: Path) -> None:
    """The first counts; one with another name may be on the other side, and be tested though it is trained on."""
    others = tmp_path / "others"
    others.mkdir()
    train = next(name for name in ORDER if not is_test_sample(name))
    test = next(f"{i}.png" for i in range(99) if is_test_sample(f"{i}.png"))
    shutil.copy(root / train, others / test)
    (root / "zz").mkdir()
    shutil.copy(root / train, root / "zz" / "copy.png")
    (root / "zz" / "link.png").symlink_to(root / ORDER[-1])
    photograph(others / "own.png", 77)
    faces = read([root, others])
    np.testing.assert_array_equal(faces.images, squares([*(root / name for name in ORDER), others / "own.png"]))
    assert faces.counts["copies_of_other_images"] == 3
    assert faces.counts["images"] == 11
    assert faces.is_test.tolist() == [is_test_sample(name) for name in (*ORDER, "own.png")]


def test_files_are_compared_once_and_only_those_of_equal_length(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(NAMES):
        (root / name).write_bytes((root / name).read_bytes() + bytes(number))
    shutil.copy(root / "a.png", root / "b.png")
    compared: list[Path] = []
    digest = photos._digest
    monkeypatch.setattr(photos, "_digest", lambda path: (compared.append(path), digest(path))[1])
    cache = tmp_path / "cache"
    first = source(root).inventory(cache)
    assert sorted(path.name for path in compared) == ["a.png", "b.png"]
    assert source(root).inventory(cache).stamp == first.stamp
    assert len(compared) == 2
    photograph(root / "b.png", 5_000)  # as long, but no copy any more
    assert len(source(root).inventory(cache).labels) == len(first.labels) + 1


@pytest.mark.parametrize("size", [SIZE, 31])
def test_a_list_of_landmarks_aligns(root: Path, size: int) -> None:
    listed(root / "points.txt", NAMES)
    faces = read(root, "similarity", "points.txt", size=size)
    expected = [align(open_photo(root / name), points(NAMES.index(name)), size) for name in ORDER]
    np.testing.assert_array_equal(faces.images, expected)
    assert faces.landmarks is None


def test_images_that_the_list_does_not_name_are_left_out_and_counted(root: Path) -> None:
    listed(root / "points.txt", [*NAMES[:6], "nowhere.png"])
    faces = read(root, "similarity", "points.txt")
    left = [name for name in ORDER if name in NAMES[:6]]
    np.testing.assert_array_equal(
        faces.images, [align(open_photo(root / name), points(NAMES.index(name)), SIZE) for name in left]
    )
    expected = {"images": 6, "skipped": 0, "images_without_landmarks": 4, "lines_for_other_images": 1}
    assert {name: faces.counts.get(name) for name in expected} == expected


def test_a_list_may_name_files_without_their_folders(root: Path) -> None:
    listed(root / "points.txt", [Path(name).name for name in NAMES])
    assert read(root, "similarity", "points.txt").counts["images"] == len(NAMES)


def test_every_folder_may_have_its_own_alignment_and_list(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "celeba"
    for number in range(3):
        noise = np.random.default_rng(90 + number).integers(0, 256, (109, 89, 3), dtype=np.uint8)
        other.mkdir(exist_ok=True)
        Image.fromarray(noise).save(other / f"{number}.png")
    listed(tmp_path / "points.txt", NAMES)
    one, two = (read(root, "similarity", f"{tmp_path}/points.txt"), read(other, "celeba"))
    for landmarks in (["../points.txt", None], "../points.txt"):  # one for all: it is read where it is needed
        faces = read([root, other], ["similarity", "celeba"], landmarks)
        np.testing.assert_array_equal(faces.images, [*one.images, *two.images])


def test_aligned_faces_are_taken_as_they_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 112, 112, 3), dtype=np.uint8)
    (tmp_path / "faces").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "faces" / f"{number}.png")
    np.testing.assert_array_equal(read(tmp_path / "faces", "none", size=112).images, pixels)


def test_an_image_that_is_none_stops_or_is_skipped(root: Path) -> None:
    (root / "deep" / "broken.jpg").write_bytes(b"<html>not found</html>")
    refused(root, said=[str(root / "deep" / "broken.jpg"), "HTML", "data.on_error=skip"])
    faces = read(root, on_error="skip")
    assert faces.counts == {"images": 10, "identities": 0, "skipped": 1}


def test_a_bad_line_stops_or_is_skipped(root: Path) -> None:
    listed(root / "points.txt", NAMES)
    text = (root / "points.txt").read_text().splitlines()
    far = " ".join(["many/0.png", *map(str, (points(3) + 500).ravel())])
    (root / "points.txt").write_text("\n".join(["a.png 1 2 three 4 5 6 7 8 9 10", *text[1:3], far, *text[4:]]))
    refused(root, "similarity", "points.txt", said=["points.txt, line 1", "not a number", "data.on_error=skip"])
    faces = read(root, "similarity", "points.txt", on_error="skip")
    assert (faces.counts["images"], faces.counts["skipped"]) == (8, 2)


def test_an_unreadable_file_of_equal_length_is_no_copy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("y.jpg", "z.jpg"):
        (root / name).write_bytes(b"one")
    real = photos.sha256

    def failing(path: Path) -> str:
        if path.suffix == ".jpg":
            raise OSError(5, "Input/output error", str(path))
        return real(path)

    monkeypatch.setattr(photos, "sha256", failing)
    assert len(source(root).inventory(root.parent / "cache").labels) == 12


def empty(root: Path) -> list[object]:
    (root.parent / "empty" / "inner").mkdir(parents=True)
    (root.parent / "empty" / "notes.txt").touch()
    return [root.parent / "empty"]


def archive(root: Path) -> list[object]:
    (root.parent / "packed").mkdir()
    (root.parent / "packed" / "faces.zip").touch()
    return [root.parent / "packed"]


def of_others(root: Path) -> list[object]:
    listed(root / "points.txt", ["x/1.jpg", "x/2.jpg"])
    return [root, "similarity", "points.txt"]


def bad_lines(root: Path) -> list[object]:
    (root / "points.txt").write_text("a.png 1 2 three 4 5 6 7 8 9 10\n")
    return [root, "similarity", "points.txt"]


def one_side(root: Path) -> list[object]:
    name = next(f"{i}.png" for i in range(99) if not is_test_sample(f"{i}.png"))
    return [tree(root.parent / "one", [name])]


REFUSED: dict[str, tuple[Callable[[Path], list[object]], list[str]]] = {
    "missing": (lambda root: [f"{root}s"], ["photoss does not exist", "Did you mean", "photos?"]),
    "one of two is missing": (lambda root: [[root, root / "no"]], ["photos/no does not exist", "data.root=FOLDER"]),
    "a file": (lambda root: [root / "a.png"], ["a.png is a file: name a folder"]),
    "no folder": (lambda root: [[]], ["data.root=[] names no folder", "data.root=FOLDER"]),
    "an empty folder": (empty, ["empty: no image is in it, nor in a folder below"]),
    "an archive": (archive, ["unzip"]),
    "one side of the split": (one_side, ["one side of the split with data.test_share=0.2", "more images are needed"]),
    "no such alignment": (
        lambda root: [root, "box"],
        ["data.alignment=box", "similarity, detect, none, celeba, centre"],
    ),
    "no list": (lambda root: [root, "similarity"], ["data.landmarks=FILE", "data.alignment=detect", "none", "centre"]),
    "no such list": (
        lambda root: [root, "similarity", "x.txt"],
        ["photos/x.txt does not exist", "data.landmarks=FILE"],
    ),
    "a list of other images": (of_others, ["points.txt names no image of", "its first is x/1.jpg", "a.png"]),
    "a list of bad lines": (bad_lines, ["points.txt", "no face has such landmarks"]),
    "too few alignments": (
        lambda root: [[root, root, root], ["none", "centre"]],
        ["data.alignment=[none,centre] has 2 values, but data.root names 3"],
    ),
    "a shape that CelebA does not have": (lambda root: [root, "celeba"], ["60×40 pixels", "178×218"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_used_is_refused_with_what_to_type(root: Path, case: str) -> None:
    make, said = REFUSED[case]
    refused(*make(root), said=said)


def test_no_line_that_can_be_used_is_refused_also_where_faults_are_skipped(root: Path) -> None:
    refused(*bad_lines(root), on_error="skip", said=["no line of", "points.txt", "no face has such"])


def test_a_link_in_a_circle_is_a_fault(root: Path) -> None:
    (root / "deep" / "up").symlink_to(root)
    refused(root, said=["remove the link"])
    assert read(root, on_error="skip").counts["images"] == 10


def test_what_a_list_names_is_left_out_counted_and_part_of_the_identity(root: Path, tmp_path: Path) -> None:
    """Of equal files the first counts, so its copy does not stand in for it."""
    shutil.copy(root / "a.png", root / "z.png")
    (tmp_path / "out.txt").write_text("a.png\nmany/3.png\nnowhere.png\n")
    faces = read(root, leave_out="../out.txt")
    left = [name for name in ORDER if name not in ("a.png", "many/3.png")]
    np.testing.assert_array_equal(faces.images, squares([root / name for name in left]))
    assert (faces.counts["images_left_out"], faces.counts["copies_of_other_images"]) == (2, 1)
    assert len(source(root, leave_out="../out.txt").samples(tmp_path / "cache").is_test) == 9  # with the copy
    identity = source(root, leave_out="../out.txt").identity()
    assert identity != source(root).identity()
    (tmp_path / "out.txt").write_text("many/3.png\na.png\n")
    assert source(root, leave_out="../out.txt").identity() == identity
    (tmp_path / "out.txt").write_text("a.png\n")
    assert source(root, leave_out="../out.txt").identity() != identity


def test_every_folder_may_leave_out_its_own(root: Path, tmp_path: Path) -> None:
    other = tree(tmp_path / "others", ["a.png", "z.png"], first=50)
    (tmp_path / "out.txt").write_text("a.png\n")
    faces = read([root, other], leave_out=[None, "../out.txt"])
    np.testing.assert_array_equal(faces.images, squares([*(root / name for name in ORDER), other / "z.png"]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("x.png\n", r"out.txt names no image of .*photos by its path, as a.png"),
        ("\n".join(NAMES), "data.leave_out names every image"),
        ("x" * 3000, "longer than 2000"),
    ],
)
def test_a_list_that_can_not_be_meant_is_refused(root: Path, text: str | None, said: str) -> None:
    if text is not None:
        (root.parent / "out.txt").write_text(text)
    with pytest.raises(DataError, match=said):
        read(root, leave_out="../out.txt")


def test_names_may_be_any_bytes(root: Path) -> None:
    (root / "a.png").rename(root / os.fsdecode(b"caf\xe9\n.png"))
    assert read(root).counts["images"] == 10


def test_several_folders_on_the_command_line(root: Path, tmp_path: Path) -> None:
    other = tree(tmp_path / "my other (2)", ["x.png"], first=60)
    words = ["data=photos", f"data.root=[{root},{other}]", "data.alignment=centre", "task.needs=faces"]
    data = compose_config(words).data
    assert data["root"] == [str(root), str(other)]
    assert len(build_source(data).inventory(tmp_path / "cache").labels) == 11  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"data=identity_folders takes one folder.*data=photos"):
        build_source(compose_config(["data=identity_folders", f"data.root=[{root},{other}]"]).data)


def test_real_faces_of_two_sets(real_faces: Path, tmp_path: Path) -> None:
    """MTFL without the images of LFW, by a shorter list, beside CelebA's."""
    rows = (real_faces / "mtfl" / "annotations.csv").read_text().splitlines()
    (tmp_path / "rows.csv").write_text("\n".join(row for row in rows if ",lfw_5590," not in row))
    roots = [real_faces / "mtfl", real_faces / "celeba5k"]
    inventory = source(roots, ["similarity", "celeba"], [str(tmp_path / "rows.csv"), None]).inventory(tmp_path)
    assert inventory.counts["images_without_landmarks"] == 4151
    copies = inventory.counts["copies_of_other_images"]
    assert 0 < copies < 20
    assert len(inventory.labels) == 10_871 + 5_000 - copies


def test_a_recognizer_knows_celebas_faces_by_their_alignment(real_faces: Path, tmp_path: Path) -> None:
    """The numbers of docs/own-faces.md: EdgeFace-XS on two images each of 150 people."""
    weights = load_file(real_faces / "teachers" / "edgeface_xs.safetensors")
    network = timm.create_model("edgenext_x_small", num_classes=512)
    network.load_state_dict(weights)
    of: dict[str, list[str]] = {}
    for line in (real_faces / "celeba5k" / "identity_CelebA.txt").read_text().splitlines():
        of.setdefault(line.split()[1], []).append(line.split()[0])
    pairs = [names[:2] for names in of.values() if len(names) > 1][:150]
    (tmp_path / "faces").mkdir()
    for number, pair in enumerate(pairs):
        for shot, name in enumerate(pair):
            shutil.copy(real_faces / "celeba5k" / "images" / name, tmp_path / "faces" / f"{number:03d}{shot}.jpg")
    accepted = {}
    for alignment in ("celeba", "centre"):
        images = np.array(read(tmp_path / "faces", alignment, size=112).images)
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        with torch.no_grad():
            found = torch.cat([network.eval()((part - 127.5) / 128) for part in pixels.split(50)]).numpy()
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        similarity, person = found @ found.T, np.arange(300) // 2
        threshold = np.quantile(similarity[person[:, None] != person], 0.99)
        accepted[alignment] = 100 * (similarity[0::2, 1::2].diagonal() > threshold).mean()
    assert accepted["celeba"] > 88, accepted
    assert accepted["centre"] < 60, accepted
