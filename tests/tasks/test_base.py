"""Φ + α·soft + β·hidden written once, the optimizer, the schedule, the epochs, and the score."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score

from facedistill.config.build import build
from facedistill.config.schema import Config
from facedistill.data.faces import FaceSet
from facedistill.data.loading import datamodule
from facedistill.data.loading.datamodule import FaceData
from facedistill.distill.teacher import NetworkTeacher
from facedistill.models.network import build_network
from facedistill.tasks.classify import Classify
from tiny import MODULE as TINY

Compose = Callable[..., Config]
Floats = NDArray[np.float64]


def task(config: Config) -> Classify:
    torch.manual_seed(0)
    network = build_network(config.model, config.rate, 4)
    teacher = NetworkTeacher(build_network(config.teacher.model, 1, 4), {})
    widths = {"student_width": network.backbone.width, "teacher_width": teacher.network.backbone.width}
    targets = {name: build("target", term, **widths) for name, term in config.target.active().items()}
    return Classify(config, network, {"teacher": teacher} if targets else {}, targets)


def first_batch(config: Config, faces: FaceSet) -> Any:
    return next(iter(FaceData(config, faces).train_dataloader()))


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def by_hand(module: Classify, batch: Any, tau: float = 3.0) -> dict[str, float]:
    """Every term in float64, from what copies of the two networks say."""
    with torch.no_grad():
        student = copy.deepcopy(module.network).train()(batch.images)
        features, logits, _ = (part.double().numpy() for part in student[:3])
        labels = batch.labels.numpy()
        terms = {"task": float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())}
        if not module.teachers:
            return terms
        teacher = copy.deepcopy(module.teachers["teacher"].network).eval()(batch.images)
        hidden_t, logits_t, _ = (part.double().numpy() for part in teacher[:3])
    soft = np.exp(log_softmax(logits_t / tau))
    terms["soft"] = float(-(soft * log_softmax(logits / tau)).sum(1).mean() * tau**2)
    terms["logits"] = float(((logits - logits_t) ** 2).mean())
    if "hidden" in module.targets:
        linear = module.targets["hidden"].map
        weight, bias = (getattr(linear, name).detach().double().numpy() for name in ("weight", "bias"))
        terms["hidden"] = float(((features @ weight.T + bias - hidden_t) ** 2).mean())
    return terms


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        (["target=none"], {}),
        (["target=soft"], {"soft": 1.0}),
        (["target=soft", "target.alpha=0.3"], {"soft": 0.3}),
        (["target=hidden", "target.beta=2"], {"hidden": 2.0}),
        (["target=logits", "target.terms.logits.weight=0.5"], {"logits": 0.5}),
        (["target=soft", "target.alpha=0.7", "target.beta=0.2"], {"soft": 0.7, "hidden": 0.2}),
        (["target=hidden", "target.alpha=3", "target.beta=0.1"], {"soft": 3.0, "hidden": 0.1}),
    ],
    ids=str,
)
def test_the_loss_is_the_task_and_the_weighed_terms(
    compose: Compose, faces: FaceSet, words: list[str], weights: dict[str, float]
) -> None:
    config = compose(*TINY, *words)
    module, batch = task(config), first_batch(config, faces)
    expected = by_hand(module, batch)
    found = module.train().training_step(batch, 0)
    assert found.keys() == {"loss", "task", *weights}
    for name in ("task", *weights):
        assert found[name].item() == pytest.approx(expected[name], rel=2e-5)
        assert not found[name].requires_grad
    total = expected["task"] + sum(weight * expected[name] for name, weight in weights.items())
    assert found["loss"].item() == pytest.approx(total, rel=2e-5)
    found["loss"].backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("tau", [1.0, 8.0])
def test_the_temperature_is_that_of_the_configuration(compose: Compose, faces: FaceSet, tau: float) -> None:
    config = compose(*TINY, "target=soft", f"target.tau={tau}")
    module, batch = task(config), first_batch(config, faces)
    expected = by_hand(module, batch, tau)["soft"]
    assert module.train().training_step(batch, 0)["soft"].item() == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("compiles", [False, True])
def test_training_steps_alone_are_compiled_and_only_if_asked(
    compose: Compose, faces: FaceSet, monkeypatch: pytest.MonkeyPatch, compiles: bool
) -> None:
    calls: list[int] = []

    def compiled(function: Callable[[torch.Tensor], Any], dynamic: bool) -> Callable[[torch.Tensor], Any]:
        def counted(images: torch.Tensor) -> Any:
            calls.append(len(images))
            return function(images)

        return counted

    monkeypatch.setattr(torch, "compile", compiled)
    config = compose(*TINY, "target=soft", f"trainer.compile={compiles}")
    module, batch = task(config), first_batch(config, faces)
    assert module.state_dict().keys() == task(compose(*TINY, "target=soft")).state_dict().keys()
    expected = by_hand(module, batch)
    assert module.train().training_step(batch, 0)["task"].item() == pytest.approx(expected["task"], rel=2e-5)
    module.eval().measure(batch)
    assert calls == ([len(batch.labels)] if compiles else [])


def test_the_optimizer_has_every_trained_weight_once_and_the_papers_settings(compose: Compose) -> None:
    module = task(compose(*TINY, "target=hidden", "schedule.momentum=0.8", "schedule.weight_decay=0.003"))
    optimizer = module.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.SGD)
    (group,) = optimizer.param_groups
    assert (group["nesterov"], group["momentum"], group["weight_decay"], group["dampening"]) == (True, 0.8, 0.003, 0)
    assert {id(parameter) for parameter in group["params"]} == {id(parameter) for parameter in module.parameters()}
    assert any(parameter is module.targets["hidden"].map.weight for parameter in group["params"])


def test_without_momentum_there_is_no_nesterov(compose: Compose) -> None:
    optimizer = task(compose(*TINY, "schedule.momentum=0")).configure_optimizers()["optimizer"]
    assert optimizer.param_groups[0]["nesterov"] is False


def test_steps_are_nesterovs_with_weight_decay(compose: Compose) -> None:
    module = task(
        compose(*TINY, "task.learning_rates.random=[0.1]", "schedule.momentum=0.9", "schedule.weight_decay=5e-4")
    )
    optimizer = module.configure_optimizers()["optimizer"]
    watched = module.network.classifier.bias  # type: ignore[union-attr]
    weight, velocity = watched.detach().double().numpy().copy(), np.zeros(4)
    for step in range(4):
        gradient = np.array([1.0, -2.0, 0.5, 3.0]) * (step + 1)
        watched.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
        decayed = gradient + 5e-4 * weight
        velocity = 0.9 * velocity + decayed
        weight -= 0.1 * (decayed + 0.9 * velocity)
        np.testing.assert_allclose(watched.detach().numpy(), weight, rtol=1e-5, atol=1e-6)


class Seen(pl.Callback):
    """What a fit did: learning rate and sample indices of every epoch."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.samples: list[list[list[int]]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.samples.append([])

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, *_: Any) -> None:
        assert trainer.optimizers[0].param_groups[0]["lr"] == self.rates[-1]
        self.samples[-1].append(batch.indices.tolist())


