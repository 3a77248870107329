"""Verification: the triplet loss against a formula of its own, its mining, and the joint form."""

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from facedistill.config.schema import Config
from facedistill.data.faces import FaceSet
from facedistill.data.loading.datamodule import FaceData
from facedistill.models.network import NetworkOutput
from facedistill.tasks.assemble import build_module, training_network
from facedistill.tasks.verify import Verify

TINY = [
    "task=verify",
    "init=scratch",
    "image.resize=24",
    "image.crop=16",
    "model.width=8",
    "task.batch_size=12",
    "task.images_per_identity=3",
    "rate=2",
]
Compose = Callable[..., Config]
Floats = NDArray[np.float64]


def module_of(config: Config) -> Verify:
    torch.manual_seed(0)
    module = build_module(config, training_network(config, 4))
    assert isinstance(module, Verify)
    return module


def distances(features: Floats, normalize: bool) -> Floats:
    if normalize:
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    return np.array([[np.sum((a - b) ** 2) for b in features] for a in features])


def chosen(squared: Floats, labels: list[int], mining: str, margin: float) -> Iterator[tuple[int, int, int]]:
    """Anchor, positive and negative of every triplet."""
    count = range(len(labels))
    for anchor in count:
        positives = [i for i in count if labels[i] == labels[anchor] and i != anchor]
        negatives = [i for i in count if labels[i] != labels[anchor]]
        if not positives or not negatives:
            continue
        if mining == "hard":
            yield (
                anchor,
                max(positives, key=lambda i: squared[anchor, i]),
                min(negatives, key=lambda i: squared[anchor, i]),
            )
        else:
            for positive, negative in itertools.product(positives, negatives):
                gap = squared[anchor, negative] - squared[anchor, positive]
                if mining == "all" or 0 < gap <= margin:
                    yield anchor, positive, negative


def by_hand(features: Floats, labels: list[int], mining: str, margin: float, normalize: bool) -> float:
    squared = distances(features, normalize)
    losses = [max(0.0, squared[a, p] - squared[a, n] + margin) for a, p, n in chosen(squared, labels, mining, margin)]
    return float(np.mean(losses)) if losses else 0.0


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("mining", ["hard", "semihard", "all"])
@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_the_mean_of_its_triplets(compose: Compose, mining: str, normalize: bool, seed: int) -> None:
    margin = 0.4 if normalize else 6.0
    words = (f"task.options.mining={mining}", f"task.options.normalize={normalize}", f"task.options.margin={margin}")
    module = module_of(compose(*TINY, *words))
    draw = np.random.default_rng(seed)
    features, labels = draw.normal(size=(12, 5)), draw.integers(0, 4, 12).tolist()
    answer = NetworkOutput(torch.from_numpy(features), torch.empty(12, 0), torch.empty(12, 0, 2))
    batch: Any = type("Batch", (), {"labels": torch.tensor(labels)})
    expected = by_hand(features, labels, mining, margin, normalize)
    assert expected > 0
    assert module.task_loss(answer, batch).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("mining", ["hard", "semihard", "all"])
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]], ids=["one identity", "no positive"])
def test_a_batch_without_a_triplet_has_loss_zero_and_a_gradient(
    compose: Compose, mining: str, labels: list[int]
) -> None:
    module = module_of(compose(*TINY, f"task.options.mining={mining}"))
    features = torch.randn(4, 5, requires_grad=True)
    batch: Any = type("Batch", (), {"labels": torch.tensor(labels)})
    loss = module.task_loss(NetworkOutput(features, torch.empty(4, 0), torch.empty(4, 0, 2)), batch)
    assert loss.item() == 0
    loss.backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    assert torch.equal(features.grad, torch.zeros(4, 5))


@pytest.mark.parametrize("mining", ["hard", "semihard", "all"])
def test_equal_faces_give_no_nan(compose: Compose, mining: str) -> None:
    module = module_of(compose(*TINY, f"task.options.mining={mining}"))
    features = torch.ones(4, 5, requires_grad=True)
    batch: Any = type("Batch", (), {"labels": torch.tensor([0, 0, 1, 1])})
    loss = module.task_loss(NetworkOutput(features, torch.empty(4, 0), torch.empty(4, 0, 2)), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()
    assert torch.isfinite(loss)


def test_the_joint_form_adds_the_cross_entropy(compose: Compose, faces: FaceSet) -> None:
    config = compose(*TINY, "task.softmax=true")
    module = module_of(config)
    batch = next(iter(FaceData(config, faces).train_dataloader()))
    with torch.no_grad():
        answer = copy.deepcopy(module.network).train()(batch.images)
    features, logits = answer.embedding.double().numpy(), answer.logits.double().numpy()
    labels = batch.labels.tolist()
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    entropy = -np.log(chance[np.arange(12), labels]).mean()
    expected = by_hand(features, labels, "hard", 0.4, normalize=True) + entropy
    assert module.train().training_step(batch, 0)["loss"].item() == pytest.approx(expected, rel=2e-5)


def test_the_triplet_form_has_no_classifier_unless_its_target_takes_one(compose: Compose) -> None:
    assert module_of(compose(*TINY)).network.classifier is None
    assert training_network(compose(*TINY, "target=soft"), 4).classifier is not None
    assert training_network(compose(*TINY, "target=hidden"), 4).classifier is None


def test_training_batches_are_p_times_k(compose: Compose, faces: FaceSet) -> None:
    data = FaceData(compose(*TINY), faces)
    batches = list(data.train_dataloader())
    assert batches
    for batch in batches:
        labels = batch.labels.reshape(4, 3)
        assert (labels == labels[:, :1]).all()
        assert len(set(labels[:, 0].tolist())) == 4
        assert not set(batch.indices.tolist()) & set(faces.test.tolist())


@pytest.mark.parametrize("normalize", [True, False])
def test_top1_is_the_nearest_other_test_sample(compose: Compose, faces: FaceSet, normalize: bool) -> None:
    config = compose(*TINY, f"task.options.normalize={normalize}")
    module, data = module_of(config).eval(), FaceData(config, faces)
    features, labels = [], faces.labels[faces.test]
    for batch in data.val_dataloader():
        module.measure(batch)
        with torch.no_grad():
            features.append(module.network(batch.images).embedding.double().numpy())
    embedded = np.concatenate(features)
    if normalize:
        embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    right = []
    for i in range(len(labels)):
        others = np.arange(len(labels)) != i
        nearest = KNeighborsClassifier(1).fit(embedded[others], labels[others])
        right.append(nearest.predict(embedded[i : i + 1])[0] == labels[i])
    assert module.evaluation.scores()["top1"] == pytest.approx(100 * np.mean(right), abs=1e-6)


def test_pictures_show_the_nearest_face(compose: Compose, faces: FaceSet) -> None:
    config = compose(*TINY)
    module = module_of(config).eval()
    assert module.evaluation.pictures(module.network, FaceData(config, faces)).keys() == {"samples"}
