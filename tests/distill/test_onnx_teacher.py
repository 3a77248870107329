"""ONNX teachers say what their networks say, and contracts are kept by every kind of teacher."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from facedistill.config.recognizer import ContractConfig
from facedistill.data.files.alignment import ARCFACE_TEMPLATE
from facedistill.distill.onnx_teacher import BATCH, OnnxTeacher
from facedistill.distill.teacher import NetworkTeacher, Teacher
from facedistill.errors import WeightsError
from facedistill.models.weights import save_weights
from facedistill.runs.plan import check_tree, plan
from facedistill.runs.run import WeightsFile
from facedistill.training.teachers import load_teacher
from onnx_files import FLOAT, SIDE, UINT8, WIDTH, answer, onnx, recognizer, saved

RGB = ContractConfig("mine", SIDE, "rgb", [120.0, 100.0, 80.0], [50.0, 60.0, 70.0])
RAW = ContractConfig("raw", SIDE, "rgb", [0.0] * 3, [1.0] * 3)


def pixels(count: int, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def expected(images: Tensor, contract: ContractConfig) -> Tensor:
    """By the formula, in float64."""
    rgb = images.numpy().astype(np.float64)
    ordered = rgb[:, ::-1] if contract.colour == "bgr" else rgb
    mean, std = (np.array(values)[:, None, None] for values in (contract.mean, contract.std))
    return torch.from_numpy(answer((ordered - mean) / std))


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize("count", [0, 1, 5, BATCH + 3])
def test_it_says_what_the_formula_says(
    tmp_path: Path, colour: str, channels_last: bool, batch: int | str, count: int
) -> None:
    contract = replace(RGB, colour=colour)
    teacher: Teacher = OnnxTeacher(saved(tmp_path / "w.onnx", recognizer(channels_last, FLOAT, batch)), contract, 1)
    assert (teacher.width, teacher.num_identities) == (WIDTH, 0)
    assert teacher.input == (SIDE, contract.mean, contract.std, colour, None)
    images = pixels(count)
    said = teacher(images)
    assert said.logits is None
    assert said.embedding.dtype == torch.float32
    assert said.embedding.shape == (count, WIDTH)
    torch.testing.assert_close(said.embedding.double(), expected(images, contract), rtol=1e-4, atol=1e-4)
    assert torch.equal(teacher(images.float()).embedding, said.embedding)
    assert torch.equal(teacher.from_embedding(said.embedding).embedding, said.embedding)


def test_the_colours_are_really_turned(tmp_path: Path) -> None:
    path, images = saved(tmp_path / "w.onnx", recognizer()), pixels(4)
    rgb, bgr = (OnnxTeacher(path, replace(RAW, colour=colour), 1) for colour in ("rgb", "bgr"))
    assert torch.equal(bgr(images).embedding, rgb(images.flip(1)).embedding)
    assert not torch.allclose(bgr(images).embedding, rgb(images).embedding, rtol=0.05)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_graph_may_take_whole_pixels(tmp_path: Path, channels_last: bool) -> None:
    teacher = OnnxTeacher(saved(tmp_path / "w.onnx", recognizer(channels_last, UINT8)), RAW, 1)
    images = pixels(3)
    torch.testing.assert_close(teacher(images).embedding.double(), expected(images, RAW), rtol=1e-4, atol=1e-2)
    between = images.float() * 1.2 - 20  # as augmented images are, between and beyond whole numbers
    whole = between.round().clamp(0, 255).to(torch.uint8)
    assert torch.equal(teacher(between).embedding, teacher(whole).embedding)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_batch_has_the_same_bits(tmp_path: Path, threads: int) -> None:
    path, images = saved(tmp_path / "w.onnx", recognizer()), pixels(50)
    first, second = OnnxTeacher(path, RGB, threads), OnnxTeacher(path, RGB, threads)
    said = first(images).embedding
    assert all(torch.equal(said, teacher(images).embedding) for teacher in (first, second, first))


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    teacher = OnnxTeacher(saved(tmp_path / "w.onnx", recognizer()), RGB, 1)
    with pytest.raises(WeightsError, match=r"takes images of 8 × 8 pixels, not of 12 × 12: .*image\.crop=8"):
        teacher(pixels(2, 12))


@pytest.mark.parametrize("form", [[1, -1], [1, WIDTH]], ids=["flattens", "refuses"])
def test_a_graph_that_was_exported_for_one_image_and_announces_any_number_is_asked_one_by_one(
    tmp_path: Path, form: list[int]
) -> None:
    model = recognizer()
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Reshape", ["before", "form"], ["embedding"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(form, np.int64), "form"))
    teacher, images = OnnxTeacher(saved(tmp_path / "w.onnx", model), RGB, 1), pixels(5)
    assert teacher.graph.one_by_one
    torch.testing.assert_close(teacher(images).embedding.double(), expected(images, RGB), rtol=1e-4, atol=1e-4)


def test_there_is_no_middle_layer(tmp_path: Path) -> None:
    teacher = OnnxTeacher(saved(tmp_path / "w.onnx", recognizer()), RGB, 1)
    with pytest.raises(WeightsError, match="no middle layer"):
        teacher.middle(pixels(2))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.slope = nn.PReLU(8)
        self.fc = nn.Linear(8 * 64, 32)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.fc(self.slope(self.norm(self.conv(images))).flatten(1))
        return found


def exported(net: nn.Module, path: Path, side: int, dynamo: bool) -> Path:
    pytest.importorskip("onnxscript")
    example = torch.zeros(2, 3, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            sizes = ({0: torch.export.Dim("n")},)
            torch.onnx.export(net, (example,), path, dynamo=True, dynamic_shapes=sizes, verbose=False)
        else:
            axes = {"image": {0: "n"}}
            torch.onnx.export(net, (example,), path, dynamo=False, input_names=["image"], dynamic_axes=axes)
    return path


@pytest.mark.parametrize("dynamo", [False, True])
def test_what_torch_exports_says_what_it_says_in_torch(tmp_path: Path, dynamo: bool) -> None:
    net = Small()
    net.train()(torch.randn(64, 3, 16, 16) * 2 + 1)  # BatchNorm has seen something
    net.eval()
    teacher = OnnxTeacher(exported(net, tmp_path / "w.onnx", 16, dynamo), replace(RGB, size=16), 1)
    images = pixels(9, 16)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (RGB.mean, RGB.std))
    with torch.no_grad():
        torch.testing.assert_close(teacher(images).embedding, net((images - mean) / std), rtol=1e-4, atol=1e-4)


def timm_teacher(path: Path, contract: ContractConfig, **model: Any) -> NetworkTeacher:
    node = {"type": "timm", "architecture": "test_resnet", "features": 24, **model}
    return NetworkTeacher.load(path, contract.of_model(node), contract=contract)


def test_a_network_of_torch_keeps_its_contract_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=24).eval()
    save_weights(tmp_path / "w.safetensors", net, {})
    contract = replace(RGB, size=32, colour="bgr")
    teacher = timm_teacher(tmp_path / "w.safetensors", contract)
    assert teacher.input == (32, contract.mean, contract.std, "bgr", None)
    images = pixels(5, 32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (contract.mean, contract.std))
    with torch.no_grad():
        torch.testing.assert_close(teacher(images).embedding, net((images.flip(1) - mean) / std), rtol=1e-4, atol=1e-4)
    plain = timm_teacher(tmp_path / "w.safetensors", replace(contract, colour="rgb"))
    assert torch.equal(teacher.middle(images), plain.middle(images.flip(1)))
    assert not torch.allclose(teacher(images).embedding, plain(images).embedding, rtol=0.01)
    with pytest.raises(WeightsError, match="takes images of 32 × 32 pixels, not of 24 × 24"):
        teacher(pixels(2, 24))


@pytest.mark.parametrize("columns", [6, 5])
def test_a_narrow_recognizer_sees_the_columns_in_the_middle(tmp_path: Path, columns: int) -> None:
    images, first = pixels(5), 1
    seen = images[..., first : first + columns]
    graph = OnnxTeacher(saved(tmp_path / "w.onnx", recognizer(columns=columns)), RGB, 1)
    torch.testing.assert_close(graph(images).embedding.double(), expected(seen, RGB), rtol=1e-4, atol=1e-4)
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=24).eval()
    save_weights(tmp_path / "w.safetensors", net, {})
    narrow = replace(RGB, size=32, columns=4 * columns)
    images, first = pixels(5, 32), (32 - 4 * columns) // 2
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (RGB.mean, RGB.std))
    with torch.no_grad():
        plain = net((images[..., first : first + 4 * columns] - mean) / std)
    torch.testing.assert_close(timm_teacher(tmp_path / "w.safetensors", narrow)(images).embedding, plain)


def lfw_faces(real_faces: Path, count: int) -> Tensor:
    """Aligned to ArcFace's template by a similarity that is solved here, by least squares: uint8 [n, 3, 112, 112]."""
    lines = (real_faces / "lfw" / "landmarks.txt").read_text().splitlines()
    found = []
    for line in [each for each in lines if not each.startswith("#")][:count]:
        name, *numbers = line.split()
        points = np.array(numbers, float).reshape(5, 2)
        x, y = points.T
        one, none = np.ones(5), np.zeros(5)
        rows = np.concatenate([np.stack([x, -y, one, none], 1), np.stack([y, x, none, one], 1)])
        template = np.asarray(ARCFACE_TEMPLATE, float)
        a, b, u, v = np.linalg.lstsq(rows, np.concatenate([template[:, 0], template[:, 1]]), rcond=None)[0]
        back = np.linalg.inv(np.array([[a, -b, u], [b, a, v], [0, 0, 1]]))
        with Image.open(real_faces / "lfw" / "images" / name) as image:
            face = image.convert("RGB").transform(
                (112, 112), Image.Transform.AFFINE, back[:2].flatten().tolist(), Image.Resampling.BILINEAR
            )
        found.append(np.asarray(face))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)


