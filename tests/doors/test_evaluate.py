"""The command that scores: a run again, a protocol, any timm network; and what it refuses."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics.pairwise import paired_cosine_distances

from facedistill.config.compose import compose_config
from facedistill.data.faces import Pairs
from facedistill.data.loading.datamodule import pair_batches
from facedistill.data.sources.lfw import Lfw
from facedistill.data.sources.source import build_source
from facedistill.data.sources.verification_set import VerificationSet, protocol_source
from facedistill.distill.teacher import NetworkTeacher
from facedistill.errors import WeightsError
from facedistill.evaluate import main
from facedistill.evaluation.scoring import embeddings, pair_similarity, protocol_scores
from facedistill.metrics.pairs import QUANTILES, ten_fold_accuracy, verification_metrics
from facedistill.models.network import build_network
from facedistill.models.weights import read_weights, save_weights
from facedistill.runs.ensure import ensure
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from facedistill.training import fit

TINY = [
    "data.num_identities=4",
    "data.images_per_identity=12",
    "data.pairs_per_fold=4",
    "image.resize=24",
    "image.crop=20",
    "model.width=16",
    "teacher.model.width=16",
    "schedule.epochs=1",
    "logger=csv",
    "trainer.progress=false",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    runs_dir = tmp_path_factory.mktemp("runs")
    made = {}
    for name, words in {
        "classify": ["rate=8"],
        "align": ["task=align", "rate=8", "target=soft", "target.beta=0.1", "task.batch_size=8"],
        "verify": ["task=verify", "rate=8", "init=pretrain", "target=soft", "task.softmax=true", "task.batch_size=16"],
    }.items():
        made[name] = plan([*TINY, f"runs_dir={runs_dir}", *words])
        ensure(made[name], fit.train_run)
    return made


@pytest.mark.parametrize("name", ["classify", "align", "verify"])
def test_a_run_scores_again_what_it_recorded(
    runs: dict[str, Run], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"run={runs[name].directory}"]) == 0
    printed = capsys.readouterr()
    assert printed.err == f"scoring {runs[name].directory} on the test images of its data\n"  # no bar in a pipe
    lines = printed.out.splitlines()
    assert len(lines) == len(runs[name].record.metrics) > 1
    for line in lines:
        found, recorded = re.split(r" +recorded +", line.split(maxsplit=1)[1])
        assert found.strip() == recorded.strip(), line


def test_on_a_terminal_a_bar_says_how_long_it_takes(
    runs: dict[str, Run], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    assert main([f"run={runs['align'].directory}"]) == 0
    assert re.search(r"scoring .*1/1.*\d:\d\d:\d\d", re.sub(r"\x1b\[[\d;?]*\w", "", capsys.readouterr().err))


def test_the_records_hold_the_metrics_of_their_tasks(runs: dict[str, Run]) -> None:
    metrics = {name: set(run.record.metrics) for name, run in runs.items()}
    at_rates = {f"{name}_at_far_1e-{k}" for name in ("tar", "threshold") for k in (1, 2, 3, 4)}
    verification = {"pairs", "pairs_auc", "pairs_eer", "pairs_se", *at_rates}
    assert metrics["classify"] == {"top1", "test_samples"} | verification
    assert metrics["verify"] == {"top1", "rank5", "rank10", "map", "unmatched", "test_samples"} | verification
    assert {"nrmse", "nrmse_left_eye", "auc_8", "failure_10", "test_samples"} <= metrics["align"]
    assert not metrics["align"] & verification
    assert runs["verify"].record.metrics["tar_at_far_1e-4"] is None  # 20 negative pairs


def test_every_task_leaves_its_pictures(runs: dict[str, Run]) -> None:
    pictures = {name: {path.stem for path in run.directory.glob("*.png")} for name, run in runs.items()}
    assert pictures == {
        "classify": {"curves", "samples", "roc"},
        "align": {"curves", "samples", "errors"},
        "verify": {"curves", "samples", "roc"},
    }


def test_only_the_heads_of_the_task_are_published(runs: dict[str, Run]) -> None:
    heads = {name: {key.split(".")[0] for key in read_weights(run.weights).tensors} for name, run in runs.items()}
    assert heads == {
        "classify": {"backbone", "classifier"},
        "align": {"backbone", "regressor"},
        "verify": {"backbone", "classifier"},
    }


def test_a_protocol_scores_the_pairs_of_a_run_as_its_record_has_them(
    runs: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs["verify"]
    words = ["protocol=synthetic", *(word for word in TINY if word.startswith("data.")), "flip=none"]
    assert main([*words, f"run={run.directory}"]) == 0
    said = capsys.readouterr().out
    (pairs,) = re.findall(r"^  pairs +(\S+)$", said, re.MULTILINE)
    assert float(pairs) == pytest.approx(run.record.metrics["pairs"], abs=1e-3)
    assert "40 pairs" in said
    assert "not enough pairs" in said


def protocol(flip: str, network: torch.nn.Module) -> np.ndarray:
    """Similarity of every pair, by other means."""
    config = compose_config(TINY)
    pairs = build_source(config.data).protocol(24, Path(config.cache_dir), set())
    images = torch.from_numpy(pairs.images[:, 2:22, 2:22].transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        plain, mirrored = network(images).numpy(), network(torch.flip(images, [3])).numpy()
    embedded = {"none": plain, "concat": np.hstack([plain, mirrored]), "sum": plain + mirrored}[flip]
    return 1 - paired_cosine_distances(embedded[pairs.left], embedded[pairs.right])


@pytest.mark.parametrize("flip", ["none", "concat", "sum"])
def test_a_flip_rule_is_what_it_says(flip: str) -> None:
    torch.manual_seed(0)
    config = compose_config(TINY)
    backbone = build_network(config.model, rate=1).backbone.eval()
    pairs = build_source(config.data).protocol(24, Path(config.cache_dir), set())
    found = embeddings(backbone, pair_batches(pairs, config), torch.device("cpu"), flip)
    np.testing.assert_allclose(pair_similarity(found, pairs), protocol(flip, backbone), atol=1e-5)


def test_pairs_of_people_who_were_trained_on_are_scored_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = compose_config(TINY)
    source = build_source(config.data)
    pairs = source.protocol(24, Path(config.cache_dir), set())
    seen = np.arange(len(pairs.same)) % 4 == 0
    marked = Pairs(pairs.images, pairs.left, pairs.right, pairs.same, pairs.fold, seen)
    monkeypatch.setattr(type(source), "protocol", lambda *_: marked)
    teacher = NetworkTeacher(build_network(config.model, rate=1))
    scores = protocol_scores(config, teacher, "none", {"someone"})
    assert list(scores) == ["40 pairs", "30 pairs of people who were not trained on"]
    similarity = protocol("none", teacher.network.backbone)
    for title, kept in zip(scores, (seen | ~seen, ~seen), strict=True):
        expected = ten_fold_accuracy(similarity[kept], pairs.same[kept], pairs.fold[kept]).mean()
        assert scores[title]["pairs"] == pytest.approx(100 * expected)


def test_any_timm_network_with_a_file_of_weights_is_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(1)
    network = timm.create_model("resnet18", num_classes=16)
    save_weights(tmp_path / "w.safetensors", network, {})
    data = [word for word in TINY if word.startswith("data.")]
    words = ["protocol=synthetic", *data, "image.resize=32", "image.crop=32", "model.features=16"]
    named = ["model.name=resnet18", "model.mean=[0,0,0]", "model.std=[255,255,255]"]
    assert main([*words, *named, f"weights={tmp_path}/w.safetensors"]) == 0
    assert "flip=concat" in capsys.readouterr().out
    assert main([*words, "model.name=resnet34", *named[1:], f"weights={tmp_path}/w.safetensors"]) == 2
    assert "another architecture" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["protocol=lfw"], "give one network"),
        (["protocol=lfw", "run=a", "weights=b"], "give one network"),
        (["protocol=synthetic", "weights=w.pt", "model.name=resnet18", "flip=both"], "choices are none, concat, sum"),
        (["protocol=synthetic", "weights=gone.pt", "model.name=resnet18"], "gone.pt does not exist"),
        (["protocol=lfw", "root=/nowhere", "weights=w.pt", "model.name=resnet99"], "resnet99 is not known to timm"),
        (["protocol=nobody", "weights=w.pt", "model.name=resnet18"], "nobody"),
        (["protocol=synthetic", "weights=w.pt"], "w.pt does not say what network it is of: name that, model@teacher"),
        (["protocol=synthetic", "weights=w.pt", "contract=arcface"], "leave out teacher.contract, or name the network"),
        (["protocol=lfw", "root=.", "run=a", "threshold=2"], "threshold=2 must be a cosine"),
        (["protocol=lfw", "root=.", "run=a", "threshold=high"], "threshold=high must be a cosine"),
        (["run=/nowhere"], "no finished run"),
        (["rate=8"], "name what is scored"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_it_refuses(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.weight": torch.zeros(1)}, "w.pt")
    assert main(words) == 2
    assert said in capsys.readouterr().err


def rewritten(run: Run, folder: Path, changes: dict[str, Any]) -> Path:
    """A copy of a run whose record has other values of some keys."""
    shutil.copytree(run.directory, folder)
    record = json.loads((folder / "record.json").read_text())
    for key, value in changes.items():
        node = record
        *parts, last = key.split(".")
        for part in parts:
            node = node[part]
        node[last] = value
    (folder / "record.json").write_text(json.dumps(record))
    return folder


def test_a_record_says_nothing_of_where_to_write_or_with_what_to_compute(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run of a stranger, whose cache is on another machine."""
    run, victim = runs["classify"], str(tmp_path / "victim")
    trainer = {"threads": 100_000_000, "num_workers": 10**6, "devices": 10**6, "num_nodes": 9, "accelerator": "cuda"}
    changes = {f"config.trainer.{key}": value for key, value in trainer.items()}
    changes |= {"config.cache_dir": victim, "config.runs_dir": victim, "config.task.batch_size": 10**15}
    changes |= {"config.teacher.weights": victim, "config.teachers": {"other": {"weights": victim}}}
    folder = rewritten(run, tmp_path / "run", changes)
    protocol = ["protocol=synthetic", "flip=none", *(word for word in TINY if word.startswith("data."))]
    for words, threads in (([], compose_config([]).trainer.threads), (protocol, os.cpu_count())):
        assert main([f"run={folder}", *words]) == 0
        assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    assert f"top1               {run.record.metrics['top1']:8.3f}" in capsys.readouterr().out
    assert not (tmp_path / "victim").exists()


