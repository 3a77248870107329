"""Finds CelebA's images and lists, as published (in Img, Anno, Eval) or in one folder (torchvision, Kaggle)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from facedistill.data.files.formats.celeba_lists import CelebaList, read_list
from facedistill.data.files.listing import ImageFile, Listing
from facedistill.data.files.roots import data_folder, refuse_archive
from facedistill.errors import DataError

ALIGNED = ("img_align_celeba", "img_align_celeba_png")
WILD = "img_celeba"
PARTS = ("train", "val", "test")


def image_folder(root: str, names: Sequence[str]) -> Path:
    """The first folder of ``names`` that exists in ``root`` or ``root``/Img. Raises ``DataError`` if none does."""
    top = data_folder(root)
    for folder in (top / inside / name for name in names for inside in ("", "Img")):
        if folder.is_dir():
            inner = folder / folder.name  # as Kaggle's archive unpacks
            return inner if inner.is_dir() else folder
    for name in names:
        refuse_archive(top, name)
        refuse_archive(top / "Img", name)
    raise DataError(f"data.root={top} holds no folder {' or '.join(names)}: unpack the images, or set data.images=…")


def image_files(folder: Path, listing: Listing) -> dict[str, ImageFile]:
    """The images of a folder by their names in ``CelebaList.rows``. Raises ``DataError`` if two have the same."""
    files: dict[str, ImageFile] = {}
    for entry in listing.read(str(folder)).images:
        image = entry.name.lower().rpartition(".")[0]
        if image in files:
            one, other = sorted([files[image].path, entry.path])
            raise DataError(f"{one} and {other} have one name in the lists: remove one")
        files[image] = ImageFile.of(entry)
    return files


def open_lists(root: str, wild: bool, needed: Mapping[str, str]) -> dict[str, CelebaList]:
    """The lists in ``root``, ``root``/Anno and ``root``/Eval; a csv where there is no txt.

    Args:
        wild: whether the images, and so their landmarks, are in the wild.
        needed: the lists that must exist, by their content, and the setting that needs them (for messages).

    Returns:
        By content: ``identities`` and ``landmarks`` if they exist, in this order; then the needed ones of ``boxes`` and
        ``parts`` (0, 1, 2 of ``PARTS``).

    Raises ``DataError`` if a needed list or both of the first two are missing, or one is broken (see ``read_list``).
    """
    top = data_folder(root)
    points = "list_landmarks_celeba" if wild else "list_landmarks_align_celeba"
    wanted = {"identities": ("identity_CelebA", 1), "landmarks": (points, 10)}
    wanted |= {"boxes": ("list_bbox_celeba", 4)} if "boxes" in needed else {}
    wanted |= {"parts": ("list_eval_partition", 1)} if "parts" in needed else {}
    lists = {}
    for content, (name, columns) in wanted.items():
        paths = [top / inside / f"{name}{suffix}" for inside in ("", "Anno", "Eval") for suffix in (".txt", ".csv")]
        path = next((path for path in paths if path.is_file()), None)
        if path is not None:
            lists[content] = read_list(path, columns)
        elif content in needed:
            raise DataError(f"{needed[content]} needs {paths[0]} (or .csv, or in Anno or Eval), which does not exist")
    if not lists.keys() & {"identities", "landmarks"}:
        either = f"neither identity_CelebA.txt nor {points}.txt"
        raise DataError(f"data.root={top} holds {either} (or .csv, or in Anno or Eval)")
    if "identities" in lists:
        numbers = lists["identities"].values
        lists["identities"].check(((numbers >= 0) & (numbers % 1 == 0))[:, 0], "an identity must be a whole number")
    if "parts" in lists:
        lists["parts"].check(np.isin(lists["parts"].values[:, 0], range(len(PARTS))), "a part must be 0, 1 or 2")
    return lists
