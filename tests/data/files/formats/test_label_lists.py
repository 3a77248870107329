"""Lists of labels in the forms in which people have them, intact and damaged."""

from pathlib import Path
from typing import Any

import pytest

from facedistill.data.files.formats.label_lists import read_labels
from facedistill.errors import DataError
from fuzz import RUNS, damaged, fuzz

EXPECTED = [("a/1.jpg", "3"), ("a/2 b.PNG", "4"), ("c.heic", "3")]
FORMS = {
    "tabs": "a/1.jpg\t3\na/2 b.PNG\t4\nc.heic\t3\n",
    "blanks": "a/1.jpg 3\na/2 b.PNG  4\nc.heic 3\n",
    "commas": "a/1.jpg,3\na/2 b.PNG, 4\nc.heic,3\n",
    "semicolons": "a/1.jpg;3\na/2 b.PNG;4\nc.heic;3\n",
    "quotes": '"a/1.jpg","3"\n"a/2 b.PNG","4"\n"c.heic","3"\n',
    "from Windows": "\ufeffa/1.jpg\t3\r\n\r\na/2 b.PNG\t4\r\nc.heic\t3\r\n",
    "the label first": "3 a/1.jpg\n4 a/2 b.PNG\n3 c.heic\n",
    "the label first, commas": "3,a/1.jpg\n4,a/2 b.PNG\n3,c.heic\n",
    "a header": "path\tlabel\na/1.jpg\t3\na/2 b.PNG\t4\nc.heic\t3\n",
    "a header of blanks": "path label\na/1.jpg 3\na/2 b.PNG 4\nc.heic 3\n",
    "Kaggle's header": "id,label\na/1.jpg,3\na/2 b.PNG,4\nc.heic,3\n",
    "a header of unknown words": "Bild,wer\na/1.jpg,3\na/2 b.PNG,4\nc.heic,3\n",
    "an index and a score": ",image_path,identity,score\n0,a/1.jpg,3,0.5\n1,a/2 b.PNG,4,0.25\n2,c.heic,3,1\n",
    "a name and a label": "name,file,label\nAnn,a/1.jpg,3\nBob,a/2 b.PNG,4\nAnn,c.heic,3\n",
    "no end of line": "a/1.jpg 3\na/2 b.PNG 4\nc.heic 3",
}


def read(path: Path) -> list[tuple[str, str]]:
    return [(line.path, line.label) for line in read_labels(path)]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(tmp_path: Path, form: str) -> None:
    (tmp_path / "list").write_bytes(FORMS[form].encode())
    assert read(tmp_path / "list") == EXPECTED


def test_names_as_labels(tmp_path: Path) -> None:
    for separator in ("\t", ",", " "):
        (tmp_path / "list").write_text(f"1.jpg{separator}Halle Berry\n2.jpg{separator}山田 花子\n")
        assert read(tmp_path / "list") == [("1.jpg", "Halle Berry"), ("2.jpg", "山田 花子")]
    (tmp_path / "list").write_text('file,person\n1.jpg,"Berry, Halle"\nDoe/2.jpg,\n3.jpg\n')
    assert read(tmp_path / "list") == [("1.jpg", "Berry, Halle"), ("Doe/2.jpg", ""), ("3.jpg", "")]
    (tmp_path / "list").write_text("Doe, J/1.jpg 3\nDoe, J/2.jpg 3\n")
    assert read(tmp_path / "list") == [("Doe, J/1.jpg", "3"), ("Doe, J/2.jpg", "3")]


@pytest.mark.parametrize("text", ["", "\n\n", "1.jpg\n2.jpg\n", "ann\nbob\n", "1 2\n3 4\n", "path,label\n", "a b.jpg"])
def test_what_is_no_list_of_labels(tmp_path: Path, text: str) -> None:
    (tmp_path / "list").write_text(text if text != "a b.jpg" else "b.jpg")
    with pytest.raises(DataError, match=r"list: expected a line per image, its path and its label"):
        read(tmp_path / "list")


@pytest.mark.parametrize("text", ["1.jpg,3,0.5\n", "1.jpg 3 0.5\n", "a,b,c\n1.jpg,3,0.5\n"])
def test_of_many_columns_one_must_be_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "list").write_text(text)
    with pytest.raises(DataError, match=r"list has 3 columns: name that of the labels in a header, as one of label,"):
        read(tmp_path / "list")


WORDS = [b"\t", b",", b" ", b'"', b"\n", b"\r", b"\0", b".jpg", b"../", b"\xff", b"\xe2\x80\xa8", b"label"]


@pytest.mark.parametrize(("count", "seed"), RUNS)
def test_a_damaged_list_is_read_or_refused(tmp_path: Path, count: int, seed: int) -> None:
    whole = [form.encode() for form in FORMS.values()]

    def judge(files: dict[str, bytes], found: Any) -> str:
        if isinstance(found, DataError):
            return "refused"
        text = files[".txt"].decode("utf-8-sig", "surrogateescape")
        assert len(found) <= len(text.splitlines())
        assert all(cell.replace('"', "") in text.replace('"', "") for row in found for cell in row)
        return "read"

    tally = fuzz(tmp_path, count, seed, lambda draw: {".txt": damaged(draw.choice(whole), draw, WORDS)}, read, judge)
    assert min(tally["read"], tally["refused"]) > count / 50, tally
