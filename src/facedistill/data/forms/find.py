"""Which form a folder or a file has."""

from __future__ import annotations

from pathlib import Path

from facedistill.data.faults import Faults
from facedistill.data.forms.folders import Folders
from facedistill.data.forms.form import Form
from facedistill.data.forms.records import Records
from facedistill.data.forms.tsv import Tsv
from facedistill.data.photos import data_folder
from facedistill.errors import DataError

_FILES = {".rec": Records, ".tsv": Tsv}


def find_form(root: str, faults: Faults) -> Form:
    """The images of ``data.root``: a .rec or a .tsv file, a folder that has one, or a folder of folders.

    Raises:
        DataError: it has none of them, or several.
    """
    path = Path(root).expanduser()
    if path.is_file() and path.suffix.lower() in _FILES:
        return _FILES[path.suffix.lower()](path)
    top = data_folder(root)
    files = sorted(file for file in top.iterdir() if file.suffix.lower() in _FILES and file.is_file())
    training = [file for file in files if file.stem.lower() == "train"] or files
    if len(training) > 1:
        raise DataError(
            f"data.root={top} holds {', '.join(file.name for file in files)}: name one, data.root={files[0]}"
        )
    return find_form(str(training[0]), faults) if training else Folders(top, faults)