TIMM = {"type": "timm", "name": "x", "rates": [1], "features": 0, "mean": None, "std": None}
GIANT = {**TIMM, "architecture": "vit_gigantic_patch14_clip_224"}
HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"config.data._target_": "facedistill.data.__main__.main"}, "is not called"),
    ({"config.model._target_": "os.system"}, "is not called"),
    ({"config.data.type": "facedistill.data.__main__"}, "is not a registered source"),
    ({"config.data.type": "../../data/__main__"}, "is not a registered source"),
    ({"config.data.type": "source"}, "is not a registered source"),
    ({"config.model.type": ["resnet"]}, "is not a registered model"),
    ({"config.model.type": "__init__"}, "is not a registered model"),
    ({"config.task.type": "base"}, "is not a registered task"),
    ({"config.task.type": "os"}, "is not a registered task"),
    ({"config.task.name": "nobody"}, "can't start task=nobody"),
    ({"config.data.name": "${oc.env:HOME}"}, "an interpolation"),
    ({"config.model.width": "${oc.decode:'10'}"}, "an interpolation"),
    ({"config.model": {**TIMM, "architecture": "hf-hub:timm/resnet18"}, "config.rate": 1}, "not known to timm"),
    ({"config.model": {**TIMM, "architecture": "local-dir:/tmp"}, "config.rate": 1}, "not known to timm"),
    (
        {"config.model": {**TIMM, "architecture": "vit_gigantic_patch14_clip_224", "rates": [1]}, "config.rate": 1},
        "has",
    ),
    ({"config.model": {**TIMM, "architecture": "resnet18", "features": 10**9, "rates": [1]}, "config.rate": 1}, "has"),
    ({"config.model.width": 10**6}, "of another architecture: that of the model has"),
    ({"config.model.width": 10**9}, "of no network that can be built"),
    ({"config.model.width": 0}, "leaves no kernel"),
    ({"config.model.width": "wide"}, "weights.safetensors"),
    ({"config.model.layers": [10**6] * 4}, "number of blocks of four stages"),
    ({"config.model.layers": [1]}, "number of blocks of four stages"),
    ({"config.model.layers": None}, "weights.safetensors"),
    ({"config.model.block": "big"}, "choices are basic, bottleneck"),
    ({"config.model.rates": 3}, "can't be scored"),
    ({"config.rate": 0, "config.model.rates": [0]}, "leaves no kernel"),
    ({"config.image.resize": 10**9}, "at most 2048"),
    ({"config.image.crop": 0}, "must lie between 1"),
    ({"config.data.num_identities": 999_999, "config.data.images_per_identity": 10**6}, "at most 1,000,000 images"),
    ({"config.data.pairs_per_fold": 10**12}, "2 … 10,000"),
    ({"config.data.num_identities": "all"}, "must be a whole number"),
    ({"config.data.gives": 3}, "can't be scored"),
    ({"config.task.needs": "landmarks", "config.data.gives": ["identities"]}, "needs landmarks"),
    ({"config.trainer.threads": "many"}, "is not a record"),
    ({"metrics": {"top1": "high"}}, "is not a record"),
]


