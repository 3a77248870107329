"""InsightFace's verification sets: pairs of aligned faces in one file, ``<name>.bin``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facedistill.data.faces import FOLDS, FaceSet, Pairs, check_kinds, kind_of
from facedistill.data.files.faults import located
from facedistill.data.files.formats.verification_bin import read_verification_bin
from facedistill.data.files.photo_store import store_photos
from facedistill.data.files.photos import decode_photo
from facedistill.data.files.roots import data_folder
from facedistill.data.sources.source import Source, build_source
from facedistill.errors import DataError
from facedistill.system.files import hash_of, sha256


def find_bin(root: str, name: str) -> Path | None:
    """``root`` if it is a .bin file, or else ``<name>.bin`` in the folder ``root``; None if there is neither."""
    path = Path(root).expanduser()
    file = path / f"{name}.bin" if path.is_dir() else path
    return file if file.suffix.lower() == ".bin" and file.is_file() else None


def protocol_source(data: dict[str, Any]) -> Source:
    """The source of a ``conf/data`` node, or ``<name>.bin`` if ``root`` holds that and no folder of images."""
    root, images = data.get("root"), data.get("images")
    if (
        isinstance(root, str)
        and root
        and images
        and find_bin(root, data["name"])
        and not (Path(root).expanduser() / images).is_dir()
    ):
        return VerificationSet(data["name"], root)
    return build_source(data)


@dataclass
class VerificationSet(Source):
    """The pairs of a .bin file (see ``formats.verification_bin``), in ten folds of consecutive pairs.

    The file has no names: it is unknown who was trained on, and people of one fold may be in another.

    Attributes:
        root: the file, or a folder that holds ``<name>.bin``.
    """

    name: str
    root: str

    @property
    def file(self) -> Path:
        """The .bin file. Raises ``DataError`` if there is none."""
        file = find_bin(self.root, self.name)
        if file is None:
            folder = data_folder(self.root)
            lists = sorted(path.name for path in folder.glob("*pairs*.txt"))
            tree = f", or read the images: protocol=lfw data.images=FOLDER data.pairs={lists[0]}" if lists else ""
            raise DataError(f"data.root={folder} holds no {self.name}.bin: name the file or its folder{tree}")
        return file

    def identity(self) -> dict[str, Any]:
        with located(str(self.file)):
            _, same = read_verification_bin(self.file)
            check_kinds(same, np.zeros(len(same), np.int64))
        return self._digest

    @property
    def _digest(self) -> dict[str, Any]:
        return {"source": "verification_set", "pairs": sha256(self.file)}

    def faces(self, size: int, cache_dir: Path) -> FaceSet:
        raise DataError(
            f"data={self.name} has pairs only, and no identities to train on. To score a network with them: "
            f"facedistill evaluate protocol={self.name} root={self.root} run=RUN_DIR"
        )

    def protocol(self, size: int, cache_dir: Path, trained_on: set[str]) -> Pairs:
        """The pairs; ``trained_on`` is ignored, as there are no names.

        Raises ``DataError`` if any image is broken, or a fold alone has pairs of one kind only.
        """
        file = self.file
        images, same = read_verification_bin(file)
        if len(same) < FOLDS:
            raise DataError(f"{file}: {len(same)} pairs, too few for {FOLDS} folds. Get the complete file")
        fold = np.repeat(np.arange(FOLDS), [len(part) for part in np.array_split(same, FOLDS)])
        if not kind_of(same):
            with located(str(file)):
                check_kinds(same, fold)

        def decode(number: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
            location = f"{file}, image {number} (from 0)"
            image = decode_photo(images[number], location)
            if image.width != image.height:
                raise DataError(f"{location}: {image.width}×{image.height} pixels, not the square of an aligned face")
            return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)), {}

        path = cache_dir / f"{self.name}-pairs-{hash_of([size, self._digest])}"
        stored = store_photos(path, len(images), size, decode, None, f"reading {file}")
        numbers = np.arange(len(same))
        return Pairs(stored.items, 2 * numbers, 2 * numbers + 1, same, fold, np.zeros(len(same), np.bool_))
