"""What kind of file was given as weights, by its first bytes: no torch, so that a plan can tell."""

import zipfile
from pathlib import Path

from facedistill.errors import WeightsError

_HEAD = 512  # bytes that are looked at
_SAVE = "torch.save(model.state_dict(), 'weights.pt')"
_MARKUP = (b"<!doctype", b"<html", b"<?xml")
_ARCHIVE = "is an archive: unpack it, and name the file of weights in it"
# The byte at which a signature begins, the signature, and what the file is and how to make weights of it.
_SIGNATURES = (
    (0, b"version https://git-lfs", "is a git-lfs pointer, not the file itself: fetch it with `git lfs pull`"),
    (0, b"\x89HDF\r\n\x1a\n", "is an HDF5 file, as of Keras; facedistill reads weights of torch: .safetensors, or .pt"),
    (
        0,
        b"\x12\x01\0\0\0\0\0\0",
        f"is a file of MXNet; facedistill reads weights of torch: convert it, then {_SAVE}",
    ),
    (0, b"GGUF", "is a GGUF file; facedistill reads .safetensors, or .pt of torch"),
    (4, b"TFL3", "is a TensorFlow Lite file; facedistill reads .safetensors, or .pt of torch"),
    (0, b"\x93NUMPY", "is an array of NumPy, not weights by name"),
    *((0, signature, _ARCHIVE) for signature in (b"\x1f\x8b", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ")),
    (257, b"ustar", _ARCHIVE),
)
_ONNX = (
    "is an ONNX file: it teaches as it is, teacher.weights=FILE, and can't be trained. Here weights of torch are read: "
    f"export the state_dict of the network that it was made of, {_SAVE}"
)


def check_kind(path: Path, takes_onnx: bool = False) -> bool:
    """Whether it is an ONNX file, or one of weights for torch.

    A zip archive, which is what torch writes, is refused if it announces more than it has.

    Raises:
        WeightsError: it is missing or of another kind, and which; or it is an ONNX file where none is taken.
    """
    if not path.exists():
        raise WeightsError(f"{path} does not exist: name the file of weights")
    if not path.is_file():
        raise WeightsError(f"{path} is no file: name the file of weights")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.strerror}") from error
    what = _what_it_is(head, path.suffix.lower())
    if what == _ONNX and takes_onnx:
        return True
    if what:
        raise WeightsError(f"{path} {what}")
    if is_zip(head):
        _check_archive(path)
    return False


def _what_it_is(head: bytes, suffix: str) -> str | None:
    if not head:
        return "is empty: copy it again"
    if head.lstrip().lower().startswith(_MARKUP):
        return "is a page of a web site, not the file itself: download it again"
    for start, signature, what in _SIGNATURES:
        if head.startswith(signature, start):
            return what
    # a protobuf whose first field is a small version, and its second the name of the program that wrote it
    is_onnx = suffix == ".onnx" or (head[:1] == b"\x08" and head[2:3] == b"\x12" and head[1] < 32)
    return _ONNX if is_onnx else None


def is_zip(head: bytes) -> bool:
    return head.startswith(b"PK\x03\x04")


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
    except Exception as error:  # a stranger's directory of members: whatever is wrong with it
        raise WeightsError(f"{path} is truncated or no file of weights: {error}") from error
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") for name in names):
        loaded = f"torch.jit.load('{path}')"
        raise WeightsError(
            f"{path} is a TorchScript archive, i.e. a program. Where you trust it, save its weights alone, "
            f"torch.save({loaded}.state_dict(), 'weights.pt'); or, to teach as it is, export it to ONNX, "
            f"torch.onnx.export({loaded}.eval(), torch.zeros(1, 3, 112, 112), 'teacher.onnx', dynamo=False)"
        )
    if any(name.endswith(("/models/model.json", "serialized_exported_program.json")) for name in names):
        loaded = f"torch.export.load('{path}')"
        raise WeightsError(
            f"{path} is an exported program, which torch can't load without running what it may hold. Where you trust "
            f"it, save its weights alone, torch.save({loaded}.state_dict, 'weights.pt'); or, to teach as it is, export "
            f"it to ONNX, torch.onnx.export({loaded}, (), 'teacher.onnx')"
        )
    if not any(name.endswith("/data.pkl") for name in names):
        held = ", ".join(names[:3]) or "nothing"
        raise WeightsError(f"{path} is a zip archive that torch.save did not write (it holds {held})")
    if sum(member.file_size for member in members) > path.stat().st_size:  # torch.save compresses nothing
        raise WeightsError(f"{path} announces more bytes than it has: torch.save did not write it")
