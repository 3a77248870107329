"""Mixed precision: steps are in bf16, and what is published, scored and resumed is as exact as ever."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from facedistill.config.compose import compose_config
from facedistill.data.loading.views import FaceBatch
from facedistill.errors import RunError
from facedistill.evaluate import evaluate_run
from facedistill.models.network import Network, NetworkOutput
from facedistill.models.weights import read_weights
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from facedistill.tasks.classify import ClassifyEvaluation
from facedistill.training import fit, trainer
from facedistill.training.callbacks.checkpoint import BoundCheckpointIO
from facedistill.training.callbacks.history import History
from tiny import RUN
from trained_runs import curve

BF16 = "trainer.precision=bf16-mixed"
CELL = ["rate=8", "target=soft", "schedule.reading=one_rate", "schedule.epochs=3", BF16]


def planned(folder: Path, *words: str) -> Run:
    return plan([*RUN, *CELL, f"runs_dir={folder}", f"cache_dir={folder}/cache", *words])


def trained(folder: Path, *words: str) -> Run:
    run = planned(folder, *words)
    ensure(run, fit.train_run)
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("made"))


def test_what_is_published_is_float32_and_is_scored_again_as_it_was(made: Run) -> None:
    tensors = read_weights(made.weights).tensors
    assert {value.dtype for value in tensors.values() if value.is_floating_point()} == {torch.float32}
    last = made.record.history[-1]
    assert last["test/top1"] == pytest.approx(made.record.metrics["top1"], rel=1e-6)  # Lightning's mean is of float32
    again = evaluate_run(made.directory, [])
    assert again == made.record.metrics


def test_steps_are_in_bf16_and_scores_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, scores = set(), set()
    forward, update = Network.forward, ClassifyEvaluation.update

    def noted(self: Network, images: torch.Tensor) -> NetworkOutput:
        output = forward(self, images)
        if torch.is_autocast_enabled("cpu"):
            steps.add(output.logits.dtype)
        return output

    def counted(self: ClassifyEvaluation, output: NetworkOutput, batch: FaceBatch) -> None:
        scores.add(output.logits.dtype)
        update(self, output, batch)

    monkeypatch.setattr(Network, "forward", noted)
    monkeypatch.setattr(ClassifyEvaluation, "update", counted)
    trained(tmp_path, "target=none")
    assert (steps, scores) == ({torch.bfloat16}, {torch.float32})


def test_a_run_that_is_cut_goes_on_to_the_same_bits(made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = planned(tmp_path)
    end = History.on_train_epoch_end

    def broken(self: History, trainer: object, module: object) -> None:
        if len(self.rows) == 2 and isinstance(self._csv_file, Path) and self._csv_file.parent == cut.directory:
            raise KeyError("cut")
        end(self, trainer, module)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_epoch_end", broken)
        with pytest.raises(KeyError):
            ensure(cut, fit.train_run)
    state = BoundCheckpointIO(cut.identity).load_checkpoint(cut.checkpoint)
    assert state["epoch"] == 1
    weights = [value for name, value in state["state_dict"].items() if value.is_floating_point()]
    assert {value.dtype for value in weights} == {torch.float32}
    ensure(cut, fit.train_run)
    one, other = read_weights(cut.weights).tensors, read_weights(made.weights).tensors
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert curve(cut.record) == curve(made.record)


@pytest.mark.slow
def test_a_bank_holds_what_the_live_teacher_says_in_bf16(made: Run, tmp_path: Path) -> None:
    """Nothing but batches differ: no value of bf16 is rounded by float16. In float32 it says something else."""
    live, plain = (
        trained(tmp_path / "live", "target.views=live"),
        trained(tmp_path / "plain", "trainer.precision=32-true"),
    )
    for row, expected in zip(curve(made.record), curve(live.record), strict=True):
        assert row["train/soft"] == pytest.approx(expected["train/soft"], rel=1e-4)
    assert curve(made.record)[0]["train/soft"] != pytest.approx(curve(plain.record)[0]["train/soft"], rel=1e-6)
    assert made.recipe["bank"] == [*plain.recipe["bank"], "bf16-mixed"]


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_without_bf16_is_refused_with_the_word_to_type(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    monkeypatch.setattr(trainer, "device_for", lambda accelerator: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported or including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    config = compose_config(["scale=paper", "logger=csv"])
    assert config.trainer.precision == "bf16-mixed"
    trainer.check_precision(compose_config(["scale=paper", "logger=csv", "trainer.precision=16-mixed"]))
    if supported:
        trainer.check_precision(config)
        return
    with pytest.raises(RunError, match=r"^Tesla V100 has no bf16: use trainer\.precision=32-true, or trainer\.prec"):
        trainer.check_precision(config)
