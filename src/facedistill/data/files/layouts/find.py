"""Recognizes the layout of a folder or file."""

from pathlib import Path

from facedistill.data.files.faults import Faults
from facedistill.data.files.layouts.folders import FolderLayout
from facedistill.data.files.layouts.label_list import LabelListLayout
from facedistill.data.files.layouts.layout import Layout
from facedistill.data.files.layouts.recordio import RecordIOLayout
from facedistill.data.files.layouts.tsv import TsvLayout
from facedistill.data.files.listing import Listing, is_left_by_a_system
from facedistill.data.files.roots import data_folder
from facedistill.errors import DataError

_LAYOUTS = {".rec": RecordIOLayout, ".tsv": TsvLayout}
_LISTS = (".txt", ".csv", ".lst")
_NAMES = ("label", "labels", "identity", "identities")  # of lists that are found in a folder


def find_layout(root: str, faults: Faults, split: str, nested: bool) -> Layout:
    """The images of ``data.root``: a .rec or .tsv file, a list of labels, a folder that has one, or one of folders.

    A list in a folder of several folders is used only if it is named itself.

    Args:
        split, nested: see ``FolderLayout``; nothing else has either.

    Raises ``DataError`` if it is none of these, or holds several files.
    """
    path = Path(root).expanduser()
    if path.is_file() and path.suffix.lower() in (*_LAYOUTS, *_LISTS):
        if split != "random" or nested:
            raise DataError(f"data.split=folders and data.nested=true are for folders, not for {path}")
        layout = _LAYOUTS.get(path.suffix.lower())
        return layout(path) if layout and not _is_list(path) else LabelListLayout(path, faults)
    top = data_folder(root)
    named = (path for path in top.iterdir() if path.suffix.lower() in (*_LAYOUTS, *_LISTS))
    files = sorted(path for path in named if path.is_file() and not is_left_by_a_system(path.name))
    lists = [file for file in files if _is_list(file)]
    packed = [file for file in files if file.suffix.lower() in _LAYOUTS and file not in lists]
    found = [file for file in packed if file.stem.lower() == "train"] or packed
    if not found and len(Listing(Faults("skip")).read(str(top)).folders) < 2:
        found = lists
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise DataError(f"data.root={top} holds {names}: name one, data.root={found[0]}")
    if found:
        return find_layout(str(found[0]), faults, split, nested)
    folders = FolderLayout(top, faults, split, nested)
    folders.notes = [*folders.notes, *(f"data.root={file} would use its labels, not the folders" for file in lists)]
    return folders


def _is_list(path: Path) -> bool:
    return path.stem.lower() in _NAMES and path.suffix.lower() in (*_LISTS, ".tsv")
