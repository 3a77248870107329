"""Verification sets as Python 2 and 3 pickle them, damaged ones, and pickles that want to be run."""

import io
import os
import pickle
import random
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facedistill.data.files.formats import inert_pickle
from facedistill.data.files.formats.verification_bin import VerificationPairs, read_verification_bin
from facedistill.errors import DataError
from fuzz import RUNS, damaged, fuzz

SAME = [True, False, False, True]
JPEG = b"\xff\xd8\xff\xe0"
# every byte, quotes and line ends, a short one, one with a length of two bytes and one of three
IMAGES = [
    JPEG + bytes(range(256)),
    b"'\"\\\n\r\\n\\x00'",
    b"\x89PNG\r\n\x1a\n",
    JPEG * 10,
    b"q",
    b"\x00",
    b".",
    JPEG * 17000,
]


# A writer of its own, from the operations that pickletools.py documents. ``p`` is the protocol of Python 2.


def integer(number: int, p: int) -> bytes:
    if p == 0:
        return b"I%d\n" % number
    if 0 <= number < 256:
        return b"K" + bytes([number])
    return b"M" + struct.pack("<H", number) if 0 <= number < 2**16 else b"J" + struct.pack("<i", number)


def string(data: bytes, p: int) -> bytes:
    if p == 0:
        quoted = repr(data)[1:]  # as Python 2 wrote a str
        return b"S" + quoted.encode("ascii") + b"\n"
    return b"U" + bytes([len(data)]) + data if len(data) < 256 else b"T" + struct.pack("<i", len(data)) + data


def yes(value: bool, p: int) -> bytes:
    return (b"\x88" if value else b"\x89") if p == 2 else b"I01\n" if value else b"I00\n"


def bunch(items: list[bytes], p: int) -> bytes:
    """A list."""
    if p == 0:
        return b"(l" + b"".join(item + b"a" for item in items)
    return b"](" + b"".join(items) + b"e"


def group(items: list[bytes], p: int) -> bytes:
    """A tuple."""
    if p == 2 and len(items) < 4:
        return b"".join(items) + [b")", b"\x85", b"\x86", b"\x87"][len(items)]
    return b"(" + b"".join(items) + b"t"


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def kind(code: bytes, p: int, order: bytes = b"|") -> bytes:
    made = named("numpy", "dtype") + group([string(code, p), integer(0, p), integer(1, p)], p) + b"R"
    rest = [b"N", b"N", b"N", integer(-1, p), integer(-1, p), integer(0, p)]
    return made + group([integer(3, p), string(order, p), *rest], p) + b"b"


def array(data: bytes, p: int, shape: list[int], code: bytes = b"u1", order: bytes = b"|", core: str = "core") -> bytes:
    arguments = [named("numpy", "ndarray"), group([integer(0, p)], p), string(b"b", p)]
    made = named(f"numpy.{core}.multiarray", "_reconstruct") + group(arguments, p) + b"R"
    axes = group([integer(length, p) for length in shape], p)
    return made + group([integer(1, p), axes, kind(code, p, order), yes(False, p), string(data, p)], p) + b"b"


def scalar(data: bytes, p: int, code: bytes = b"b1") -> bytes:
    return named("numpy.core.multiarray", "scalar") + group([kind(code, p), string(data, p)], p) + b"R"


def python2(images: list[bytes], answers: bytes, p: int) -> bytes:
    """A file of the pickles of images and of the answers."""
    return (b"\x80\x02" if p == 2 else b"") + group([bunch(images, p), answers], p) + b"."


def answers(p: int, same: list[bool] = SAME) -> bytes:
    return bunch([yes(value, p) for value in same], p)


# What Python 3 writes itself: names of forms of images and of answers.
IMAGE_FORMS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "an array [n]": lambda data: np.frombuffer(data, np.uint8),
    "an array [n, 1]": lambda data: np.array(bytearray(data), np.uint8)[:, None],
    "half of an array": lambda data: np.frombuffer(data, np.uint8).repeat(2)[::2],
}
ANSWER_FORMS: dict[str, Callable[[list[bool]], Any]] = {
    "bools": list,
    "a tuple": tuple,
    "whole numbers": lambda same: [int(value) for value in same],
    "NumPy's bools": lambda same: list(np.array(same)),
    "NumPy's numbers": lambda same: list(np.array(same, np.int32)),
    "an array of bools": np.array,
    "an array of bytes": lambda same: np.array(same, np.uint8),
    "an array of numbers": lambda same: np.array(same, np.int64),
    "an array from the other end": lambda same: np.array(same, ">i4"),
    "an array [n, 1]": lambda same: np.array(same)[:, None],
}


