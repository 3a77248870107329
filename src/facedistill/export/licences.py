"""What the licences of data sets and recognizers allow of a model that was made with them."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from facedistill.runs.exported import Exported
from facedistill.system.text import shown

_RESEARCH = "for non-commercial research only, and so is a model that was trained on it unless its owners say otherwise"
_RENDERED = "rendered by facedistill (Apache 2.0): it shows no person, and restricts nothing"
DATA = {
    **dict.fromkeys(("synthetic", "synthetic_large", "synthetic_spoof", "latent"), _RENDERED),
    "casia_webface": f"CASIA-WebFace is {_RESEARCH}",
    "ms_celeb_1m": "MS-Celeb-1M was withdrawn by Microsoft in 2019; copies of it have no licence at all",
    "celeba": f"CelebA is {_RESEARCH}",
    "mtfl": f"MTFL is {_RESEARCH}",
    "lfw": "Labeled Faces in the Wild is published for research; its photographs belong to press agencies",
}
_OWN = "its faces came from folders of whoever made this: facedistill does not know their licences"
_FOLDERS = {"casia": "casia_webface", "celeba": "celeba", "mtfl": "mtfl", "lfw": "lfw", "ms1m": "ms_celeb_1m"}


def notes_on(data: Mapping[str, Any], recognizers: Iterable[Path]) -> list[str]:
    """A line each: of the data, of what the names of its folders tell, and of files of recognizers from elsewhere."""
    name, root = data["name"], data.get("root")
    notes = [f"data={name}: {DATA.get(name, _OWN)}"] if root != "" else []
    if name not in DATA and root != "":
        folders = root if isinstance(root, list) else [root]
        for part, known in _FOLDERS.items():
            if any(part in str(folder).lower() for folder in folders):
                notes.append(f"a folder is called like {part}: {DATA[known]}")
    notes += [
        f"{shown(file.name)}: a recognizer from elsewhere, whose licence is with whoever published it; a student that "
        "learns from it may be bound by it"
        for file in dict.fromkeys(recognizers)
    ]
    return notes


def as_markdown(text: str) -> str:
    """Text that others wrote, as it is ``shown``, inside of a line or a cell of a table."""
    return re.sub(r"[|`<]", r"\\\g<0>", shown(text))


def licence_notes(exported: Exported) -> str:
    """The text of ``LICENCES.md``."""
    lines = "\n".join(f"- {as_markdown(note)}" for note in exported.licences)
    return (
        f"# What {exported.name} was made with\n\n{lines}\n\n"
        "facedistill itself is under the Apache licence 2.0, which asks nothing of its models. This is a list of what "
        "is known, no legal advice.\n"
    )
