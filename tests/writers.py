"""Writers of face data sets in their published layouts, from the descriptions of the formats, not from the readers."""

import base64
import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from facedistill.data.synthetic import render_faces

PEOPLE, SHOTS = 4, 12


class Face(NamedTuple):
    """The file of an image of ``identity``."""

    identity: str
    file: str
    content: bytes


def encoded_faces(people: int = PEOPLE, shots: int = SHOTS) -> list[Face]:
    """Rendered faces as PNG, by identity and file."""
    faces = []
    for person in range(people):
        rendered = render_faces(0, [person] * shots, list(range(shots)), 32).images
        for shot in range(shots):
            file = io.BytesIO()
            Image.fromarray(rendered[shot]).save(file, "png")
            faces.append(Face(f"person {person}", f"{shot:03d}.png", file.getvalue()))
    return faces


def real_photos(real_faces: Path, people: int = PEOPLE, shots: int = SHOTS) -> list[Face]:
    """Photographs of LFW as JPEG, by identity and file."""
    folders = sorted((real_faces / "lfw" / "images").iterdir())
    chosen = [folder for folder in folders if len(list(folder.iterdir())) >= shots][:people]
    files = [file for folder in chosen for file in sorted(folder.iterdir())[:shots]]
    return [Face(file.parent.name, file.name, file.read_bytes()) for file in files]


def write_folders(folder: Path, faces: Sequence[Face]) -> Path:
    for face in faces:
        (folder / face.identity).mkdir(parents=True, exist_ok=True)
        (folder / face.identity / face.file).write_bytes(face.content)
    return folder


def write_records(
    folder: Path, faces: Sequence[Face], header: bool = True, index: bool = True, names: bool = True, flag: int = 2
) -> Path:
    """InsightFace's train.rec: images as 1 … N, then the identities, their range as record 0; ``flag`` labels each."""
    folder.mkdir(parents=True, exist_ok=True)
    people = sorted({face.identity for face in faces})
    labels = [people.index(face.identity) for face in faces]

    def head(number: int, *values: float) -> bytes:
        if flag == 0 and len(values) == 1:
            return struct.pack("<IfQQ", 0, values[0], number, 0)
        return struct.pack(f"<IfQQ{len(values)}f", len(values), 0, number, 0, *values)

    count = len(faces)
    records = []
    for number, (face, label) in enumerate(zip(faces, labels, strict=True), start=1):
        records.append((number, head(number, *([label] if flag == 0 else [label, 0])) + face.content))
    if header:
        for person in range(len(people)):
            first, key = labels.index(person) + 1, count + 1 + person
            records.append((key, head(key, first, first + labels.count(person))))
        records.append((0, head(0, count + 1, count + 1 + len(people))))
    offsets, offset = [], 0
    with (folder / "train.rec").open("wb") as file:
        for key, data in records:
            assert struct.pack("<I", 0xCED7230A) not in data
            offsets.append(f"{key}\t{offset}\n")
            offset += file.write(struct.pack("<II", 0xCED7230A, len(data)) + data + b"\0" * (-len(data) % 4))
    if index:
        (folder / "train.idx").write_text("".join(offsets))
    if names:
        lines = [
            f"1\t/raid/sets/{face.identity}/{face.file}\t{label}\n" for face, label in zip(faces, labels, strict=True)
        ]
        (folder / "train.lst").write_text("".join(lines))
        (folder / "property").write_text(f"{len(people)},112,112")
    return folder


def write_tsv(path: Path, faces: Sequence[Face]) -> Path:
    """Microsoft's TSV, from the names of unpacked images: ``rank-FaceId`` and the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    box = base64.b64encode(struct.pack("<4f", 0, 0, 1, 1)).decode()
    with path.open("w") as file:
        for face in faces:
            rank, _, number = face.file.rpartition(".")[0].partition("-")
            data = base64.b64encode(face.content).decode()
            print(
                face.identity, rank, "http://a/b.jpg", "http://a", number or "FaceId-0", box, data, sep="\t", file=file
            )
    return path


def write_celeba(
    folder: Path,
    faces: Sequence[Face],
    images: str = "img_align_celeba",
    points: str = "list_landmarks_align_celeba.txt",
    where: str = "",
) -> Path:
    """CelebA's images and lists, all landmarks alike; a csv as Kaggle has it."""
    (folder / images).mkdir(parents=True)
    (folder / where).mkdir(exist_ok=True)
    comma = "," if points.endswith("csv") else " "
    names = sorted({face.identity for face in faces})
    rows, people = [], []
    for number, face in enumerate(faces, start=1):
        Image.open(io.BytesIO(face.content)).save(folder / images / f"{number:06d}.jpg")
        rows.append(comma.join([f"{number:06d}.jpg", *map(str, [8, 12, 20, 12, 14, 17, 9, 22, 19, 22])]))
        people.append(f"{number:06d}.jpg {1 + names.index(face.identity)}")
    header = comma.join(
        f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
    )
    opening = [f"image_id,{header}"] if comma == "," else [str(len(rows)), header]
    (folder / where / points).write_text("\n".join([*opening, *rows]) + "\n")
    (folder / where / "identity_CelebA.txt").write_text("\r\n".join(people) + "\r\n\r\n")
    return folder


def write_lfw(folder: Path, faces: Sequence[Face]) -> Path:
    """LFW's tree, and ten folds of a pair of one person and one of two."""
    named = [face.identity.replace(" ", "_") for face in faces]
    people = sorted(set(named))
    counts = dict.fromkeys(people, 0)
    for name, face in zip(named, faces, strict=True):
        counts[name] += 1
        (folder / "images" / name).mkdir(parents=True, exist_ok=True)
        (folder / "images" / name / f"{name}_{counts[name]:04d}.jpg").write_bytes(face.content)
    lines = []
    for fold in range(10):
        one, other = people[fold % 2], people[2 + fold % 2]
        lines += [f"{one}\t{fold + 1}\t{fold + 2}", f"{one}\t{fold + 1}\t{other}\t{fold + 1}"]
    (folder / "pairs.txt").write_text("10\t1\n" + "\n".join(lines) + "\n")
    return folder