@pytest.mark.parametrize(("changes", "said"), HOSTILE, ids=[str(changes)[8:60] for changes, _ in HOSTILE])
def test_what_a_stranger_wrote_is_refused_in_a_line(
    runs: dict[str, Run], changes: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = rewritten(runs["classify"], tmp_path / "run", changes)
    assert main([f"run={folder}"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"facedistill: {folder}")
    assert said in line


def test_a_metric_that_was_not_recorded_is_scored(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"run={rewritten(runs['align'], tmp_path / 'run', {'metrics': {}})}"]) == 0
    assert all(line.endswith("recorded nothing") for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("model", "changed", "said"),
    [
        ({"width": 10**8}, {}, "another architecture"),
        ({"layers": 3}, {}, "can be built"),
        ({}, {"classifier.weight": torch.tensor(1.0)}, "can be built"),
        ({}, {"reference.images": torch.zeros(4, 3, 1, 1, dtype=torch.uint8)}, "says something else"),
    ],
)
def test_a_file_of_weights_that_no_network_has_is_refused(
    runs: dict[str, Run], tmp_path: Path, model: dict[str, Any], changed: dict[str, torch.Tensor], said: str
) -> None:
    tensors, about, reference, _ = read_weights(runs["classify"].weights)
    assert reference is not None
    stored = {**tensors, **{f"reference.{name}": part for name, part in reference._asdict().items()}, **changed}
    metadata = {"facedistill": json.dumps({**about, "model": {**about["model"], **model}})}
    save_file(stored, tmp_path / "w.safetensors", metadata=metadata)
    with pytest.raises(WeightsError, match=said):
        NetworkTeacher.load(tmp_path / "w.safetensors", {})


def test_data_without_pairs_is_no_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = build_network(compose_config(["model=timm", "model.name=resnet18", "rate=1"]).model, 1)
    save_weights(tmp_path / "w.safetensors", network.backbone.net, {})
    words = [f"root={tmp_path}", f"weights={tmp_path}/w.safetensors", "model.name=resnet18"]
    assert main(["protocol=identity_folders", *words]) == 2
    assert "has no pairs to verify" in capsys.readouterr().err


def write_bin(path: Path) -> Path:
    """The embedded pairs as InsightFace's tools would write them."""

    def png(image: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "png")
        return file.getvalue()

    config = compose_config(TINY)
    pairs = build_source(config.data).protocol(24, Path(config.cache_dir), set())
    images = [png(pairs.images[i]) for i in np.stack([pairs.left, pairs.right], 1).ravel()]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps((images, pairs.same.tolist())))
    return path


