"""InsightFace's verification sets: ``lfw.bin``, ``cfp_fp.bin``, ``agedb_30.bin``, ``calfw.bin``, ``cplfw.bin``.

A pickle of ``(bins, issame_list)``: 2·P encoded images, of which 2i and 2i + 1 are compared, and P answers. InsightFace
(https://github.com/deepinsight/insightface) writes images as bytes (``src/data/lfw2pack.py``) or as ``cv2.imencode``
returns them, arrays [n, 1] or [n] by version (``src/data/cfp2pack.py``), from Python 2 or 3, and reads them with
``pickle.load(f, encoding="bytes")`` (``recognition/arcface_torch/eval/verification.py``, ``load_bin``).
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.faults import located, readable
from facedistill.data.files.formats.inert_pickle import AGAIN, Call, read_inert
from facedistill.errors import DataError

MAX_BYTES = 350_000_000  # of a file, all of which is read: 14,000 images, as in cfp_fp.bin, of 25 kB
_NAMES = {
    "numpy ndarray",
    "numpy dtype",
    "numpy.core.multiarray _reconstruct",
    "numpy.core.multiarray scalar",
    "numpy.core.numeric _frombuffer",
}
_TYPES = {b"b1", b"i1", b"i2", b"i4", b"i8", b"u1", b"u2", b"u4", b"u8"}  # booleans and whole numbers
_ORDERS = {b"|", b"=", b"<", b">"}


class VerificationPairs(NamedTuple):
    """Encoded images, of which 2i and 2i + 1 are compared, and whether they show the same person: bool [P]."""

    images: list[bytes]
    same: NDArray[np.bool_]


def read_verification_bin(path: Path) -> VerificationPairs:
    """The pairs of a file. Nothing in it is executed; the worst file takes seconds and less than 1 GB.

    Raises ``DataError`` with the file, the byte or the image, and what is wrong.
    """
    with readable(path):
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has more than {MAX_BYTES} bytes; no verification set is that large. {AGAIN}")
        data = path.read_bytes()
    with located(str(path)):
        if data.startswith(b"PK\x03\x04"):
            raise DataError("byte 0: a zip, not a pickle: unpack it, and name the .bin file in it")
        return _pairs(read_inert(data, _NAMES))


def _pairs(content: Any) -> VerificationPairs:
    match content:
        case [[*bins], answers]:
            pass
        case _:
            raise DataError("not a list of images with a list of answers. Is it a verification set?")
    if isinstance(answers, Call):
        answers = _array(answers)[0].reshape(-1)
    count = len(answers) if isinstance(answers, list | tuple | np.ndarray) else 0
    if not bins or len(bins) != 2 * count:
        raise DataError(f"{len(bins)} images and {count} answers, expected two images per answer. Get it again")
    images, same = [], []
    for number, image in enumerate(bins):
        with located(f"image {number} (from 0)"):
            images.append(_image(image))
    for number, answer in enumerate(answers.tolist() if isinstance(answers, np.ndarray) else answers):
        with located(f"answer {number} (from 0)"):
            same.append(_answer(answer))
    return VerificationPairs(images, np.array(same))


def _image(value: Any) -> bytes:
    if isinstance(value, Call):
        array, data = _array(value)
        value = data if array.dtype == np.uint8 and array.size == max(array.shape, default=0) else None
    if not isinstance(value, bytes) or not value:
        raise DataError("not the bytes of an encoded image, JPEG or PNG. Get the file again")
    return value


def _answer(value: Any) -> bool:
    if isinstance(value, Call):
        array, _ = _array(value)
        value = array.item() if array.size == 1 else None
    if not isinstance(value, int) or value not in (0, 1):
        raise DataError("neither True nor False. Get the file again")
    return bool(value)


def _array(call: Call) -> tuple[NDArray[Any], bytes]:
    """The array or scalar that a call would make, as a view of bytes of the file, and these bytes."""
    shape: Any = ()
    match call:
        case Call("numpy.core.multiarray _reconstruct", _, [_, shape, kind, _, bytes(data)]):
            pass
        case Call("numpy.core.numeric _frombuffer", [bytes(data), kind, shape, *_]):
            pass
        case Call("numpy.core.multiarray scalar", [kind, bytes(data)]):
            pass
        case _:
            raise DataError(f"an array without its type, its shape or its bytes. {AGAIN}")
    match kind:
        case Call("numpy dtype", [bytes(code), *_], [_, bytes(order), *_]) if code in _TYPES and order in _ORDERS:
            pass
        case _:
            raise DataError(f"an array of something other than booleans and whole numbers. {AGAIN}")
    try:
        return np.frombuffer(data, (order + code).decode()).reshape(shape), data
    except (ArithmeticError, TypeError, ValueError) as error:
        raise DataError(f"an array whose shape does not fit its bytes. {AGAIN}") from error
