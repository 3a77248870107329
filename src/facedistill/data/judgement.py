"""Whether faces are fit for a task: what the doctor, a plan and training say, each before it takes any time."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedistill.config.groups import ImageConfig
from facedistill.config.schema import Config
from facedistill.data.faces import Samples
from facedistill.data.sources.source import build_source
from facedistill.errors import DataError


def check(config: Config, samples: Samples) -> None:
    """Raise ``DataError`` where the task of a configuration can't be done with these samples."""
    for complaint in complaints(config, samples):
        raise DataError(f"data={config.data['name']}: {complaint}")


def check_seen_as(image: ImageConfig, data: dict[str, Any]) -> None:
    """Raise ``DataError`` where a teacher can't see the faces of a ``conf/data`` node in these pixels."""
    try:
        build_source(data).check_size(image.resize)
    except DataError as error:
        raise DataError(f"the teacher is to see these faces at {image.resize} pixels, but {error}") from error


def complaints(config: Config, samples: Samples) -> Iterator[str]:
    """What names, labels and the split forbid, one by one."""
    task = config.task
    has = {
        "identities": samples.has_identities,
        "landmarks": samples.has_landmarks,
        "liveness": samples.has_liveness,
        "faces": True,
    }
    if not has[task.needs]:
        yield f"task={task.name} needs {task.needs}, and there are none here"
        return
    if task.bands and not samples.has_eyes:
        yield (
            f"task={task.name} cuts the band about the eyes, and it is not known here where they are. data=lfw has it "
            "from the list by which data.alignment=similarity aligns, data=celeba with data.alignment=centre"
        )
        return
    yield from complaints_of_any_task(replace(samples, has_identities=task.needs == "identities"))
    if task.needs != "identities":
        return
    labels, train = samples.labels, np.flatnonzero(~samples.is_test)
    if config.trainer.splits_classes and config.has_identities and config.identities_data == config.data:
        people, processes = len(np.unique(labels)), config.trainer.world_size
        if people < processes:
            yield (
                f"trainer.split_classes=true splits {_identities(people)} between {processes} processes: "
                "trainer.split_classes=false"
            )
    if task.classifies and not np.isin(labels[samples.is_test], labels[train]).any():
        yield (
            f"nobody of its test split is trained on, so there is nobody that task={task.name} could recognize. A "
            "split by sample (data.split=random; of folders train and val, data.root=FOLDER/train) has everybody on "
            "both sides; for the classification runs of a chain alone: data@recognition=NAME recognition.split=random"
        )
    if task.bands and (np.bincount(labels[samples.is_test]) < 2).all():
        yield f"no two images of its test split are of one person, and task={task.name} looks for the other"
    if task.images_per_identity is not None:
        yield from complaints_of_batches(labels, train, task.batch_size, task.images_per_identity)


def complaints_of_any_task(samples: Samples) -> Iterator[str]:
    """What forbids to train and test on samples, whatever is learnt."""
    people = len(np.unique(samples.labels))
    if samples.has_identities and people < 2:
        yield f"its usable images are of {_identities(people)}; a classifier needs two"
    if samples.is_test.all() or not samples.is_test.any():
        count = len(samples.is_test)
        yield f"all of its {count} usable images fall on one side of the {samples.split}: more images are needed"


def complaints_of_batches(
    labels: NDArray[np.int64], train: NDArray[np.int64], batch_size: int, per_identity: int
) -> Iterator[str]:
    """What forbids batches of P identities × K images.

    Args:
        labels: int64 [N], of all samples.
        train: int64 [M], the indices of those that are trained on.
    """
    people, counts = np.unique(labels[train], return_counts=True)
    if single := len(alone := people[counts < 2]):
        enough = int(np.bincount(labels)[alone].max()) + 1
        yield (
            f"{_identities(single)} {'has' if single == 1 else 'have'} one training image, but a pair needs "
            f"two. To leave out everybody with so few images: data.min_images={enough}"
        )
    if len(people) < batch_size // per_identity:
        yield (
            f"{_identities(len(people))} can't fill a batch of {batch_size // per_identity} × {per_identity} images: "
            "lower task.batch_size"
        )


def _identities(count: int) -> str:
    return "1 identity" if count == 1 else f"{count:,} identities"
