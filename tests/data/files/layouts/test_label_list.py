"""Images in any folders, with a list of their labels."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facedistill.data.faces import FaceSet
from facedistill.data.sources.identity_images import IdentityImages
from facedistill.data.sources.source import is_test_sample
from facedistill.errors import DataError

SIZE = 16
PEOPLE = {"ann": 10, "bob": 12}


def labelled(root: Path, inside: str = "") -> dict[str, str]:
    """Images without folders of identities, each of its own grey; their labels by their paths in ``inside``."""
    (root / inside).mkdir(parents=True, exist_ok=True)
    labels = {}
    for person, count in PEOPLE.items():
        for _ in range(count):
            name = f"{len(labels):03d}.png"
            Image.new("L", (SIZE, SIZE), 5 * len(labels)).save(root / inside / name)
            labels[name] = person
    return labels


def write(path: Path, labels: dict[str, str], pattern: str = "{}\t{}\n") -> Path:
    path.write_text("".join(pattern.format(name, label) for name, label in labels.items()))
    return path


def source(root: Path, on_error: str = "raise", **words: Any) -> IdentityImages:
    return IdentityImages("mine", str(root), 1, "centre", 0, None, None, on_error, **words)


def read(root: Path, on_error: str = "raise") -> FaceSet:
    return source(root, on_error).faces(SIZE, Path(f"{root}-cache"))


def is_whole(faces: FaceSet, names: list[str]) -> None:
    """These are all images, in the order of labels and names, and each is on the side that its name says."""
    assert faces.identities == ["ann", "bob"]
    assert faces.labels.tolist() == [0] * 10 + [1] * 12
    assert faces.images[:, 0, 0, 0].tolist() == [5 * number for number in range(22)]
    assert faces.is_test.tolist() == [is_test_sample(name) for name in names]
    assert faces.counts["images"] == 22


PLACES = {
    "beside the list": ("", "{}\t{}\n"),
    "in a folder that is named": ("images", "images/{}\t{}\n"),
    "in a folder that is not named": ("images", "{}\t{}\n"),
    "in folders that are not named": ("set/images", "{},{}\n"),
    "with backslashes": ("images", ".\\images\\{}\t{}\n"),
    "with a dot": ("images", "./images/{} {}\n"),
    "of another machine": ("images", "/home/me/set/images/{} {}\n"),
    "of another machine, beside": ("", "C:\\set\\{},{}\n"),
    "above": ("images", "../set/images/{}\t{}\n"),
}


@pytest.mark.parametrize("place", PLACES)
def test_images_are_found_wherever_they_are(tmp_path: Path, place: str) -> None:
    inside, pattern = PLACES[place]
    root = tmp_path / "faces"
    labels = labelled(root, inside)
    write(root / "label.txt", labels, pattern)
    names = [str(Path(inside) / name) for name in labels]
    is_whole(read(root), names)
    assert source(root / "label.txt").identity() == source(root).identity()


@pytest.mark.parametrize("name", ["label.txt", "Labels.csv", "identity.tsv", "identities.lst"])
def test_a_list_is_known_by_its_name_or_named(tmp_path: Path, name: str) -> None:
    labels = labelled(tmp_path / "faces")
    (tmp_path / "faces" / "README.txt").write_text("my faces")
    listed = write(tmp_path / "faces" / name, labels)
    is_whole(read(tmp_path / "faces"), list(labels))
    if not name.endswith(".tsv"):  # a .tsv of another name is MS-Celeb-1M's
        listed.rename(tmp_path / "faces" / f"my {name}")
        is_whole(read(tmp_path / "faces" / f"my {name}"), list(labels))
        with pytest.raises(DataError, match=r"data.root=LIST"):
            read(tmp_path / "faces")


def test_two_lists_are_named(tmp_path: Path) -> None:
    labels = labelled(tmp_path)
    for name in ("label.txt", "labels.csv"):
        write(tmp_path / name, labels)
    with pytest.raises(DataError, match=r"label.txt, labels.csv: name one, data.root=.*label.txt"):
        source(tmp_path).identity()


def test_folders_of_identities_stay_so_beside_a_list(tmp_path: Path) -> None:
    for person in ("ann", "bob"):
        labelled(tmp_path / "faces" / person)
    before = source(tmp_path / "faces").identity()
    listed = write(tmp_path / "faces" / "label.txt", {f"ann/{i:03d}.png": str(i % 2) for i in range(22)})
    assert source(tmp_path / "faces").identity() == before
    assert f"data.root={listed} would use" in str(source(tmp_path / "faces").inventory(tmp_path).notes)
    assert read(listed).identities == ["0", "1"]


def test_a_list_of_the_whole_set_serves_a_part_of_it(tmp_path: Path) -> None:
    labels = labelled(tmp_path / "faces", "ann and bob")
    listed = {f"ann and bob/{name}": label for name, label in labels.items()}
    write(tmp_path / "faces" / "label.txt", {f"others/{name}": "cid" for name in labels} | listed)
    for name in ("x.png", "y.heic", ".z.png"):
        (tmp_path / "faces" / "ann and bob" / name).write_bytes(b"not read")
    faces = read(tmp_path / "faces")
    is_whole(faces, list(listed))
    counts = {"listed_images_not_there": 22, "images_not_listed": 1, "images_not_read": 1, "left_by_systems": 1}
    assert counts.items() <= faces.counts.items()
    assert faces.counts["skipped"] == 0


FAULTS = {
    "no label": "001.png\n",
    "an empty label": "001.png\t\n",
    "another label": "000.png\tbob\n",
    "another form": "000.png,bob\n",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_line_at_fault_is_named_or_skipped_and_counted(tmp_path: Path, fault: str) -> None:
    labels = labelled(tmp_path / "faces")
    listed = write(tmp_path / "faces" / "label.txt", labels)
    listed.write_text(listed.read_text() + FAULTS[fault])
    with pytest.raises(DataError, match=r"label.txt, line 23: .*data.on_error=skip"):
        read(tmp_path / "faces")
    faces = read(tmp_path / "faces", "skip")
    is_whole(faces, list(labels))
    assert faces.counts["skipped"] == 1


def test_a_second_line_that_says_the_same_is_none(tmp_path: Path) -> None:
    labels = labelled(tmp_path / "faces")
    listed = write(tmp_path / "faces" / "label.txt", labels)
    listed.write_text(2 * listed.read_text())
    is_whole(read(tmp_path / "faces"), list(labels))


def test_nothing_outside_of_the_folder_is_ever_opened(tmp_path: Path) -> None:
    labels = labelled(tmp_path / "secret")
    inside = {name.replace("0", "9", 1): label for name, label in labelled(tmp_path / "faces" / "inside").items()}
    for path in sorted((tmp_path / "faces" / "inside").iterdir()):
        path.rename(path.with_name(path.name.replace("0", "9", 1)))
    outside = {f"../secret/{name}": label for name, label in labels.items()}
    outside |= {f"{tmp_path}/secret/{name}": label for name, label in labels.items()}
    write(tmp_path / "faces" / "label.txt", outside | inside)
    faces = read(tmp_path / "faces")
    assert faces.counts["images"] == 22
    assert faces.counts["listed_images_not_there"] == 44
    write(tmp_path / "faces" / "label.txt", outside)
    with pytest.raises(DataError, match=r"label.txt names no image that is there: its first is \.\./secret/000.png"):
        read(tmp_path / "faces")


def test_accents_in_either_encoding(tmp_path: Path) -> None:
    labels = labelled(tmp_path / "faces")
    name = unicodedata.normalize("NFD", "é.png")
    (tmp_path / "faces" / "000.png").rename(tmp_path / "faces" / name)
    del labels["000.png"]
    write(tmp_path / "faces" / "label.txt", {unicodedata.normalize("NFC", name): "ann"} | labels)
    assert read(tmp_path / "faces").counts["images"] == 22


def test_the_identity_has_the_labels_but_not_the_list(tmp_path: Path) -> None:
    labels = labelled(tmp_path)
    listed = write(tmp_path / "label.txt", labels)
    before = source(tmp_path).identity()
    write(listed, labels, "{},{}\n")
    assert source(tmp_path).identity() == before
    write(listed, labels | {"000.png": "bob"})
    assert source(tmp_path).identity() != before
    np.testing.assert_array_equal(read(tmp_path).labels, [0] * 9 + [1] * 13)


@pytest.mark.parametrize("words", [{"split": "folders"}, {"nested": True}])
def test_words_about_folders_are_refused(tmp_path: Path, words: dict[str, Any]) -> None:
    write(tmp_path / "label.txt", labelled(tmp_path))
    with pytest.raises(DataError, match=r"are for folders, not for .*label.txt"):
        source(tmp_path, **words).identity()
