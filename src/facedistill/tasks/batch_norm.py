"""BatchNorm of the whole batch where several processes share it: each then normalizes as one process would."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.nn.modules._functions import SyncBatchNorm as FusedOnGpu
from torch.overrides import TorchFunctionMode

from facedistill.tasks.gather import gather_shares


class WholeBatchNorm(TorchFunctionMode):
    """While it is entered, every BatchNorm that trains, of whatever class, has the statistics of the whole batch.

    Args:
        sizes: of every rank's share.
    """

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self._sizes = sizes

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is F.batch_norm:
            return _batch_norm(self._sizes, *args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _batch_norm(
    sizes: list[int],
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``F.batch_norm`` of a share [B, C, …]; biased variance normalizes, the unbiased one is remembered."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    if input.is_cuda:
        group = distributed.group.WORLD
        fused: Tensor = FusedOnGpu.apply(
            input, weight, bias, running_mean, running_var, eps, momentum, group, len(sizes)
        )
        return fused
    others = [dim for dim in range(input.dim()) if dim != 1]
    values = input.float()
    means, variances = gather_shares(torch.stack([values.mean(others), values.var(others, correction=0)])).unbind(1)
    parts = values.new_tensor(sizes)[:, None] / sum(sizes)
    mean = (parts * means).sum(0)
    variance = (parts * (variances + (means - mean) ** 2)).sum(0)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            count = sum(sizes) * (input[:, 0].numel() // len(input))
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * count / (count - 1), momentum)
    shape = [1 if dim in others else -1 for dim in range(input.dim())]
    scale = torch.rsqrt(variance + eps) * (1 if weight is None else weight)
    normal = (values - mean.view(shape)) * scale.view(shape)
    return (normal if bias is None else normal + bias.view(shape)).to(input.dtype)
