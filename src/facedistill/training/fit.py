"""Train one run: data, network, teachers, fit, and what it publishes."""

from collections.abc import Mapping

import pytorch_lightning as pl
import torch
from torch import distributed

from facedistill.config.schema import TEACHER
from facedistill.data.loading.datamodule import FaceData
from facedistill.distill.axes import TeacherOnAxes
from facedistill.distill.teacher import Teacher
from facedistill.errors import RunError
from facedistill.models.load import features_key, layers_from
from facedistill.models.network import Network
from facedistill.models.weight_names import in_our_names
from facedistill.models.weights import load_into, read_weights
from facedistill.runs.run import HISTORY, Run, WeightsFile
from facedistill.system.terminal import say
from facedistill.tasks.assemble import build_module, build_targets, training_network
from facedistill.tracking.wandb_run import WandbRun
from facedistill.training.callbacks.checkpoint import checkpoint_to_resume
from facedistill.training.callbacks.finite import FiniteLoss
from facedistill.training.callbacks.history import History
from facedistill.training.callbacks.recognition import Recognition
from facedistill.training.publish import publish
from facedistill.training.recognizer import prepare
from facedistill.training.teachers import load_teachers
from facedistill.training.trainer import build_trainer, check_precision, prepare_compiler, quiet


def train_run(run: Run, title: str, starts_ranks: bool = False) -> None:
    """Train ``run`` from its last whole epoch, or from the start, and complete it.

    Where several processes do this together, each calls it; the first alone scores the network and writes.

    Args:
        title: shown before the run's own on its progress line.
        starts_ranks: the command of this process trains this run and nothing else, so that Lightning may do it again
            to start the other ranks.

    Raises:
        RunError: the loss is not finite, or it was interrupted; then the run is not complete. Or there is no
            compiler, or the GPU does not have the precision.
    """
    config = run.config
    check_precision(config)
    prepare_compiler(config)
    torch.set_num_threads(config.trainer.threads)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = FaceData.of(config)
    network = training_network(config, len(data.faces_of(config.identities_data).identities))
    with torch.random.fork_rng(devices=[]):  # a teacher that is asked draws numbers, and one with a bank may not be
        teachers = load_teachers(run, data)
    initialize(network, run, teachers)
    if config.starts_from_recognizer:
        prepare(network, run, data)
    module = build_module(config, network, teachers, build_targets(config, network, teachers))
    with WandbRun(run) as dashboard:
        history = History(run.directory / HISTORY, dashboard)
        watchers = [FiniteLoss(), history, *([Recognition()] if config.finetunes else [])]
        trainer = build_trainer(run, watchers, title, starts_ranks)
        resume = checkpoint_to_resume(run)
        with quiet():
            trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        if trainer.interrupted or trainer.current_epoch < len(config.epoch_rates):
            raise RunError(f"{run.name} was interrupted; the same command resumes after its last whole epoch")
        if distributed.is_initialized():  # from here on metrics and samplers are those of one process
            module.assemble_classes(first_alone=True)
            distributed.barrier()
            distributed.destroy_process_group()
        if not trainer.is_global_zero:
            return
        record = publish(run, module, history.rows, data)
        dashboard.summarize(record)
    record.write(run.directory)
    run.checkpoint.unlink(missing_ok=True)


def initialize(network: Network, run: Run, teachers: Mapping[str, Teacher]) -> None:
    """Start from layers of the teacher, or from the weights of the ``init`` ancestor, where the run has one.

    The output layers of an ancestor are taken along where they say the same: the landmarks, or the same identities.
    """
    if run.config.init.from_teacher:
        teacher = run.parents[TEACHER]
        model = teacher.network if isinstance(teacher, WeightsFile) else {}  # a file of ours says it itself
        asked = teachers[TEACHER]
        axes = asked.axes if isinstance(asked, TeacherOnAxes) else None
        network.backbone.load_state_dict(layers_from(teacher.weights, model, network.backbone, axes))
        return
    parent = run.parents.get("init")
    if parent is None:
        return
    tensors = read_weights(parent.weights).tensors
    config = run.config
    if isinstance(parent, WeightsFile):
        features = features_key(config.network, "teacher.model")
        tensors, notes = in_our_names(network.backbone, tensors, parent.weights, features, network.num_identities)
        if "classifier.weight" in tensors:
            notes.append("its classifier was left out")
        for note in notes:
            say(f"{parent.weights}: {note}")
    same_identities = parent.config is not None and parent.config.identities_data == config.identities_data
    taken = {"backbone", "regressor"} | ({"classifier"} if same_identities else set())
    own = network.state_dict()
    given = {name: value for name, value in tensors.items() if name.split(".")[0] in taken and name in own}
    new = {name: value for name, value in own.items() if not name.startswith("backbone.")}
    load_into(network, {**new, **given}, parent.weights)
