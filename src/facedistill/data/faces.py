"""Prepared faces: images, labels, landmarks, and the pairs of a verification protocol."""

import re
import unicodedata
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from facedistill.data.files.photo_store import Images
from facedistill.errors import DataError

# "left" means left in the image, so mirroring a face swaps left and right
LANDMARKS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
MIRRORED = (1, 0, 2, 4, 3)
FOLDS = 10  # of a verification protocol like LFW's
ATTACK, LIVE = 0, 1  # labels of a source that tells live faces from presentation attacks
HELD_OUT = -1  # the domain that is never trained on


@dataclass(frozen=True)
class Pairs:
    """A verification protocol like LFW's: do two images show the same person?

    Attributes:
        images: uint8 [M, size, size, 3], RGB.
        left, right: int64 [P], indices into ``images``.
        same: bool [P].
        fold: int64 [P], 0 … folds − 1; as a rule nobody is in two folds.
        trained_on: bool [P], whether either person is among the identities that a network is trained on.
    """

    images: Images
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]
    trained_on: NDArray[np.bool_]


def kind_of(same: NDArray[np.bool_]) -> str | None:
    """Of whom all pairs are, where they are of one kind only."""
    if len(np.unique(same)) != 1:
        return None
    return "of one person" if same.all() else "of two people"


def check_kinds(same: NDArray[np.bool_], fold: NDArray[np.int64]) -> None:
    """Raise ``DataError`` unless there are pairs of one person and of two in every fold."""
    if kind := kind_of(same):
        raise DataError(f"all of its {len(same)} pairs are {kind}, which tells nothing: both kinds are needed")
    of_one = np.bincount(fold, same)
    for number in np.flatnonzero((of_one == 0) | (of_one == np.bincount(fold)))[:1]:
        kind, folds = "of one person" if of_one[number] else "of two people", fold.max() + 1
        raise DataError(f"all pairs of fold {number + 1} of {folds} are {kind}, which tells nothing: mix both kinds")


def person(name: str) -> str:
    """A name as the same person may be called in another data set: Halle Berry is Halle_Berry."""
    return re.sub(r"[\s_-]+", "_", unicodedata.normalize("NFKC", name).casefold()).strip("_")


@dataclass(frozen=True)
class Samples:
    """What is known of the N samples of a source before any image of them is decoded.

    Attributes:
        labels: int64 [N], identity of each; zeros where the source has no identities.
        is_test: bool [N].
        split: the name of the split.
        has_eyes: whether it is known where the eyes are, by landmarks or by what the images were aligned by.
    """

    labels: NDArray[np.int64]
    is_test: NDArray[np.bool_]
    has_identities: bool
    has_landmarks: bool
    split: str = "split"
    has_eyes: bool = False
    has_liveness: bool = False


@dataclass(frozen=True)
class FaceSet:
    """Prepared faces in a fixed order.

    Attributes:
        images: uint8 [N, size, size, 3], RGB, mapped from one file, or decoded whenever one is read.
        labels: int64 [N], identity of each image, 0 … C − 1; zeros where the source has no identities.
        is_test: bool [N], the 20 % that is never trained on.
        identities: the C names; empty where the source has none.
        pairs: the source's verification protocol, if it has one.
        landmarks: float32 [N, 5, 2], (x, y) of ``LANDMARKS`` in pixels of the stored image, the centre of the first
            pixel at 0; None where the source has none.
        crop_boxes: float32 [N, 3], (left, top, side) of the square of the original image that the stored one shows:
            its edges in pixels of the original. Only together with ``landmarks``.
        aligned_by: float32 [N, 5, 2], the same of images that were aligned by their landmarks, of which there are none
            left to learn; None where these are not known, too.
        subsets: named parts of the test split that are also scored separately, as indices int64.
        people: int64 [N], who is shown, where labels say something else.
        domains: int64 [N], of a source that tells live faces from attacks, whose labels are ``ATTACK`` and ``LIVE``:
            under what conditions each was taken, 0 … D − 1, or ``HELD_OUT``.
        domain_names: the D names of those that are trained on.
        used: bool [N], which are trained on or tested at all; None: all of them.
        counts: how many images, identities etc. there are or were left out, for the run's record.
    """

    images: Images
    labels: NDArray[np.int64]
    is_test: NDArray[np.bool_]
    identities: list[str]
    pairs: Pairs | None = None
    landmarks: NDArray[np.float32] | None = None
    crop_boxes: NDArray[np.float32] | None = None
    aligned_by: NDArray[np.float32] | None = None
    subsets: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    people: NDArray[np.int64] | None = None
    domains: NDArray[np.int64] | None = None
    domain_names: tuple[str, ...] = ()
    used: NDArray[np.bool_] | None = None

    @property
    def samples(self) -> Samples:
        """What a judgement of them asks."""
        used, has_liveness = slice(None) if self.used is None else self.used, self.domains is not None
        has_landmarks = self.landmarks is not None
        return Samples(
            self.labels[used],
            self.is_test[used],
            has_identities=bool(self.identities) and not has_liveness,
            has_landmarks=has_landmarks,
            has_eyes=has_landmarks or self.aligned_by is not None,
            has_liveness=has_liveness,
        )

    @property
    def clusters(self) -> NDArray[np.int64]:
        """Which samples are of one identity, int64 [N]: of a source without identities, each of its own."""
        if self.people is not None:
            return self.people
        return self.labels if self.identities else np.arange(len(self.labels))

    @property
    def train(self) -> NDArray[np.int64]:
        """Indices of the training samples, int64."""
        return np.flatnonzero(~self.is_test if self.used is None else ~self.is_test & self.used)

    @property
    def test(self) -> NDArray[np.int64]:
        """Indices of the test samples, int64."""
        return np.flatnonzero(self.is_test if self.used is None else self.is_test & self.used)

    @property
    def live(self) -> "FaceSet":
        """The same without its attacks, where it has any."""
        if self.domains is None:
            return self
        is_live = self.labels == LIVE
        return replace(self, used=is_live if self.used is None else is_live & self.used)
