"""Show a data source: what is there, and a contact sheet of ten identities by eight samples.

python -m facedistill.data [data=synthetic] [data.root=…] [sheet=contact_sheet.png, or .jpg] [any other word of a run]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from facedistill.compose import compose_config
from facedistill.data.source import FaceSet, build_source
from facedistill.errors import FacedistillError
from facedistill.files import write_aside

PEOPLE, SHOTS, GAP = 10, 8, 2


def contact_sheet(faces: FaceSet) -> Image.Image:
    """A row an identity, spread over all of them; a column a sample."""
    size = faces.images.shape[1]
    sheet = np.full((PEOPLE * (size + GAP), SHOTS * (size + GAP), 3), 255, np.uint8)
    people = np.linspace(0, len(faces.identities) - 1, min(PEOPLE, len(faces.identities))).astype(int)
    for row, person in enumerate(people):
        for column, index in enumerate(np.flatnonzero(faces.labels == person)[:SHOTS]):
            top, left = row * (size + GAP), column * (size + GAP)
            sheet[top : top + size, left : left + size] = faces.images[index]
    return Image.fromarray(sheet)


def main(words: Sequence[str]) -> int:
    """The command; exit status 0 only if the data can be trained on."""
    if "--help" in words:
        print(__doc__)
        return 0
    sheet = Path(next((word.split("=", 1)[1] for word in words if word.startswith("sheet=")), "contact_sheet.png"))
    try:
        config = compose_config([word for word in words if not word.startswith("sheet=")])
        faces = build_source(config.data).faces(config.image.resize, Path(config.cache_dir).expanduser())
    except FacedistillError as error:
        print(f"facedistill: {error}", file=sys.stderr)
        return 2
    per_identity = np.bincount(faces.labels)
    print(f"data={config.data['name']}: {len(faces.labels)} images of {len(faces.identities)} identities")
    print(f"  {len(faces.train)} to train on, {len(faces.test)} to test on, {faces.images.shape[1]} px")
    print(f"  images an identity: {per_identity.min()} to {per_identity.max()}")
    for name, count in faces.counts.items():
        if name not in ("images", "identities"):
            print(f"  {name.replace('_', ' ')}: {count}")
    if faces.pairs is not None:
        print(f"  {len(faces.pairs.same)} pairs of other people, in {len(np.unique(faces.pairs.fold))} folds")
    with write_aside(sheet) as part:
        contact_sheet(faces).save(part, format="jpeg" if sheet.suffix == ".jpg" else "png", quality=90)
    print(f"  {sheet} shows {PEOPLE} of them")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
