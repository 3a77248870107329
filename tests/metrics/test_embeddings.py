"""Embeddings are scored in the order of the split, whoever saw them; two ranks find what one process finds."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from facedistill.errors import DataError
from facedistill.metrics.embeddings import EmbeddingMetric
from facedistill.metrics.landmarks import LandmarkError
from facedistill.metrics.retrieval import NearestNeighbour

COUNTS = (7, 13)  # neither divides by two ranks


class InOrder(EmbeddingMetric):
    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.in_order()


@pytest.mark.parametrize("sizes", [[9], [1, 5, 3], [4, 0, 5]])
def test_batches_come_back_in_the_order_of_the_split(sizes: list[int]) -> None:
    draw = torch.Generator().manual_seed(0)
    embeddings, order = torch.randn(9, 3, generator=draw), torch.randperm(9, generator=draw)
    labels, indices = torch.arange(9) % 4, torch.arange(9) * 10
    metric = InOrder()
    for part in order.split(sizes):
        metric.update(embeddings[part], labels[part], indices[part])
    for found, expected in zip(metric.compute(), (embeddings, labels, indices), strict=True):
        assert torch.equal(found, expected)


def test_a_sample_seen_twice_is_found() -> None:
    metric = InOrder()
    metric.update(torch.zeros(2, 3), torch.zeros(2), torch.tensor([4, 1]))
    metric.update(torch.zeros(1, 3), torch.zeros(1), torch.tensor([4]))
    with pytest.raises(AssertionError, match="twice"):
        metric.compute()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_an_empty_split_is_refused() -> None:
    with pytest.raises(DataError, match="empty"):
        InOrder().compute()


def test_no_graph_is_kept() -> None:
    metric = InOrder()
    metric.update(torch.ones(2, 3, requires_grad=True) * 2, torch.zeros(2), torch.arange(2))
    assert not metric.embeddings[0].requires_grad


def metrics_of(count: int, rank: int, world: int) -> dict[str, Any]:
    """Everything that a rank computes when the ranks share ``count`` samples like cards, in batches of three."""
    draw = torch.Generator().manual_seed(count)
    labels, embeddings = torch.arange(count) % 3, torch.randn(count, 16, generator=draw)
    true, noise = 50 * torch.randn(count, 5, 2, generator=draw), torch.randn(count, 5, 2, generator=draw)
    landmarks, retrieval, in_order = LandmarkError(), NearestNeighbour(), InOrder()
    for part in torch.arange(rank, count, world).split(3):
        landmarks.update(true[part] + 3 * noise[part], true[part], 40.0 + part)
        retrieval.update(embeddings[part], labels[part], part)
        in_order.update(embeddings[part], labels[part], part)
    tables = {**landmarks.compute(), **retrieval.compute()}
    lists = [*landmarks.curve(), *in_order.compute()]
    # a second time: the states of the rank are its own again
    again = [*landmarks.curve()]
    return {
        **{name: float(value) for name, value in tables.items()},
        "lists": [part.tolist() for part in lists + again],
    }


def one_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save([metrics_of(count, rank, 2) for count in COUNTS], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_find_the_numbers_of_one_process(tmp_path: Path) -> None:
    mp.spawn(one_rank, (str(tmp_path),), nprocs=2)
    alone = [metrics_of(count, 0, 1) for count in COUNTS]
    assert torch.load(tmp_path / "0.pt") == alone
    assert torch.load(tmp_path / "1.pt") == alone
    assert alone != [metrics_of(count, 0, 2) for count in COUNTS]  # half of the samples score otherwise
