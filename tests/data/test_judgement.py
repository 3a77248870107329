"""What samples are fit for: the doctor, a plan and training give one answer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facedistill.config.compose import compose_config
from facedistill.data.faces import Samples
from facedistill.data.judgement import complaints
from facedistill.errors import DataError
from facedistill.runs.plan import check_data
from facedistill.runs.run import Run
from writers import encoded_faces, write_folders

Planner = Callable[..., Run]


def samples(trained: list[int], tested: list[int], identities: bool = True, landmarks: bool = False) -> Samples:
    labels = np.array(trained + tested)
    return Samples(labels, np.arange(len(labels)) >= len(trained), identities, landmarks)


CLASSIFY = ["task=classify"]
VERIFY = ["task=verify", "task.batch_size=4", "task.images_per_identity=2"]
ALIGN = ["task=align", "init=scratch"]
SPLIT = ["trainer=ddp", "trainer.devices=3", "trainer.split_classes=true"]
FACES = ["task=classify", "task.needs=faces"]


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        (CLASSIFY, samples([0, 0, 1, 1], [0, 1]), None),
        (CLASSIFY, samples([0, 0, 1, 1], [1]), None),
        (CLASSIFY, samples([0, 1], [2, 3]), "nobody of its test split is trained on"),
        (CLASSIFY, samples([0, 1], []), "all of its 2 usable images fall on one side"),
        (CLASSIFY, samples([], [0, 1]), "all of its 2 usable images fall on one side"),
        (CLASSIFY, samples([0, 0], [0]), "usable images are of 1 identity"),
        (CLASSIFY, samples([0, 0], [0], identities=False, landmarks=True), "task=classify needs identities"),
        (VERIFY, samples([0, 0, 1, 1], [2, 3]), None),
        (VERIFY, samples([0, 0, 1], [2, 3]), "1 identity has one training image"),
        (VERIFY, samples([0, 1, 2, 2], [3]), "2 identities have one training image"),
        (VERIFY, samples([0, 0, 0], [1]), "1 identity can't fill a batch of 2 × 2"),
        (ALIGN, samples([0, 0], [0], identities=False, landmarks=True), None),
        (ALIGN, samples([0, 1], [2], landmarks=True), None),
        (ALIGN, samples([0, 1], [2]), "task=align needs landmarks"),
        (ALIGN, samples([0, 0], [], identities=False, landmarks=True), "all of its 2 usable images"),
        (FACES, samples([0, 0], [0], identities=False), None),
        (FACES, samples([0, 0], [0]), None),
        (FACES, samples([0, 1], [2, 3]), None),
        (FACES, samples([0, 0], [0], identities=False, landmarks=True), None),
        (FACES, samples([0, 0], [], identities=False), "all of its 2 usable images fall on one side"),
        (CLASSIFY, samples([0, 0], [0], identities=False), "task=classify needs identities"),
        ([*CLASSIFY, *SPLIT], samples([0, 1, 2], [2]), None),
        ([*CLASSIFY, *SPLIT], samples([0, 1], [1]), "2 identities between 3 processes: trainer.split_classes=false"),
        ([*VERIFY, *SPLIT, "task.batch_size=6"], samples([0, 0, 1, 1, 2, 2], [1]), None),
        ([*CLASSIFY, "trainer.split_classes=true"], samples([0, 1], [1]), None),
    ],
)
def test_what_labels_and_split_forbid(words: list[str], given: Samples, said: str | None) -> None:
    found = list(complaints(compose_config(words), given))
    assert found == [] if said is None else said in found[0]


def test_the_cure_for_a_single_image_is_the_least_that_helps() -> None:
    """Of three images of person 1, two are tested: whoever has four has two to train on."""
    given = samples([0, 0, 1, 2, 2, 2], [1, 1, 2])
    (found,) = complaints(compose_config(VERIFY), given)
    assert found.endswith("data.min_images=4")


def test_a_plan_refuses_for_the_whole_tree(planned: Planner, tmp_path: Path) -> None:
    """The teacher and W_S0 could be trained; verification, which stands on them, could not."""
    faces = write_folders(tmp_path / "faces", encoded_faces(people=4, shots=6))
    words = ["data=identity_folders", f"data.root={faces}", f"cache_dir={tmp_path / 'cache'}"]
    check_data(planned("task=classify", "rate=8", "target=soft", *words))
    with pytest.raises(DataError, match="can't fill a batch of 32 × 4"):
        check_data(planned("task=verify", "rate=8", "init=distill", "target=soft", *words))
    assert not (tmp_path / "cache").exists()


def test_an_ancestor_with_other_faces_is_judged_by_them(planned: Planner, tmp_path: Path) -> None:
    faces = write_folders(tmp_path / "faces", encoded_faces(people=2, shots=1))  # person 0 is trained on, 1 tested
    ours = ["data@recognition=identity_folders", f"recognition.root={faces}"]
    check_data(planned("task=align", "rate=8", "init=scratch", *ours))
    with pytest.raises(DataError, match=r"data@recognition=identity_folders: nobody of its test split"):
        check_data(planned("task=align", "rate=8", "init=distill", "target=none", *ours))
