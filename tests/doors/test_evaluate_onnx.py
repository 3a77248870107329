"""ONNX files on the pairs of a protocol, and the line that refuses what is no recognizer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import paired_cosine_distances

from facedistill.compress import main as compress
from facedistill.config.compose import compose_config
from facedistill.data.sources.source import build_source
from facedistill.evaluate import main
from onnx_files import FLOAT, answer, changed, onnx, recognizer, saved

DATA = ["data.num_identities=4", "data.images_per_identity=12", "data.pairs_per_fold=4"]


@pytest.mark.parametrize("columns", [None, 16])
def test_an_onnx_file_is_scored_at_the_size_of_its_graph(
    tmp_path: Path, columns: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against the graph's formula and plain counting."""
    file = saved(tmp_path / "w.onnx", recognizer(side=24, columns=columns))
    words = ["protocol=synthetic", *DATA, f"weights={file}", "threshold=0.9"]
    assert main([*words, "contract=adaface", "teacher.contract.size=24"]) == 0
    said = capsys.readouterr().out
    assert (", of which the 16 columns in the middle" in said) == (columns is not None)
    config = compose_config(DATA)
    pairs = build_source(config.data).protocol(24, Path(config.cache_dir), set())
    bgr = (np.asarray(pairs.images[:])[..., ::-1].transpose(0, 3, 1, 2).astype(float) - 127.5) / 127.5
    seen = bgr if columns is None else bgr[..., 4:20]
    embedded = np.hstack([answer(seen), answer(seen[..., ::-1])])
    cosine = 1 - paired_cosine_distances(embedded[pairs.left], embedded[pairs.right])
    found = dict(re.findall(r"^  (\S+) +(\S+)$", said, re.MULTILINE))
    assert float(found["pairs_auc"]) == pytest.approx(100 * roc_auc_score(pairs.same, cosine), abs=1e-3)
    assert float(found["threshold_at_far_1e-1"]) == pytest.approx(np.sort(cosine[~pairs.same])[-2], abs=1e-2)
    accepted = pairs.same & (cosine >= float(found["threshold_at_far_1e-1"]))
    assert float(found["tar_at_far_1e-1"]) == pytest.approx(100 * accepted.sum() / pairs.same.sum(), abs=5.001)
    assert float(found["frr_at_0.9"]) == pytest.approx(100 * (cosine[pairs.same] < 0.9).mean(), abs=1e-3)
    assert float(found["far_at_0.9"]) == pytest.approx(100 * (cosine[~pairs.same] >= 0.9).mean(), abs=1e-3)


def other_inputs(model: Any) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("mask", FLOAT, [1]))


def wide_input(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 40


HOSTILE_GRAPHS: dict[str, tuple[Any, str]] = {
    "two inputs": (changed(recognizer(), other_inputs), "has 2 inputs (image, mask)"),
    "any size": (recognizer(side="s"), "takes images of any size, [?, 3, ?, ?]"),
    "wider than high": (changed(recognizer(), wide_input), "of 8 rows and 40 columns"),
    "a classifier": (recognizer(width=1000), "it has 1000 values, as many as ImageNet has classes"),
    "no graph": (onnx.ModelProto(), "is empty"),
}


@pytest.mark.parametrize("kind", HOSTILE_GRAPHS)
def test_a_graph_of_no_recognizer_is_one_line_in_both_doors(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, said = HOSTILE_GRAPHS[kind]
    (tmp_path / "w.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "faces").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "faces" / "a.png")
    for door, words in {
        main: ["protocol=synthetic", *DATA, "weights=w.onnx"],
        compress: ["teacher=w.onnx", "faces=faces", "data.alignment=none"],
    }.items():
        assert door([*words, "contract=arcface"]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("scoring ")]
        assert line.startswith("facedistill: w.onnx ")
        assert said in line
