"""A classifier on the backbone of a recognizer from elsewhere, which stays as it is unless it is to be fine-tuned."""

from pathlib import Path

import torch

from facedistill.data.loading.datamodule import FaceData
from facedistill.data.loading.view_schedule import banked_views
from facedistill.distill.bank import BankMaker, KeptEmbedding
from facedistill.distill.teacher import NetworkTeacher
from facedistill.evaluation.scoring import device_for
from facedistill.models.network import Network
from facedistill.runs.run import Run
from facedistill.training.teachers import bank_contents


def prepare(network: Network, run: Run, data: FaceData) -> None:
    """Have the classifier learn at the pace of an embedding of mean square 1, whatever this one has; freeze the rest.

    A recognizer may have tiny values: EdgeFace's have a mean square of 0.009. The gradient of the classifier's weights
    is divided by it, which is the step that they would take on K / rms(K). A frozen backbone answers once, into a bank.
    """
    assert network.classifier is not None
    backbone = network.backbone.eval()
    with torch.no_grad():
        mean_square = float(backbone(data.first_batches(1)[0].images).square().mean())
    network.classifier.weight.register_hook(lambda gradient: gradient / mean_square)  # type: ignore[no-untyped-call]
    if run.config.finetunes:
        backbone.train()
        return
    backbone.requires_grad_(False)
    if views := banked_views(run.config):
        config, parent = run.config, run.parents["init"]
        device, cache = device_for(config.trainer.accelerator), Path(config.cache_dir).expanduser()
        contents = bank_contents(run, parent, device)
        frozen = NetworkTeacher(Network(backbone))
        keeps = KeptEmbedding(frozen.width, config.target.keeps)
        maker = BankMaker(frozen, data, device, cache, keeps, contents, data.faces.train, config.trainer.precision)
        data.use_banks({"init": maker.open(views)})