@pytest.mark.parametrize("flip", ["none", "concat"])
def test_a_verification_set_scores_as_the_pairs_it_was_made_of(tmp_path: Path, flip: str) -> None:
    torch.manual_seed(0)
    config = compose_config(TINY)
    teacher = NetworkTeacher(build_network(config.model, rate=1))
    backbone = teacher.network.backbone
    node = {
        "type": "verification_set",
        "name": "cfp_fp",
        "gives": [],
        "root": str(write_bin(tmp_path / "cfp_fp.bin")),
    }
    scores = protocol_scores(replace(config, data=node), teacher, flip, {"person-00000"})
    assert scores == protocol_scores(config, teacher, flip, set())
    pairs = build_source(config.data).protocol(24, Path(config.cache_dir), set())
    expected = verification_metrics(protocol(flip, backbone), pairs.same, pairs.fold)
    assert scores.keys() == {"40 pairs"}
    assert scores["40 pairs"].keys() == expected.keys()
    for metric, value in scores["40 pairs"].items():
        assert value == (None if expected[metric] is None else pytest.approx(expected[metric], rel=1e-5)), metric


@pytest.mark.parametrize(
    ("name", "root", "bin_file"),
    [
        ("cfp_fp", "cfp_fp.bin", "cfp_fp.bin"),
        ("agedb_30", ".", "agedb_30.bin"),
        ("lfw", ".", "lfw.bin"),
        ("lfw", "renamed.bin", "renamed.bin"),
    ],
)
def test_the_command_takes_a_bin_file_or_its_folder(
    runs: dict[str, Run], tmp_path: Path, name: str, root: str, bin_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_bin(tmp_path / "faces_webface_112x112" / bin_file).parent
    (folder / "train.rec").write_bytes(b"")
    run = runs["verify"]
    assert main([f"protocol={name}", f"root={folder / root}", f"run={run.directory}", "flip=none"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{name}: aligned as in {bin_file}, 24 px, crop 20, flip=none\n40 pairs\n")
    (pairs,) = re.findall(r"^  pairs +(\S+)$", said, re.MULTILINE)
    assert float(pairs) == pytest.approx(run.record.metrics["pairs"], abs=1e-3)


def test_the_images_of_lfw_come_before_a_bin_file_beside_them(tmp_path: Path) -> None:
    write_bin(tmp_path / "lfw.bin")
    node = compose_config(["data=lfw", f"data.root={tmp_path}"]).data
    assert isinstance(protocol_source(node), VerificationSet)
    (tmp_path / "images").mkdir()
    assert isinstance(protocol_source(node), Lfw)


@pytest.mark.parametrize(("root", "said"), [(".", "holds no calfw.bin"), ("cut.bin", "ends too early")])
def test_what_is_no_verification_set(
    runs: dict[str, Run], tmp_path: Path, root: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_bin(tmp_path / "cut.bin")
    file.write_bytes(file.read_bytes()[:-100])
    assert main(["protocol=calfw", f"root={tmp_path / root}", f"run={runs['classify'].directory}"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("kind", [True, False])
def test_pairs_of_one_kind_have_no_accuracy_but_similarities(
    runs: dict[str, Run], tmp_path: Path, kind: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    images, same = pickle.loads(write_bin(tmp_path / "cfp_fp.bin").read_bytes())
    (tmp_path / "cfp_fp.bin").write_bytes(pickle.dumps((images, [kind] * len(same))))
    run = runs["classify"]
    words = ["protocol=cfp_fp", f"root={tmp_path}", f"run={run.directory}", "flip=none", "threshold=0.9"]
    assert main(words) == 0
    said = capsys.readouterr().out
    of = "of one person" if kind else "of two people"
    assert f"\n40 pairs, all {of}: accuracy, AUC, EER and TAR mean nothing without both kinds\n" in said
    similarity = protocol("none", NetworkTeacher.load(run.weights, run.config.network, 8).network.backbone)
    found = dict(re.findall(r"^  (\S+) +(\S+)$", said, re.MULTILINE))
    wrong = similarity < 0.9 if kind else similarity >= 0.9
    assert found.keys() == {
        "similarity_mean",
        *(f"similarity_{level}%" for level in QUANTILES),
        "frr_at_0.9" if kind else "far_at_0.9",
    }
    assert float(found["similarity_mean"]) == pytest.approx(similarity.mean(), abs=1e-4)
    assert float(found["similarity_5%"]) == pytest.approx(np.quantile(similarity, 0.05), abs=1e-4)
    assert float(found["frr_at_0.9" if kind else "far_at_0.9"]) == pytest.approx(100 * wrong.mean(), abs=1e-3)


DATA = [word for word in TINY if word.startswith("data.")]


def test_a_network_of_torch_is_seen_by_its_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(1)
    save_weights(tmp_path / "w.safetensors", timm.create_model("test_resnet", num_classes=16), {})
    words = ["protocol=synthetic", *DATA, f"weights={tmp_path}/w.safetensors", "model.features=16"]
    words.append("model.name=test_resnet")
    assert main([*words, "contract=edgeface", "teacher.contract.size=32"]) == 0
    by_contract = capsys.readouterr()
    assert ": no alignment, 32 px, crop 32, flip=concat\n" in by_contract.out
    normalized = ["model.mean=[127.5,127.5,127.5]", "model.std=[128,128,128]", "image.resize=32", "image.crop=32"]
    assert main([*words, *normalized]) == 0
    assert capsys.readouterr() == by_contract
    assert main([*words, "image.resize=32", "image.crop=32"]) == 0
    raw = capsys.readouterr()
    assert "nothing normalizes its pixels, 0 … 255: give the mean and std" in raw.err
    assert raw.out != by_contract.out


def test_the_weights_of_a_run_say_themselves_what_they_are_of(
    runs: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs["verify"]
    scores = []
    for named in (f"weights={run.weights}", f"run={run.directory}"):
        assert main(["protocol=synthetic", *DATA, named]) == 0
        out = capsys.readouterr().out
        assert "24 px, crop 20" in out
        scores.append(re.findall(r"^  (\S+) +(\S+)$", out.partition("40 pairs of people")[0], re.MULTILINE)[:12])
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_edgeface_scores_on_lfw_what_is_known_of_it(real_faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["protocol=lfw", f"root={real_faces / 'lfw'}", "model.name=edgenext_x_small", "model.features=512"]
    words += [f"weights={real_faces / 'teachers' / 'edgeface_xs.safetensors'}"]
    assert main([*words, "model.mean=[127.5,127.5,127.5]", "model.std=[128,128,128]"]) == 0
    (pairs,) = re.findall(r"^  pairs +(\S+)$", capsys.readouterr().out, re.MULTILINE)
    assert float(pairs) == pytest.approx(98.88, abs=0.15)