def python3(protocol: int, image: str = "bytes", answer: str = "bools", memo: bool = True) -> bytes:
    data = ([IMAGE_FORMS[image](data) for data in IMAGES], ANSWER_FORMS[answer](SAME))
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol)
    pickler.fast = not memo
    pickler.dump(data)
    return file.getvalue()


def read(folder: Path, data: bytes) -> VerificationPairs:
    path = folder / "lfw.bin"
    path.write_bytes(data)
    return read_verification_bin(path)


def good(folder: Path, data: bytes, images: list[bytes] = IMAGES, same: list[bool] = SAME) -> None:
    pairs = read(folder, data)
    assert pairs.images == images
    assert {type(image) for image in pairs.images} == {bytes}
    assert pairs.same.dtype == np.bool_
    assert pairs.same.tolist() == same


def refused(folder: Path, data: bytes, *said: str) -> None:
    with pytest.raises(DataError) as refusal:
        read(folder, data)
    missing = [word for word in (f"{folder / 'lfw.bin'}", *said) if word not in str(refusal.value)]
    assert not missing, refusal.value
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize("protocol", range(6))
def test_images_and_answers_as_python_3_writes_them(tmp_path: Path, protocol: int) -> None:
    for image in IMAGE_FORMS:
        good(tmp_path, python3(protocol, image))
    for answer in ANSWER_FORMS:
        good(tmp_path, python3(protocol, answer=answer))
    good(tmp_path, python3(protocol, "an array [n, 1]", "NumPy's bools", memo=False))


@pytest.mark.parametrize("p", [0, 1, 2])
def test_images_and_answers_as_python_2_writes_them(tmp_path: Path, p: int) -> None:
    good(tmp_path, python2([string(image, p) for image in IMAGES], answers(p), p))
    for core, shape in (("core", []), ("_core", [1])):
        images = [array(image, p, [len(image), *shape], core=core) for image in IMAGES]
        good(tmp_path, python2(images, bunch([scalar(bytes([value]), p) for value in SAME], p), p))
        numbers = np.array(SAME, ">i4").tobytes()
        good(tmp_path, python2(images, array(numbers, p, [4], b"i4", b">", core), p))


def test_the_memo_of_python_2(tmp_path: Path) -> None:
    """With every operation, indices in no order, and one that a table could not have."""
    images = [b"U\x01aq\x05", b"h\x05", b"U\x01br\xff\xff\xff\xff", b"j\xff\xff\xff\xff", b"S'c'\np70\n", b"g70\n"]
    good(
        tmp_path,
        python2(images, answers(2, [True, False, True]), 2),
        [b"a", b"a", b"b", b"b", b"c", b"c"],
        [True, False, True],
    )


def test_every_way_to_write_a_number(tmp_path: Path) -> None:
    for number in (b"I1\n", b"L1\n", b"L1L\n", b"\x8a\x01\x01", b"K\x01", b"M\x01\x00", b"J\x01\x00\x00\x00"):
        good(tmp_path, python2([string(b"a", 2), string(b"b", 2)], bunch([number], 2), 2), [b"a", b"b"], [True])


def test_what_follows_the_end_is_ignored(tmp_path: Path) -> None:
    good(tmp_path, python3(2) + b"more")


def test_real_jpegs(tmp_path: Path, real_faces: Path) -> None:
    images = [path.read_bytes() for path in sorted(real_faces.glob("lfw/images/A*/*.jpg"))[:8]]
    assert len(images) == 8
    for protocol in (2, 5):
        good(tmp_path, pickle.dumps((images, SAME), protocol), images)