@pytest.mark.slow
def test_a_real_recognizer_is_the_same_by_words_in_timm_and_in_onnx(real_faces: Path, tmp_path: Path) -> None:
    file = real_faces / "teachers" / "edgeface_xs.safetensors"

    def teacher_of(*words: str) -> Teacher:
        run = plan(["image.resize=112", "image.crop=112", "target=hidden", "contract=edgeface", *words])
        check_tree(run)
        parent = run.parents["teacher"]
        assert isinstance(parent, WeightsFile)
        return load_teacher(parent, 4, 1)

    images = lfw_faces(real_faces, 16)
    words = ["model@teacher.model=timm", "teacher.model.name=edgenext_x_small", "teacher.model.features=512"]
    teacher = teacher_of(*words, f"teacher.weights={file}")

    from safetensors.torch import load_file

    net = timm.create_model("edgenext_x_small", num_classes=512)
    net.load_state_dict(load_file(file))
    with torch.no_grad():
        plain = net.eval()((images - 127.5) / 128)
    torch.testing.assert_close(teacher(images).embedding, plain, rtol=0, atol=1e-5)
    cosine = nn.functional.normalize(plain) @ nn.functional.normalize(plain).T
    assert cosine.fill_diagonal_(0).abs().max() < 0.99, "these are faces of several people"

    for dynamo in (False, True):
        path = exported(net, tmp_path / f"{dynamo}.onnx", 112, dynamo)
        found = teacher_of(f"teacher.weights={path}")
        assert found.input == teacher.input == (112, [127.5] * 3, [128.0] * 3, "rgb", None)
        torch.testing.assert_close(found(images).embedding, plain, rtol=0, atol=1e-3)