def trainer_of(tmp_path: Path, epochs: int, *callbacks: pl.Callback) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


@pytest.mark.parametrize(
    ("init", "rates"),
    [
        ("scratch", [0.5, 0.5, 0.25, 0.25]),
        ("full", [0.125, 0.125]),
        ("scratch_whole", [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]),
    ],
)
def test_a_fit_has_the_learning_rates_and_the_samples_of_every_epoch(
    compose: Compose, faces: FaceSet, tmp_path: Path, init: str, rates: list[float]
) -> None:
    schedule = ["task.learning_rates.random=[0.5,0.25]", "task.learning_rates.initialized=[0.125]", "schedule.epochs=2"]
    config = compose(*TINY, *schedule, f"init={init}", "seed=5")
    seen, data = Seen(), FaceData(config, faces)
    trainer_of(tmp_path, len(rates), seen).fit(task(config), data)
    assert seen.rates == pytest.approx(rates, rel=1e-12)
    for epoch, batches in enumerate(seen.samples):
        assert sorted(index for batch in batches for index in batch) == faces.train.tolist()
        assert batches == [batch.tolist() for batch in FaceData(config, faces).train_batches.batches(epoch)]
    assert seen.samples[0] != seen.samples[1]


@pytest.mark.parametrize("eval_batch", [1, 3, 128])
def test_top1_is_the_accuracy_over_the_test_split(
    compose: Compose, faces: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eval_batch: int
) -> None:
    monkeypatch.setattr(datamodule, "EVAL_BATCH", eval_batch)  # batches of unequal size must not weigh equally
    config = compose(*TINY)
    module, data = task(config), FaceData(config, faces)
    trainer = trainer_of(tmp_path, 3)
    trainer.fit(module, data)
    images = torch.from_numpy(np.ascontiguousarray(faces.images[faces.test][:, 4:20, 4:20].transpose(0, 3, 1, 2)))
    with torch.no_grad():
        said = module.network.eval()(images).logits.argmax(1).numpy()
    expected = 100 * accuracy_score(faces.labels[faces.test], said)
    assert trainer.callback_metrics["test/top1"].item() == pytest.approx(expected, abs=1e-4)
    (again,) = trainer.validate(module, data, verbose=False)  # nothing of the epochs before is counted again
    assert again["test/top1"] == pytest.approx(expected, abs=1e-4)