TWO = [string(b"a", 2), string(b"b", 2)]
ONE = answers(2, [True])
FAULTS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty": (b"", ("byte 0", "cut off", "Get it again")),
    "a page of the web": (b"<!DOCTYPE html>", ("byte 0", "not a pickle", "get it again")),
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", ("byte 0", "not a pickle")),
    "another archive": (b"PK\x03\x04" + bytes(100), ("byte 0", "not a pickle")),
    "cut": (python3(2)[:-7000], ("byte", "cut off", "Get it again")),
    "nothing on the stack": (b"\x80\x02.", ("byte 2", "damaged")),
    "no mark": (b"\x80\x02]U\x01ae.", ("byte 6", "damaged")),
    "nothing in the memo": (b"\x80\x02h\x07.", ("byte 2", "damaged")),
    "an operation that is none": (b"\x80\x02\xfe.", ("byte 2", "\\xfe", "not an operation")),
    "a dict": (b"\x80\x02}.", ("byte 2", "EMPTY_DICT", "Never unpickle it")),
    "a string without quotes": (b"Sabc\n.", ("byte 0", "quotes")),
    "a line without an end": (b"\x80\x02I1", ("byte 2", "damaged")),
    "a number of letters": (b"\x80\x02Ione\n.", ("byte 2", "damaged")),
    "a text beyond Latin-1": (b"\x80\x02X\x03\x00\x00\x00\xe2\x82\xac.", ("byte 2", "damaged")),
    "a list alone": (bunch(TWO, 2) + b".", ("not a list of images with a list of answers", "verification set?")),
    "three things": (group([bunch(TWO, 2), ONE, ONE], 2) + b".", ("not a list of images",)),
    "one image": (python2(TWO[:1], ONE, 2), ("1 images and 1 answers", "two images per answer")),
    "too few answers": (python2(TWO * 2, ONE, 2), ("4 images and 1 answers", "Get it again")),
    "too many answers": (python2(TWO, array(b"\1\0", 2, [2]), 2), ("2 images and 2 answers",)),
    "no answers": (python2(TWO, b"N", 2), ("2 images and 0 answers",)),
    "nobody": (python2([], bunch([], 2), 2), ("0 images and 0 answers",)),
    "an image of no bytes": (python2([TWO[0], string(b"", 2)], ONE, 2), ("image 1", "JPEG or PNG")),
    "a number for an image": (python2([TWO[0], integer(7, 2)], ONE, 2), ("image 1", "JPEG or PNG")),
    "pixels for an image": (python2([TWO[0], array(bytes(48), 2, [4, 4, 3])], ONE, 2), ("image 1", "JPEG or PNG")),
    "wide numbers for an image": (python2([TWO[0], array(bytes(8), 2, [4], b"u2")], ONE, 2), ("image 1",)),
    "another answer": (python2(TWO, bunch([integer(2, 2)], 2), 2), ("answer 0", "neither True nor False")),
    "a text for an answer": (python2(TWO, bunch([string(b"1", 2)], 2), 2), ("answer 0", "neither True")),
    "two answers in one": (python2(TWO, bunch([array(b"\1\1", 2, [2])], 2), 2), ("answer 0", "neither True")),
    "a shape too small": (python2([TWO[0], array(b"abc", 2, [2])], ONE, 2), ("image 1", "shape")),
    "a shape too large": (python2([TWO[0], array(b"abc", 2, [2**31 - 1, 2**31 - 1])], ONE, 2), ("image 1", "shape")),
    "an array of objects": (python2([TWO[0], array(bytes(8), 2, [1], b"O8")], ONE, 2), ("image 1", "something other")),
    "an array of records": (python2([TWO[0], array(bytes(8), 2, [1], b"V8")], ONE, 2), ("image 1", "something other")),
    "an array of floats": (python2(TWO, array(bytes(8), 2, [1], b"f8", b"<"), 2), ("something other",)),
    "an array without a state": (
        python2([TWO[0], array(b"a", 2, [1])[: array(b"a", 2, [1]).index(b"R") + 1]], ONE, 2),
        ("image 1", "without its type"),
    ),
    "a call of a string": (python2([TWO[0], string(b"a", 2) + b")R"], ONE, 2), ("image 1", "an array without")),
    "a state of a string": (python2([TWO[0], string(b"a", 2) + b")b"], ONE, 2), ("byte", "damaged")),
    "a string as the arguments": (python2([named("_codecs", "encode") + b"K\x01R"], ONE, 2), ("byte", "damaged")),
    "rot13": (
        python2([named("_codecs", "encode") + group([string(b"a", 2), string(b"rot13", 2)], 2) + b"R"], ONE, 2),
        ("byte 31", "Latin-1"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_not_a_verification_set_is_refused(tmp_path: Path, fault: str) -> None:
    data, said = FAULTS[fault]
    refused(tmp_path, data, *said)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.bin: No such file"):
        read_verification_bin(tmp_path / "none.bin")
    with pytest.raises(DataError, match=f"{tmp_path}: Is a directory"):
        read_verification_bin(tmp_path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "lfw.bin").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataError, match=r"lfw\.bin has more than 350000000 bytes"):
        read_verification_bin(tmp_path / "lfw.bin")


# Pickles that make a file when they are run; each is tried on pickle first.


class Runs:
    def __init__(self, function: Callable[..., Any], *arguments: str) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def hostile(mark: str) -> dict[str, bytes]:
    touch, write = f"touch {mark}", f"open({mark!r}, 'w').close()"
    line, code = string(touch.encode(), 0), string(write.encode(), 0)
    own = named("builtins", "getattr")
    module = own + b"(" + named("os", "path") + b"S'os'\ntR"
    return {
        "os.system": named("os", "system") + b"(" + line + b"tR.",
        "posix.system": named("posix", "system") + b"(" + line + b"tR.",
        "builtins.eval": named("builtins", "eval") + b"(" + code + b"tR.",
        "__builtin__.eval": named("__builtin__", "eval") + b"(" + code + b"tR.",
        "builtins.exec": named("builtins", "exec") + b"(" + code + b"tR.",
        "a chain of getattr": own + b"(" + module + b"S'system'\ntR(" + line + b"tR.",
        "a dotted name": b"\x80\x04\x8c\x02os\x8c\x0epath.os.system\x93X"
        + struct.pack("<I", len(touch))
        + touch.encode()
        + b"\x85R.",
        "subprocess": named("subprocess", "check_call") + b"((lS'touch'\na" + string(mark.encode(), 0) + b"atR.",
        "INST": b"(" + line + b"ios\nsystem\n.",
        "OBJ": b"(" + named("os", "system") + line + b"o.",
        "numpy.savetxt": named("numpy", "savetxt") + b"(" + string(mark.encode(), 0) + b"(lI1\natR.",
        "numpy.testing": named("numpy.testing", "rundocs") + b"(" + string(mark.encode(), 0) + b"tR.",
        "numpy.lazy": named("numpy", "lib.npyio.os.system") + b"(" + line + b"tR.",
        "reduce, protocol 2": pickle.dumps(Runs(os.system, touch), 2),
        "reduce, protocol 5": pickle.dumps(Runs(eval, write), 5),
    }


@pytest.mark.parametrize("payload", hostile(""))
def test_code_in_a_file_is_not_run(tmp_path: Path, payload: str) -> None:
    mark = tmp_path / "mark"
    data = hostile(str(mark))[payload]
    if not payload.startswith("numpy."):
        pickle.loads(data, encoding="latin-1")
        assert mark.exists()
        mark.unlink()
    refused(tmp_path, data, "byte", "Never unpickle it")
    refused(tmp_path, python2([*TWO, data[:-1]], ONE, 1), "byte", "Never unpickle it")
    refused(tmp_path, python2(TWO, ONE + data[:-1], 1)[:-1] + b"b.", "byte", "Never unpickle it")
    assert not mark.exists()


def test_operations_that_bytes_and_numbers_do_not_need_are_refused(tmp_path: Path) -> None:
    for code in (b"\x81", b"\x92", b"P1\n", b"Q", b"\x82\x01", b"\x84\x01\0\0\0", b"d", b"\x90", b"\x97", b"0", b"2"):
        refused(tmp_path, b"\x80\x04" + named("numpy", "dtype") + b")" + code + b".", "byte 16", "Never unpickle it")


BOMBS: dict[str, tuple[bytes, str]] = {
    "a string of 2**62 bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc", "more than any image has"),
    "an array of 2**62 bytes": (b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"abc", "more than any image has"),
    "a string of 2**31 bytes": (b"\x80\x04B\xff\xff\xff\xffabc", "more than any image has"),
    "a string of -1 byte": (b"\x80\x02T\xff\xff\xff\xffabc", "damaged"),
    "a number of 2**31 bytes": (b"\x80\x02\x8b\xff\xff\xff\x7fabc", "more than any image has"),
    "a line of 2**25 bytes": (b"S'" + b"a" * 2**25 + b"'\n.", "without quotes"),
    "a number of a million digits": (b"I" + b"9" * 1_000_000 + b"\n.", "damaged"),
    "lists in lists": (b"]" * 100_000 + b"a" * 99_999 + b".", "not a list of images"),
    "tuples in tuples": (b")" + b"\x85" * 100_000 + b".", "not a list of images"),
    "marks": (b"(" * 100_000 + b".", "damaged"),
    "a list in itself": (b"]q\x00h\x00a" + b"h\x00\x86.", "1 images and 1 answers"),
    "twice as many each time": (
        b"]K\x01a" + b"q\x00](h\x00h\x00e" * 60 + b"q\x00h\x00\x86.",
        "expected two images per answer",
    ),
    "a shape of many axes": (
        python2([TWO[0], array(b"a", 2, [1] * 100_000)], ONE, 2),
        "shape",
    ),
    "many arguments": (python2([named("numpy", "dtype") + b"(" + b"K\x01" * 100_000 + b"tR"], ONE, 2), "1 images"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused(tmp_path: Path, bomb: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data, said = BOMBS[bomb]
    refused(tmp_path, data, said)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_a_repeated_image_is_in_memory_once(tmp_path: Path) -> None:
    one = array(bytes(range(1, 251)) * 4000, 2, [1_000_000]) + b"q\x00"
    for image in (one, string(b"a" * 1_000_000, 2) + b"q\x00"):
        pairs = read(tmp_path, python2([image] + [b"h\x00"] * 19_999, bunch([b"\x88"] * 10_000, 2), 2))
        assert len(pairs.images) == 20_000
        assert len({id(image) for image in pairs.images}) == 1


def test_an_endless_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inert_pickle, "MAX_STEPS", 1000)
    good(tmp_path, python3(2))
    refused(tmp_path, b"]" * 1001 + b".", "more than 1000 operations", "Never unpickle it")


class Judge(pickle._Unpickler):  # type: ignore[name-defined, misc]
    """Python's own reader, in Python, for files of bytes alone."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) != ("_codecs", "encode"):
            raise pickle.UnpicklingError(name)
        return lambda text, encoding: text if isinstance(text, bytes) else text.encode(encoding)


def latin(value: Any) -> Any:
    return (
        value.encode("latin-1") if isinstance(value, str) else bytes(value) if isinstance(value, bytearray) else value
    )


WORDS = [bytes([code]) for code in range(256)]
WORDS += 8 * [
    *(b"cos\nsystem\n", b"cbuiltins\neval\n", b"cnumpy\ndtype\n", b"R", b"b"),  # names, calls, states
    *(b"cbuiltins\neval\n(S'1/0'\ntR", b"cos\nabort\n)R", b"cos\nsystem\n(S'kill $PPID'\ntR"),  # to be noticed
    *(b"]", b"(", b")", b"\x85", b"q\x00", b"\x94", b"a"),  # what is in what
    *(b"]q\x00h\x00a", b"q\x00](h\x00h\x00e", b"h\x00\x85q\x00"),  # a list in itself, and more each time
    *(b"r\xff\xff\xff\xff", b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7f", b"p9999999999999999\n"),  # the memo
    *(b"\x8e\0\0\0\0\0\0\0\x40", b"\x96" + b"\xff" * 8, b"B\xff\xff\xff\xff", b"T\xff\xff\xff\x7f"),  # lengths
]


@pytest.mark.parametrize(("count", "seed"), RUNS)
def test_a_damaged_file_is_refused_or_read_as_it_says(tmp_path: Path, count: int, seed: int) -> None:
    small = [image[:300] for image in IMAGES]
    plain = [python2([string(image, p) for image in small], answers(p), p) for p in range(3)]
    plain += [pickle.dumps((small, SAME), protocol) for protocol in range(6)]
    sets = [python2([array(image, p, [len(image), 1]) for image in small], answers(p), p) for p in range(3)]
    arrays = [np.array(bytearray(image), np.uint8) for image in small]
    sets += [pickle.dumps((arrays, np.array(SAME)), protocol) for protocol in range(6)]
    places = [*range(60), *range(-60, 0)]  # most of a file is images; what is between them matters more

    def damage(draw: random.Random) -> dict[str, bytes]:
        return {".bin": damaged(draw.choice(plain + sets), draw, WORDS, places)}

    def judge(files: dict[str, bytes], found: DataError | VerificationPairs) -> str:
        data = files[".bin"]
        if isinstance(found, DataError):
            assert data not in plain + sets
            return "refused"
        assert not any(intact.startswith(data) and intact != data for intact in plain + sets)
        images, same = found
        assert images
        assert (len(images), same.dtype, same.shape) == (2 * len(same), np.bool_, (len(images) // 2,))
        assert all(type(image) is bytes and image for image in images)
        try:
            expected, answered = Judge(io.BytesIO(data), encoding="bytes").load()
        except Exception:  # it asks for a name, or minds the frames and the number of the protocol
            return "read"
        assert list(map(latin, expected)) == images
        assert list(map(bool, answered)) == same.tolist()
        return "judged"

    tally = fuzz(tmp_path, count, seed, damage, read_verification_bin, judge)
    assert tally["refused"] > count / 4
    assert tally["judged"] > count / 40
