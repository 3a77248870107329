"""The linear map from one embedding to another that ridge regression finds."""

import torch
from torch import Tensor

# Of the penalty, in units of the mean variance of an input. Four batches have about as many samples as K has values:
# with 0.1 or less, the map of a random network is worse than the mean on the next batches.
STRENGTH = 1.0


def ridge(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """The W [E, D] and b [E] with the least Σ ‖W x + b − y‖² / N + λ ‖W‖² over N samples, in float64 on the CPU.

    λ is ``STRENGTH`` times the mean variance of the inputs, so that their scale does not count; b is not penalized.

    Args:
        inputs: x [N, D].
        outputs: y [N, E].
    """
    x, y = (part.double().cpu() for part in (inputs, outputs))
    centred = x - x.mean(0)
    covariance = centred.T @ centred / len(x)
    penalty = STRENGTH * covariance.diagonal().mean().clamp(min=1e-30)
    weight = torch.linalg.solve(
        covariance + penalty * torch.eye(x.shape[1], dtype=x.dtype), centred.T @ (y - y.mean(0)) / len(x)
    ).T
    return weight, y.mean(0) - weight @ x.mean(0)
