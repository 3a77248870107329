"""Lists of pairs in the forms of LFW, Kaggle, CALFW, CPLFW and others, written here from their descriptions."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from facedistill.data.files.formats.pair_lists import PairList, read_pairs
from facedistill.errors import DataError

FOLDS, PER_CLASS = 10, 3
Shot = tuple[str, int]
Pair = tuple[Shot, Shot]


def same_pair(number: int) -> Pair:
    return (f"Same_{number}", 1), (f"Same_{number}", number + 2)


def other_pair(number: int) -> Pair:
    return (f"Ann_{number}", number + 1), (f"Bob_O'{number}", 12)


def numbered(pair: Pair, separator: str = "\t") -> str:
    (name, first), (other, second) = pair
    return separator.join(map(str, [name, first, second] if name == other else [name, first, other, second]))


def by_folds(per_class: int, folds: int) -> list[Pair]:
    """Of every fold its pairs of one person, then those of two."""
    parts = [range(k * per_class, (k + 1) * per_class) for k in range(folds)]
    return [pair(number) for part in parts for pair in (same_pair, other_pair) for number in part]


IN_FOLDS = by_folds(PER_CLASS, FOLDS)
BY_KIND = by_folds(PER_CLASS * FOLDS, 1)


def file_of(shot: Shot, digits: int = 4) -> str:
    return f"{shot[0]}_{shot[1]:0{digits}d}.jpg"


def path_of(shot: Shot) -> str:
    return f"{shot[0]}/{file_of(shot)}"


def text(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def two_lines(pairs: Sequence[Pair], answer: Callable[[int, Pair], int], digits: int) -> str:
    return text([f"{file_of(shot, digits)} {answer(i, pair)}" for i, pair in enumerate(pairs) for shot in pair])


def is_same(pair: Pair) -> bool:
    return pair[0][0] == pair[1][0]


def kaggle(pairs: Sequence[Pair]) -> str:
    rows = [numbered(pair, ",") + "," * is_same(pair) for pair in pairs]
    return "\r\n".join(["name,imagenum1,imagenum2,", *rows, ""])


# what the file holds, the pairs that it means
LISTS: dict[str, tuple[str, list[Pair]]] = {
    "LFW's": (text([f"{FOLDS}\t{PER_CLASS}", *map(numbered, IN_FOLDS)]), IN_FOLDS),
    "LFW's, blanks": (text([f"{FOLDS} {PER_CLASS}", *(numbered(pair, " ") for pair in IN_FOLDS)]), IN_FOLDS),
    "LFW's without a header": (text([*map(numbered, IN_FOLDS)]), IN_FOLDS),
    "a development file": (text([f"{PER_CLASS * FOLDS}", *map(numbered, BY_KIND)]), BY_KIND),
    "one fold": (text([f"1\t{PER_CLASS * FOLDS}", *map(numbered, BY_KIND)]), BY_KIND),
    "Kaggle's": (kaggle(IN_FOLDS), IN_FOLDS),
    "CALFW's": (two_lines(BY_KIND, lambda i, pair: i // PER_CLASS + 1 if is_same(pair) else 0, 4), BY_KIND),
    "CPLFW's": (two_lines(BY_KIND, lambda i, pair: int(is_same(pair)), 1), BY_KIND),
    "two images in a line": (
        text([f"{path_of(left)} {path_of(right)} {int(left[0] == right[0])}" for left, right in IN_FOLDS]),
        IN_FOLDS,
    ),
}


def read(tmp_path: Path, content: str, name: str = "pairs.txt") -> PairList:
    (tmp_path / name).write_bytes(content.encode())
    return read_pairs([tmp_path / name])


@pytest.mark.parametrize("form", LISTS)
def test_pairs_and_their_folds(tmp_path: Path, form: str) -> None:
    content, expected = LISTS[form]
    found = read(tmp_path, content)
    assert [pair.same for pair in found.pairs] == [is_same(pair) for pair in expected]
    for pair, shots in zip(found.pairs, expected, strict=True):
        for path, (name, number) in zip((pair.left, pair.right), shots, strict=True):
            stem = path.rpartition("/")[2].removesuffix(".jpg")
            assert (stem.removeprefix(f"{name}_").lstrip("0"), path.startswith(name)) == (str(number), True)
    # the folds are those that LFW's header gives to these pairs, whatever their order
    assert found.fold.tolist() == [int(pair[0][0].rpartition("_")[2]) // PER_CLASS for pair in expected]
    assert found.tenths == (form not in ("LFW's", "LFW's, blanks"))


def test_both_halves_of_a_list(tmp_path: Path) -> None:
    same, others = ([numbered(pair, ",") for pair in BY_KIND if is_same(pair) == kind] for kind in (True, False))
    (tmp_path / "a.csv").write_text(text(["name,imagenum1,imagenum2", *same]))
    (tmp_path / "b.csv").write_text(text(["name,imagenum1,name,imagenum2", *others]))
    found = read_pairs([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert [pair.same for pair in found.pairs] == [True] * 30 + [False] * 30
    assert found.fold.tolist() == [i // 3 for i in range(30)] * 2


def test_tenths_of_numbers_that_ten_does_not_divide(tmp_path: Path) -> None:
    found = read(
        tmp_path, text([numbered(pair(i)) for pair, n in ((same_pair, 23), (other_pair, 11)) for i in range(n)])
    )
    same = np.array([pair.same for pair in found.pairs])
    for kind, count in ((True, 23), (False, 11)):
        fold = found.fold[same == kind]
        assert (np.diff(fold) >= 0).all()
        assert {*np.bincount(fold, minlength=10).tolist()} == {count // 10, count // 10 + 1}


@pytest.mark.parametrize("kind", [True, False])
def test_a_list_may_have_one_kind_only(tmp_path: Path, kind: bool) -> None:
    found = read(tmp_path, text([numbered((same_pair if kind else other_pair)(i)) for i in range(30)]))
    assert {pair.same for pair in found.pairs} == {kind}
    assert np.bincount(found.fold).tolist() == [3] * 10


REFUSED: dict[str, tuple[str, str]] = {
    "few of a kind": (
        text([*map(numbered, map(same_pair, range(30))), numbered(other_pair(0))]),
        "1 pairs of two people, too few",
    ),
    "nothing": ("", "line 1: no pairs"),
    "a header alone": ("name,imagenum1,imagenum2,\n", "line 1: no pairs"),
    "half a pair": ("A_0001.jpg 1\n", "line 1: expected `image 1`, the second of a pair"),
    "answers that differ": ("A_0001.jpg 1\nA_0002.jpg 0\n", "line 1: expected `image 1`"),
    "half a pair between pairs": ("A_0001.jpg 1\nA_0002.jpg 1\nB_0001.jpg 0\nC 1 2\n", "line 3: expected `image 0`"),
    "five columns": ("A\t1\tB\t2\t3\n", "line 1: 'A 1 B 2 3' is no pair"),
    "names only": ("name,other\nA,B\n", "line 2: 'A B' is no pair"),
    "a number of letters": ("A\t1\ttwo\n", "line 1: 'two' is not the number of an image"),
    "one person as two": ("A\t1\tA\t2\n", "line 1: expected `name i other j`, images of two people"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_lists_that_are_refused(tmp_path: Path, kind: str) -> None:
    content, said = REFUSED[kind]
    with pytest.raises(DataError) as refusal:
        read(tmp_path, content)
    assert said in str(refusal.value)
    assert str(refusal.value).startswith(str(tmp_path / "pairs.txt"))


def test_whatever_is_in_a_list_is_read_or_refused(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    whole = [content.encode() for content, _ in LISTS.values()]
    read = 0
    for turn in range(100):
        content = bytearray(whole[turn % len(whole)])
        for at in draw.integers(0, len(content), draw.integers(1, 6)):
            content[at] = draw.integers(0, 256)
        (tmp_path / "list").write_bytes(content[draw.integers(0, 20) :])
        with suppress(DataError):
            found = read_pairs([tmp_path / "list"])
            read += 1
            assert len(found.pairs) == len(found.fold) > 0
    assert 3 < read < 97
