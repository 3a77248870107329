"""The folder that ``data.root`` names, and archives in its place."""

from difflib import get_close_matches
from pathlib import Path

from facedistill.errors import DataError

ARCHIVES = (".zip", ".7z", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def data_folder(root: str, inside: str = "") -> Path:
    """``root/inside``. Raises ``DataError`` if it does not exist, saying how to unpack an archive in its place."""
    top = Path(root).expanduser()
    folder = top / inside
    if folder.is_dir():
        return folder
    for path in (top, folder):
        if path.is_file():
            raise DataError(f"{'data.root=' if path == top else ''}{path} {_unpack(path)}")
    refuse_archive(folder.parent, folder.name)
    if not top.is_dir():
        beside = [path.name for path in top.parent.glob("[!.]*") if path.is_dir()]
        near = "".join(f" Did you mean {top.parent / name}?" for name in get_close_matches(top.name, beside, 1))
        what = "is no folder" if top.exists() else "does not exist"
        raise DataError(f"data.root={top} {what}: name the folder of the faces, data.root=FOLDER.{near}")
    raise DataError(f"data.root={top} holds no folder {inside}: name the folder of the images, data.images=NAME (or .)")


def refuse_archive(folder: Path, name: str = "") -> None:
    """Raise ``DataError``, which says how to unpack it, if ``folder`` holds an archive (of this name)."""
    for path in sorted(folder.glob("[!.]*")):
        if path.name.lower().endswith(ARCHIVES) and path.name.startswith(f"{name}." if name else ""):
            raise DataError(f"{path} {_unpack(path)}")


def _unpack(path: Path) -> str:
    suffix = next(filter(path.name.lower().endswith, ARCHIVES), "")
    if not suffix:
        return "is a file: name a folder"
    archive, folder = _quoted(path), _quoted(path.with_name(path.name[: -len(suffix)]))
    command = {".zip": f"unzip {archive} -d {folder}", ".7z": f"7z x {archive} -o{folder}"}
    tar = f"mkdir {folder} && tar -xf {archive} -C {folder}"
    return f"is an archive: unpack it with `{command.get(suffix, tar)}` and name that folder"


def _quoted(path: Path) -> str:
    """For a shell, also where the name has an apostrophe."""
    return "'" + str(path).replace("'", "'\\''") + "'"
