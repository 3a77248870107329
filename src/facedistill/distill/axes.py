"""The leading axes of a teacher's embedding: what a student whose embedding has fewer values imitates of it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from facedistill.data.loading.samplers import Keys
from facedistill.data.loading.views import BankReader
from facedistill.distill.teacher import Teacher, TeacherOutput

CHUNK = 2**14  # embeddings that are summed up at once


class Axes(NamedTuple):
    """Orthonormal axes float32 [D, E], and what share of their squared length embeddings keep on them, %."""

    axes: Tensor
    kept: float


def leading_axes(embedding: Any, count: int) -> Axes:
    """The ``count`` axes on which embeddings keep most of their squared length, each taken at length 1.

    The A with the largest Σ ‖Aᵀ u‖² are the eigenvectors of Σ u uᵀ with the largest eigenvalues. No mean is subtracted,
    since a cosine subtracts none. The largest value of every axis is positive, so that its direction is defined.

    Args:
        embedding: K_T [N, D], an array or what is indexed like one.
    """
    moments = torch.zeros(embedding.shape[1], embedding.shape[1], dtype=torch.float64)
    for start in range(0, len(embedding), CHUNK):
        directions = F.normalize(torch.from_numpy(embedding[start : start + CHUNK].astype(np.float64)), dim=1)
        moments += directions.T @ directions
    found = torch.linalg.eigh(moments)
    axes = found.eigenvectors.flip(1)[:, :count]
    axes *= axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return Axes(axes.float(), 100 * float(found.eigenvalues.flip(0)[:count].sum() / moments.trace()))


def on_axes(embedding: NDArray[Any], axes: Tensor) -> NDArray[np.float32]:
    """Embeddings [N, D] on axes [D, E], float32 [N, E]; one by one, since the size of a batch would change bits."""
    across = axes.numpy()
    return np.stack([one.astype(np.float32) @ across for one in embedding])


@dataclass(frozen=True)
class ReaderOnAxes:
    """K_T of a bank, on axes of it."""

    whole: BankReader
    axes: Tensor

    def __call__(self, keys: Keys, mirrored: NDArray[np.bool_]) -> NDArray[Any]:
        """Aᵀ K_T, float32 [B, E], of (index, view) pairs."""
        return on_axes(self.whole(keys, mirrored), self.axes)


class TeacherOnAxes(Teacher):
    """A recognizer of which only some axes of its embedding are imitated.

    Args:
        whole: what it is made of.
        axes: [D, E].
    """

    def __init__(self, whole: Teacher, axes: Tensor) -> None:
        self.whole, self.axes = whole, axes
        self.input, self.width = whole.input, axes.shape[1]

    def __call__(self, images: Tensor) -> TeacherOutput:
        embedding = self.whole(images).embedding
        return self.from_embedding(
            torch.from_numpy(on_axes(embedding.float().cpu().numpy(), self.axes)).to(images.device)
        )

    def from_embedding(self, embedding: Tensor) -> TeacherOutput:
        """``embedding``: on its axes, as its banks bring it."""
        return TeacherOutput(embedding, None)

    def to(self, device: torch.device) -> None:
        self.whole.to(device)


def concatenated_on_axes(embedding: NDArray[np.float32], axes: Tensor) -> NDArray[np.float32]:
    """Embeddings of an image and its mirror image, L2-normalized [M, 2 D], each on axes [D, E]: again, [M, 2 E]."""
    both = np.concatenate([on_axes(half, axes) for half in np.split(embedding, 2, axis=1)], 1)
    normalized: NDArray[np.float32] = both / np.linalg.norm(both, axis=1, keepdims=True)
    return normalized
