"""Faces of people in evaluation pairs, whom a teacher knows again: scores of people trained on would be too good."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from facedistill.config.groups import ImageConfig
from facedistill.config.schema import TEACHER, Config
from facedistill.data.files.store import Batches, Item, open_or_make
from facedistill.data.loading.datamodule import pair_batches
from facedistill.data.sources.photos import Photos
from facedistill.data.sources.verification_set import protocol_source
from facedistill.distill.teacher import Teacher
from facedistill.errors import DataError
from facedistill.evaluation.scoring import device_for, embeddings, pair_similarity
from facedistill.runs.run import Run, WeightsFile
from facedistill.system.files import hash_of, hash_of_lines, write_aside
from facedistill.training.teachers import load_teacher

# Standard deviations above the mean similarity of two people's images from which two images are taken for one person's.
DEVIATIONS = 5
_AT_ONCE = 128
_COMPARED_AT_ONCE = 2048


def write_left_out(run: Run, source: Photos, config: Config) -> tuple[list[Path | None], int, float]:
    """Lists of the faces that are too much like an image of the pairs: one for each folder, None where it has none.

    Args:
        run: its teacher judges.
        source: the faces.
        config: its data are those of the pairs.

    Returns the lists in ``cache_dir``, how many faces they name, and the cosine from which a face is among them.

    Raises:
        DataError: the pairs, or an image of them, can't be used.
    """
    threads, parent = config.trainer.threads, run.parents[TEACHER]
    assert isinstance(parent, WeightsFile)
    torch.set_num_threads(threads)
    cache, image = Path(config.cache_dir).expanduser(), parent.pixels or run.config.image
    teacher, device = load_teacher(parent, 0, threads), device_for(config.trainer.accelerator)
    teacher.to(device)
    inventory = source.inventory(cache)
    key = hash_of([parent.identity, inventory.stamp, image.resize, image.crop, device.type, threads])
    faces = _embeddings_of(teacher, source, len(inventory.labels), image, device, cache / f"{source.name}-known-{key}")
    pairs = protocol_source(config.data).protocol(image.resize, cache, set())
    known = embeddings(
        lambda images: teacher(images).embedding, pair_batches(pairs, replace(config, image=image)), device
    )
    of_two_people = pair_similarity(known, pairs)[~pairs.same]
    threshold = float(of_two_people.mean() + DEVIATIONS * of_two_people.std())
    parts = np.array_split(faces, max(1, len(faces) // _COMPARED_AT_ONCE))
    nearest = np.concatenate([(part @ known.T).max(1) for part in parts])
    out = np.flatnonzero(nearest >= threshold)
    named: dict[int, list[str]] = {}
    for folder, name in sorted({source.name_of(int(number)) for number in out}):
        named.setdefault(folder, []).append(name)
    folders = len(source.root) if isinstance(source.root, list) else 1
    return [_written(named.get(folder, []), cache) for folder in range(folders)], len(out), threshold


def _written(names: Sequence[str], cache: Path) -> Path | None:
    if not names:
        return None
    path = cache / f"left-out-{hash_of_lines(names)[:12]}.txt"
    with write_aside(path) as part:
        part.write_text("".join(f"{name}\n" for name in names), encoding="utf-8", errors="surrogateescape")
    return path.absolute()


def _embeddings_of(
    teacher: Teacher, source: Photos, count: int, image: ImageConfig, device: torch.device, path: Path
) -> NDArray[np.float32]:
    """L2-normalized, float32 [N, width], of centre crops; 0 where an image can't be used. They are kept at ``path``."""
    margin = (image.resize - image.crop) // 2
    crop = slice(margin, margin + image.crop)

    def square(number: int) -> NDArray[np.uint8] | None:
        try:
            return source.to_square(number, source.open(number), image.resize)[0][crop, crop]
        except DataError:  # who trains on it says so, or leaves it out
            return None

    def answer(start: int) -> Batches:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for first in range(start, count, _AT_ONCE):
                numbers = range(first, min(first + _AT_ONCE, count))
                squares = list(pool.map(square, numbers))
                answers = np.zeros((len(numbers), teacher.width), np.float32)
                seen = np.array([found is not None for found in squares])
                if seen.any():
                    images = np.stack([found for found in squares if found is not None])
                    with torch.inference_mode():
                        embedding = teacher(torch.from_numpy(images).permute(0, 3, 1, 2).to(device)).embedding
                    answers[seen] = F.normalize(embedding.float(), dim=1).cpu().numpy()
                yield numbers.stop, answers, {}

    item = Item((teacher.width,), "<f4", "embedding", "embeddings")
    found = open_or_make(path, count, item, answer, "looking for people of the pairs")
    return np.asarray(found.items)
