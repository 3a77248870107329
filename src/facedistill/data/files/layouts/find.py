"""Recognizes the layout of a folder or file."""

from pathlib import Path

from facedistill.data.files.faults import Faults
from facedistill.data.files.layouts.folders import FolderLayout
from facedistill.data.files.layouts.layout import Layout
from facedistill.data.files.layouts.recordio import RecordIOLayout
from facedistill.data.files.layouts.tsv import TsvLayout
from facedistill.data.files.photos import data_folder
from facedistill.errors import DataError

_LAYOUTS = {".rec": RecordIOLayout, ".tsv": TsvLayout}


def find_layout(root: str, faults: Faults, split: str, nested: bool) -> Layout:
    """The images of ``data.root``: a .rec or .tsv file, a folder that holds one, or a folder of folders.

    Args:
        split, nested: see ``FolderLayout``; a file has neither.

    Raises ``DataError`` if it is none of these, or holds several files.
    """
    path = Path(root).expanduser()
    if path.is_file() and path.suffix.lower() in _LAYOUTS:
        if split != "random" or nested:
            raise DataError(f"data.split=folders and data.nested=true are for folders, not for {path}")
        return _LAYOUTS[path.suffix.lower()](path)
    top = data_folder(root)
    files = sorted(file for file in top.iterdir() if file.suffix.lower() in _LAYOUTS and file.is_file())
    training = [file for file in files if file.stem.lower() == "train"] or files
    if len(training) > 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"data.root={top} holds {names}: name one, data.root={files[0]}")
    return (
        find_layout(str(training[0]), faults, split, nested) if training else FolderLayout(top, faults, split, nested)
    )
