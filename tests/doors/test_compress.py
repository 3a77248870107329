"""A recognizer and a folder of faces in, a student out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from facedistill.compress import cost_of, main, run_of, without_people_of
from facedistill.config.compose import compose_config
from facedistill.config.groups import ImageConfig
from facedistill.data.faces import FaceSet, Pairs
from facedistill.data.files.alignment import align
from facedistill.data.loading.datamodule import FaceData
from facedistill.data.sources.packed import write_pack
from facedistill.data.synthetic.render import render_faces
from facedistill.distill.axes import TeacherOnAxes
from facedistill.errors import ConfigError, WeightsError
from facedistill.metrics.pairs import verification_metrics
from facedistill.models.cost import multiply_adds
from facedistill.models.network import build_network
from facedistill.models.weights import save_weights
from facedistill.runs.exported import Exported
from facedistill.runs.plan import check_data, check_tree, plan
from facedistill.runs.run import WeightsFile
from facedistill.runs.student_size import int8_bytes
from facedistill.training import left_out
from facedistill.training import pair_scores as module
from facedistill.training.fit import initialize
from facedistill.training.pair_scores import pair_scores
from facedistill.training.teachers import load_teachers

SMALL = ["image.resize=24", "image.crop=20", "schedule.epochs=1", "logger=csv", "trainer.progress=false"]
NO_EXPORT = "format=none"


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a recognizer of 32 pixels and 12 faces without labels."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    rendered = render_faces(0, np.arange(12), np.zeros(12, np.int64), 64)
    model = compose_config(["teacher.model.width=16"]).teacher.model
    save_weights(tmp_path / "recognizer.safetensors", build_network(model, 1), {"model": model, "rate": 1})
    (tmp_path / "faces").mkdir()
    for number, (image, points) in enumerate(zip(rendered.images, rendered.landmarks, strict=True)):
        Image.fromarray(align(Image.fromarray(image), points, 64)).save(tmp_path / "faces" / f"{number}.png")
    own = ["teacher=recognizer.safetensors", "faces=faces", "size=30kB"]
    contract = ["teacher.contract.size=32", "teacher.model.width=16", "data.alignment=none", "cache_dir=cache"]
    contract.append("data.test_share=0.2")
    return [*own, *contract, *SMALL]


def test_a_recognizer_and_a_folder_of_faces_make_a_student(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, NO_EXPORT]) == 0
    said = capsys.readouterr().out
    command = said.splitlines()[0]
    assert command.startswith(
        "facedistill train task=embed target=cosine scale=imitation augment=recognizer data=photos rate=1 "
    )
    assert "model.features=128" in command
    assert re.search(r"^Alignment: faces in 12 of 12 images, 0\.\d\d eye distances from where", said, re.MULTILINE)
    assert re.search(r"^\d+ faces to train on and \d+ to test on\. The teacher answers \d+ times", said, re.MULTILINE)
    assert "1 epoch of training: about 1 min" in said
    own, others = dict(word.split("=", 1) for word in words[:3]), words[3:]
    run = run_of(own, others)
    assert run.is_complete
    assert int8_bytes(run.config.model) <= 30_000
    assert f"{run.record.metrics['cosine']:.2f}" in said
    assert str(run.weights) in said
    teacher = run.parents["teacher"]
    assert isinstance(teacher, WeightsFile)
    weights, macs = cost_of(run, teacher)
    model = compose_config(["teacher.model.width=16"]).teacher.model
    whole = build_network(model, 1).backbone
    assert weights == pytest.approx(sum(part.numel() for part in whole.parameters()) / 1e6)
    assert macs == pytest.approx(multiply_adds(whole, 32, 32) / 1e6)
    assert re.search(rf"multiply-adds a face +│ +{macs:.2f} +│ +{run.record.macs / 1e6:.2f} ", said)
    changed = {**run.config.model, "width": run.config.model["width"] + 1}
    assert int8_bytes(changed) > 30_000, "the widest that fits was chosen"
    assert run.record.data["train"] + run.record.data["test"] == 12


@pytest.mark.slow
def test_it_ends_with_files_that_are_proven(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "format=onnx"]) == 0
    said = capsys.readouterr().out
    own, others = dict(word.split("=", 1) for word in words[:3]), words[3:]
    run = run_of(own, others)
    folder = tmp_path / "exports" / run.name
    exported = Exported.read(folder)
    assert exported.identity == run.identity
    assert exported.judged.score == pytest.approx(run.record.metrics["cosine"], abs=1e-3)
    (model,) = exported.files
    assert model.score == pytest.approx(exported.judged.score, abs=0.1)
    assert exported.command.startswith("facedistill compress teacher=recognizer.safetensors faces=faces")
    assert [part.file for part in exported.teacher] == ["recognizer.safetensors"]
    assert f"facedistill predict model=exports/{run.name} one.jpg other.jpg" in said


def test_a_format_that_is_unknown_is_refused_before_anything_is_trained(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "format=tflite"]) == 2
    assert "format=tflite: choices are " in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_plan_trains_nothing(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, NO_EXPORT, "plan=true"]) == 0
    assert "to be trained" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_faces_that_are_not_where_recognizers_expect_them_are_refused_before_anything_is_trained(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (tmp_path / "faces").iterdir():
        body = Image.new("RGB", (64, 128))
        body.paste(Image.open(file).resize((24, 24)), (20, 0))
        body.save(file)
    assert main([*words, NO_EXPORT]) == 2
    said = capsys.readouterr()
    assert "recognizers fail on such images. data.alignment=detect" in said.out + said.err
    assert not list(tmp_path.glob("runs/*/record.json"))


def test_people_of_the_pairs_are_left_out_by_a_word_of_the_run(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own, others = dict(word.split("=", 1) for word in words[:3]), words[3:]
    run = run_of(own, others)
    (tmp_path / "out.txt").write_text("3.png\n5.png\n")
    answers: list[tuple[list[Path | None], int, float]] = [([tmp_path / "out.txt"], 2, 0.38), ([None], 0, 0.38)]
    monkeypatch.setattr(left_out, "write_left_out", lambda *arguments: answers.pop(0))
    without = without_people_of("lfw", run, own, others)
    assert without.name != run.name
    assert f"data.leave_out={tmp_path}/out.txt" in without.words
    assert "2 faces are left out, of people in the pairs: cosine with an image of them at least 0.38" in "".join(
        capsys.readouterr()
    )
    assert without_people_of("lfw", run, own, others) is run
    assert without_people_of("lfw", without, own, others) is without, "a list of one's own is not written over"


def test_a_student_of_other_pixels_crops_as_much_of_them(words: list[str]) -> None:
    own, others = dict(word.split("=", 1) for word in words[:3]), words[3:]
    others = [word for word in others if not word.startswith("image.")]
    config = run_of(own, [*others, "image.resize=80"]).config
    assert (config.image.resize, config.image.crop) == (80, 70)


def test_a_run_of_ours_is_a_teacher_by_one_word(words: list[str], tmp_path: Path) -> None:
    """Its network, size and crop are none of the defaults."""
    model = compose_config(["teacher.model.width=12"]).teacher.model
    about = {"model": model, "rate": 1, "image": {"resize": 40, "crop": 36}}
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    save_weights(tmp_path / "runs" / "mine" / "weights.safetensors", build_network(model, 1, 5), about)
    run = run_of({"teacher": "runs/mine", "faces": "faces", "size": "30kB"}, ["data.alignment=none", *SMALL])
    check_data(run)
    check_tree(run)
    file = run.parents["teacher"]
    assert isinstance(file, WeightsFile)
    assert (file.weights, file.pixels) == (Path("runs/mine/weights.safetensors"), ImageConfig(40, 36))
    assert run.config.model["features"] == 8 * 12
    named = run_of({"teacher": str(file.weights), "faces": "faces", "size": "30kB"}, ["data.alignment=none", *SMALL])
    assert named.identity == run.identity


def test_a_pack_of_another_size_than_the_teachers_is_refused_in_a_plan(
    words: list[str], faces: FaceSet, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pack(faces, {"source": "made"}, Path("pack"))
    packed = [word for word in words if not word.startswith(("faces=", "data."))]
    assert main([*packed, "faces=pack", "data=packed", "plan=true"]) == 2
    said = capsys.readouterr().err
    assert "the teacher is to see these faces at 32 pixels, but pack holds images of 24 pixels, not 32" in said
    assert not Path("runs").exists()


@pytest.fixture
def edge(words: list[str], tmp_path: Path) -> list[str]:
    """The words of a teacher that shows its layers: 2, 2, 6 and 2 blocks in its stages, 1.2 million weights."""
    network = timm.create_model("edgenext_xx_small", num_classes=16)
    save_file(network.state_dict(), tmp_path / "edge.safetensors")
    of_timm = ["model@teacher.model=timm", "teacher.model.name=edgenext_xx_small", "teacher.model.features=16"]
    kept = [word for word in words if word.startswith(("faces=", "data.", "cache_dir=", "schedule.", "logger="))]
    return ["teacher=edge.safetensors", *kept, *of_timm, "contract=edgeface", "teacher.contract.size=32"]


@pytest.mark.slow
def test_a_student_of_a_teacher_that_shows_its_layers_starts_from_some_of_them(
    edge: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*edge, NO_EXPORT, "size=750kB", "teacher.check=false"]) == 0
    command = capsys.readouterr().out.splitlines()[0]
    found = re.search(r"init=layers .*'model.blocks=\[([\d,]+)\]'", command)
    assert found
    assert "image.resize=32 image.crop=32" in command
    own = dict(word.split("=", 1) for word in [*edge[:2], "size=750kB"])
    run = run_of(own, [*edge[2:], "teacher.check=false"])
    assert run.is_complete
    assert int8_bytes(run.config.model) <= 750_000
    blocks = [int(count) for count in found[1].split(",")]
    more = min(
        int8_bytes({**run.config.model, "blocks": [count + (place == stage) for place, count in enumerate(blocks)]})
        for stage in range(4)
        if blocks[stage] < (2, 2, 6, 2)[stage]
    )
    assert more > 750_000, "no block more fits"
    network = build_network(run.config.model, 1)
    initialize(network, run, load_teachers(run, FaceData.of(run.config)))
    teacher = load_file(tmp_path / "edge.safetensors")
    kept = network.backbone.net.state_dict()
    assert torch.equal(kept["stem.0.weight"], teacher["stem.0.weight"])
    assert torch.equal(kept["stages.2.blocks.0.mlp.fc1.weight"], teacher["stages.2.blocks.0.mlp.fc1.weight"])
    last = f"stages.2.blocks.{blocks[2] - 1}.mlp.fc1.weight"
    assert torch.equal(kept[last], teacher["stages.2.blocks.5.mlp.fc1.weight"])


@pytest.mark.slow
def test_a_narrower_student_starts_from_the_layers_on_the_axes_of_the_embedding(edge: list[str]) -> None:
    own = dict(word.split("=", 1) for word in [*edge[:2], "size=700kB"])
    run = run_of(own, [*edge[2:], "teacher.check=false", "model.features=6"])
    assert run.config.init.name == "layers"
    network = build_network(run.config.model, 1)
    teacher = load_teachers(run, FaceData.of(run.config))["teacher"]
    assert isinstance(teacher, TeacherOnAxes)
    initialize(network, run, {"teacher": teacher})
    head = load_file(own["teacher"])["head.fc.weight"]
    torch.testing.assert_close(network.backbone.net.head.fc.weight, teacher.axes.T @ head, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("added", "init"),
    [
        ([], "layers"),
        (["size=100kB"], "scratch"),  # not even one block a stage
        (["size=4MB"], "scratch"),  # nothing to leave out
        (["model.width=8"], "scratch"),
        (["model.features=6"], "layers"),
        (["model.features=6", "teacher.model.features=0"], "scratch"),  # the teacher ends in pooled features
        (["init=scratch"], "scratch"),
        (["init=layers"], "layers"),
        (["contract=adaface", "teacher.contract.size=32"], "scratch"),  # BGR
    ],
)
def test_when_a_student_starts_from_layers(edge: list[str], added: list[str], init: str) -> None:
    given = [*edge[2:], *(word for word in added if not word.startswith("size="))]
    own = dict(word.split("=", 1) for word in edge[:2])
    own["size"] = next((word.partition("=")[2] for word in added if word.startswith("size=")), "900kB")
    assert run_of(own, given).config.init.name == init


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("model.mean=[0,0,0]", r"has to normalize pixels as edge.safetensors does: model.mean=\[127.5,127.5,127.5\]"),
        ("contract=adaface", "edge.safetensors takes BGR, and its student would see RGB. Use init=scratch"),
        ("model.name=resnet18", "edge.safetensors has no layers that the student could start from"),
    ],
)
def test_layers_that_can_t_be_kept_are_refused_in_a_plan(edge: list[str], changed: str, said: str) -> None:
    own = dict(word.split("=", 1) for word in [*edge[:2], "size=900kB"])
    run = run_of(own, edge[2:])
    blocks = ["model.blocks=null"] if changed.startswith("model.name") else []
    with pytest.raises((ConfigError, WeightsError), match=said):
        check_tree(plan([*run.words, changed, "teacher.contract.size=32", *blocks]))


def test_ones_own_words_win_over_the_recipe(words: list[str]) -> None:
    own, others = dict(word.split("=", 1) for word in words[:2]), words[3:]
    run = run_of(own, [*others, "target=raw", "model.width=8", "schedule.epochs=7"])
    assert run.config.target.name == "raw"
    assert (run.config.model["width"], run.config.schedule.epochs) == (8, 7)


@pytest.mark.parametrize(
    ("dropped", "added", "said"),
    [
        ("teacher=", [], "teacher= is missing: the file of a recognizer"),
        ("faces=", [], "faces= is missing: a folder of faces"),
        ("", ["model.width=8"], "size=30kB: this resnet_small takes"),
        ("", ["pairs=nowhere"], "pairs=nowhere can't be read as LFW is: facedistill data data=lfw data.root=nowhere"),
        (
            "",
            ["contract=edgeface"],
            "recognizer.safetensors normalizes as its network says: leave out teacher.contract",
        ),
        ("size=", ["size=1GB"], "size=1GB is no size: give it as size=500kB or size=1MB"),
        ("size=", ["size=1kB"], "size= is too small: the narrowest resnet_small has"),
        ("faces=", ["faces=nowhere"], "nowhere does not exist"),
        ("teacher=", ["teacher=nowhere.onnx"], "nowhere.onnx does not exist"),
        ("", ["target=none"], "task=embed learns from its target alone"),
        ("", ["model.features=256"], "model.features=128"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    words: list[str], dropped: str, added: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = [word for word in words if not dropped or not word.startswith(dropped)]
    assert main([*kept, *added]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_pairs_are_scored_for_teacher_student_and_probes_in_the_others_gallery(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the definition, with embeddings that are known."""
    assert main([*words, NO_EXPORT]) == 0
    own, others = dict(word.split("=", 1) for word in words[:3]), words[3:]
    run = run_of(own, others)
    draw = np.random.default_rng(1)
    count = 40
    same = np.arange(count) % 2 == 0
    left, right = np.arange(count), np.arange(count, 2 * count)
    sizes: list[int] = []
    known = {}
    for size in (32, 24):
        vectors = draw.normal(size=(2 * count, 8))
        vectors[right[same]] += 2 * vectors[left[same]]
        known[size] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    class Known:
        def protocol(self, size: int, cache: Path, trained_on: set[str]) -> Pairs:
            sizes.append(size)
            images = np.zeros((2 * count, size, size, 3), np.uint8)
            return Pairs(images, left, right, same, np.arange(count) // 4, np.zeros(count, bool))

    monkeypatch.setattr(module, "protocol_source", lambda data: Known())
    monkeypatch.setattr(module, "embeddings", lambda of, batches, device, flip: known[sizes[-1]].astype(np.float32))
    found = pair_scores(run, compose_config(["data=lfw", "data.root=.", "cache_dir=cache"], trains=False))
    assert sorted(sizes) == [24, 32], "each at the size that it takes"
    assert run.config.image == ImageConfig(24, 20)
    for name, (a, b) in {"student": (24, 24), "teacher": (32, 32), "gallery": (32, 24)}.items():
        cosine = (known[a][left] * known[b][right]).sum(1)
        expected = verification_metrics(cosine, same, np.arange(count) // 4)
        assert found[name]["pairs_auc"] == pytest.approx(expected["pairs_auc"], abs=1e-3), name
