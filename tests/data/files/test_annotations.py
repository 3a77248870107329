"""Lists of landmarks and boxes, as other people write them: one line an image."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from facedistill.data.files.alignment import ARCFACE_TEMPLATE
from facedistill.data.files.annotations import Annotation, Annotations, read_annotations
from facedistill.errors import DataError

KNOWN = [f"{person:07d}/{number:03d}.jpg" for person in (45, 99, 100) for number in range(1, 5)]
STANDARD = "x1 y1 … x5 y5"
Points = np.ndarray


def faces() -> dict[str, Points]:
    """Upright faces, each a little turned, stretched and elsewhere; whole numbers, as many lists have."""
    draw = np.random.default_rng(0)
    found = {}
    for name in KNOWN:
        angle, scale = draw.uniform(-0.4, 0.4), draw.uniform(0.8, 3)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        found[name] = np.round(ARCFACE_TEMPLATE @ turn * scale + draw.normal(0, 2, (5, 2)) + 80)
    return found


FACES = faces()


def numbers(points: Points) -> list[str]:
    return [f"{value:g}" for value in points.ravel()]


def rows(fields: Callable[[str, Points], list[str]], separator: str = " ") -> str:
    return "".join(separator.join(fields(name, points)) + "\n" for name, points in FACES.items())


def plain(name: str, points: Points) -> list[str]:
    return [name, *numbers(points)]


def labelled(name: str, points: Points) -> list[str]:
    return [name, str(int(name.split("/")[0]) % 7), *numbers(points)]


def read(path: Path, text: str | bytes, kind: str = "landmarks", on_error: str = "raise") -> Annotations:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_annotations(path, kind, KNOWN, Path("/images"), on_error)


def points_of(found: Annotations) -> dict[str, list[list[float]]]:
    return {name: each.values.tolist() for name, each in found.of.items() if isinstance(each, Annotation)}


EXPECTED = {name: points.tolist() for name, points in FACES.items()}
XS_FIRST = rows(lambda name, points: [name, *numbers(points.T)])
FORMS: dict[str, str | bytes] = {
    "plain": rows(plain),
    "tabs": rows(plain, "\t"),
    "commas": rows(plain, ","),
    "commas and blanks": rows(plain, ", "),
    "semicolons": rows(plain, ";"),
    "CRLF": rows(plain).replace("\n", "\r\n"),
    "UTF-8 with a byte order mark": b"\xef\xbb\xbf" + rows(plain).encode(),
    "UTF-16, little endian": b"\xff\xfe" + rows(plain).encode("utf-16-le"),
    "UTF-16, big endian": b"\xfe\xff" + rows(plain, "\t").encode("utf-16-be"),
    "a header": "path x1 y1 x2 y2 x3 y3 x4 y4 x5 y5\n" + rows(plain),
    "a header of a csv": ",".join(["image_path", "label", *"abcdefghij"]) + "\n" + rows(labelled, ","),
    "CelebA's header of two lines": f"{len(KNOWN)}\nlefteye_x lefteye_y righteye_x\n" + rows(plain),
    "an identity as in CASIA's list": rows(labelled, "\t"),
    "an identity by its name": rows(lambda name, points: [name, name.split("/")[0] + "x", *numbers(points)]),
    "pandas' index": ",path,x1,y1\n" + rows(lambda name, points: [str(KNOWN.index(name)), *plain(name, points)], ","),
    "quotes": rows(lambda name, points: [f'"{name}"', *numbers(points)], ","),
    "backslashes": rows(lambda name, points: [name.replace("/", "\\"), *numbers(points)]),
    "./": rows(lambda name, points: [f"./{name}", *numbers(points)]),
    "the folder of the set": rows(lambda name, points: [f"CASIA-WebFace/{name}", *numbers(points)]),
    "absolute": rows(lambda name, points: [f"/data/my faces/CASIA/{name}", *numbers(points)]),
    "absolute, on Windows": rows(lambda name, points: ["C:\\sets\\" + name.replace("/", "\\"), *numbers(points)]),
    "another suffix": rows(lambda name, points: [name.replace(".jpg", ".PNG"), *numbers(points)]),
    "InsightFace's, with boxes, x first": rows(
        lambda name, points: ["0", f"/raid/{name}", "7", "1", "2", "3", "4", *numbers(points.T)], "\t"
    ),
    "a score at the end": rows(lambda name, points: [*plain(name, points), "0.99"]),
    "an identity, a box and a score": rows(
        lambda name, points: [name, "3", "10", "20", "110", "140", *numbers(points), "0.99"], ","
    ),
    "size and x first": rows(lambda name, points: [name, *numbers(points.T), "250", "250"]),
    "x1 … x5 y1 … y5": XS_FIRST,
    "left and right of the person": rows(lambda name, points: [name, *numbers(points[[1, 0, 2, 4, 3]])]),
    "both": rows(lambda name, points: [name, "3", *numbers(points[[1, 0, 2, 4, 3]].T)], ","),
    "y before x": rows(lambda name, points: [name, *numbers(points[:, ::-1])]),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_lists(tmp_path: Path, form: str) -> None:
    found = read(tmp_path / "list", FORMS[form])
    assert points_of(found) == EXPECTED
    assert found.elsewhere == 0


def test_a_name_without_a_folder_is_that_of_the_only_image_called_so(tmp_path: Path) -> None:
    """A folder that is not there is no folder left out: its image is another one."""
    known = ["45/1.jpg", "45/2.jpg", "99/2.jpg", "99/deep/3.jpg", "2.png", "4.jpg"]
    names = ["1.jpg", "2.jpg", "3.png", "nowhere/1.jpg", "x\\3.jpg", "4.jpg", "5.jpg"]
    lines = [" ".join([name, *numbers(FACES[KNOWN[i]])]) for i, name in enumerate(names)]
    (tmp_path / "list").write_text("\n".join(lines))
    found = read_annotations(tmp_path / "list", "landmarks", known, Path("/images"), "raise")
    assert points_of(found) == {
        name: FACES[KNOWN[i]].tolist()
        for name, i in (("45/1.jpg", 0), ("2.png", 1), ("99/deep/3.jpg", 2), ("4.jpg", 5))
    }
    assert found.elsewhere == 3
    known.remove("2.png")
    found = read_annotations(tmp_path / "list", "landmarks", known, Path("/images"), "raise")
    assert set(found.of) == {"45/1.jpg", "99/deep/3.jpg", "4.jpg"}  # 2.jpg may be either


def test_the_order_is_that_of_the_whole_list(tmp_path: Path) -> None:
    """Also where some rows alone would look like faces in the usual order."""
    assert read(tmp_path / "list", FORMS["plain"]).order == STANDARD
    found = read(tmp_path / "list", XS_FIRST)
    assert found.order == "x1 … x5 y1 … y5"
    narrow = ARCFACE_TEMPLATE * [0.1, 1]
    odd = " ".join([KNOWN[0], *numbers(narrow)]) + "\n" + "".join(XS_FIRST.splitlines(keepends=True)[1:])
    found = read(tmp_path / "list", odd)
    assert found.order == "x1 … x5 y1 … y5"
    del (expected := dict(EXPECTED))[KNOWN[0]]
    assert {name: points for name, points in points_of(found).items() if name != KNOWN[0]} == expected


def test_faces_that_lie_on_their_side_are_in_the_usual_order(tmp_path: Path) -> None:
    for turned in ([[0.0, 1.0], [-1.0, 0.0]], [[0.0, -1.0], [1.0, 0.0]]):
        found = read(tmp_path / "list", rows(lambda name, points: [name, *numbers(points @ turned + 300)]))  # noqa: B023
        assert found.order == STANDARD


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (rows(lambda name, points: [name, *numbers(points[[4, 2, 0, 1, 3]])]), "no face has such landmarks"),
        (rows(lambda name, points: [name, *numbers(points[:2])]), "its lines have 4 values"),
        (rows(lambda name, points: [f"{name}x", *numbers(points)]), f"names no image of /images: .*{KNOWN[0]}"),
        (rows(plain).replace("/0", "/set b/0"), f"names no image of /images: .*{KNOWN[0]}"),
        ("", f"names no image of /images: it has no lines, an image there is {KNOWN[0]}"),
        ("image x1 y1\n", "names no image of /images: it has no lines"),
    ],
    ids=["another order", "boxes", "names of no image", "folders in between", "nothing", "a header alone"],
)
def test_lists_that_are_refused_as_a_whole(tmp_path: Path, text: str, said: str, on_error: str) -> None:
    with pytest.raises(DataError, match=rf"^{re.escape(str(tmp_path / 'list'))}.*{said}"):
        read(tmp_path / "list", text, on_error=on_error)


def test_lines_for_other_images_are_counted_and_not_looked_at(tmp_path: Path) -> None:
    others = "0000045/777.jpg 1 2 3\n0000777/001.jpg x\n"
    found = read(tmp_path / "list", others + rows(plain) + rows(plain).replace("0000", "1111"))
    assert points_of(found) == EXPECTED
    assert found.elsewhere == 2 + len(KNOWN)


def test_an_image_that_two_lines_could_mean_is_a_fault(tmp_path: Path) -> None:
    text = rows(plain) + f"train/{KNOWN[3]} " + " ".join(numbers(FACES[KNOWN[3]]))
    with pytest.raises(DataError, match=f"line 13: a second line for {KNOWN[3]}.*on_error=skip"):
        read(tmp_path / "list", text)
    found = read(tmp_path / "list", text, on_error="skip")
    assert "a second line" in str(found.of[KNOWN[3]])
    assert len(points_of(found)) == len(KNOWN) - 1


def test_a_list_never_guesses_between_two_images(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(" ".join(["a/1.webp", *numbers(ARCFACE_TEMPLATE)]) + "\n")
    with pytest.raises(DataError, match="names no image"):
        read_annotations(tmp_path / "list", "landmarks", ["a/1.jpg", "a/1.png"], Path("/images"), "raise")


def test_images_deeper_than_the_list_says(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(
        "".join(f"{name} {' '.join(numbers(ARCFACE_TEMPLATE))}\n" for name in ("a/1.jpg", "a/2.jpg"))
    )
    known = ["train/a/1.jpg", "train/a/2.jpg", "val/a/2.jpg"]
    found = read_annotations(tmp_path / "list", "landmarks", known, Path("/images"), "raise")
    assert (list(found.of), found.elsewhere) == (["train/a/1.jpg"], 1)


def test_accents_as_one_character_or_two(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(" ".join(["Zoe\u0308/1.jpg", *numbers(ARCFACE_TEMPLATE)]) + "\n")
    found = read_annotations(tmp_path / "list", "landmarks", ["Zo\u00eb/1.jpg"], Path("/images"), "raise")
    assert list(found.of) == ["Zo\u00eb/1.jpg"]


def test_one_bad_line_is_named_with_its_number(tmp_path: Path) -> None:
    lines = FORMS["an identity as in CASIA's list"].splitlines()  # type: ignore[union-attr]
    lines[4] = lines[4].rpartition("\t")[0]
    with pytest.raises(DataError, match=r"list, line 5: 10 values, expected 11, 10 of them x y of left eye.*skip"):
        read(tmp_path / "list", "\n".join(lines))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    ["{} 1 2 30 40", "{}\t1\t2\t30\t40", "{},1,2,30,40", "./{} 1 2 30 40", "/a b/{} 12 1 2 30 40", "3,{},0,1,2,30,40"],
)
@pytest.mark.parametrize("header", ["", "path label x y w h\n"])
def test_boxes_have_the_same_forms(tmp_path: Path, line: str, header: str) -> None:
    found = read(tmp_path / "list", header + "".join(line.format(name) + "\n" for name in KNOWN), "boxes")
    assert points_of(found) == {name: [1, 2, 30, 40] for name in KNOWN}


def test_whatever_is_in_a_list_is_read_or_refused(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    whole = [text if isinstance(text, bytes) else text.encode() for text in FORMS.values()]
    bits = [b"nan", b"1e999", b"-1", b"\n", b"\0", b",", b"\t", b"\xff", b"9" * 30, b"1_0", b".jpg"]
    read_whole = 0
    for turn in range(100):
        content = whole[turn % len(whole)]
        for at in draw.integers(0, len(content), draw.integers(1, 4)):
            content = content[:at] + bits[draw.integers(len(bits))] + content[at + draw.integers(0, 9) :]
        with suppress(DataError):
            assert len(read(tmp_path / "list", content).of) > 0
            read_whole += 1
    assert 3 < read_whole < 97
