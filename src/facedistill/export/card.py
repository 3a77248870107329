"""The card of an export: for people, and as Hugging Face reads it (front matter). Nothing is uploaded."""

import json
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from facedistill.data.faces import LANDMARKS
from facedistill.export.formats.safetensors import loader
from facedistill.export.licences import as_markdown
from facedistill.export.network import Deployed
from facedistill.export.proof import RATES
from facedistill.export.subject import Subject
from facedistill.runs.exported import LABELS, Exported, Judged, ModelFile
from facedistill.system.text import shown

_PIPELINES = {
    "embedding": "image-feature-extraction",
    "logits": "image-classification",
    "landmarks": "keypoint-detection",
}
_GIVES = {
    "embedding": "an embedding of {width} values{length}; the cosine of two says whether they are of one person",
    "logits": f"logits of {{width}} classes, whose names are the lines of {LABELS}",
    "landmarks": (
        "five landmarks [N, 5, 2]: x and y of the eyes, the nose and the mouth corners, from −1 to 1 from edge to edge "
        "of the image; left is left in the image"
    ),
}
_SCORES = {
    "pairs": "ten-fold accuracy on {of}, an image and its mirror",
    "cosine": "mean cosine with its teacher on {of}",
    "top1": "top-1 on {of}",
    "rank1": "rank-1 identification within {of}",
    "hter": "half total error rate on the held-out domain of {of} (lower is better)",
    "nrmse": "normalized landmark error on {of} (lower is better)",
}
_FRAMES = {
    "template": "a similarity (rotation, scale, shift) brings the five landmarks closest to these points",
    "landmarks": "a square around the box of the five landmarks, {side:g} times as long as its longer side",
    "box": "a square around the box of the face, {side:g} times as long as its longer side",
    "centre": "the centre square of the photograph",
    "whole": "the whole photograph, padded with black to a square",
}
_LIMITS = """- Faces that differ from those it was trained on (age, skin, pose, light, cameras) are recognized worse;
  how much is not measured here.
- A threshold holds for photographs like those of its pairs. For others, measure one on pairs of your own.
- It does not tell a face from a picture of one."""
_LIMITS_OF_LIVENESS = """- Attacks, cameras and light that it was not trained on are recognized less reliably; the score
  above is of one such domain.
- A threshold of its logits holds for the domains it was measured in. For others, measure one on faces of your own.
- It does not recognize people."""


def card(exported: Exported, subject: Subject, network: Deployed, licence: str) -> str:
    """The text of ``card.md``."""
    parts = [
        _front_matter(exported, licence),
        f"# {exported.name}",
        _what(exported, subject),
        "## Files",
        table([*exported.files, *exported.teacher], exported),
        "## Contract",
        _contract(exported),
        "## Scores",
        _scores(exported),
        "## Use",
        _use(exported, network),
        "## Limits",
        _LIMITS_OF_LIVENESS if subject.config.task.needs == "liveness" else _LIMITS,
        "## Licences",
        _listed(map(as_markdown, exported.licences)),
        "## Where it comes from",
        f"```bash\n{exported.command}\n```",
        _listed(
            [
                f"identity: `{exported.identity}`",
                *(f"{role}: {as_markdown(name)}" for role, name in exported.ancestors.items()),
            ]
        ),
        "Made with " + ", ".join(f"{package} {number}" for package, number in exported.versions.items()) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def table(files: Sequence[ModelFile], exported: Exported) -> str:
    """Format × MB × score × ms, in Markdown; those of the teacher are named as such."""
    score = f"{exported.judged.metric}, %"
    head = f"| file | format | MB | {score} | cosine with the network | ms, median | ms, 95th percentile |"
    rows = [head, "|---|---|---:|---:|---:|---:|---:|"]
    for model in files:
        numbers = ((model.score, 2), (model.cosine, 4), (model.median_ms, 2), (model.p95_ms, 2))
        cells = ["" if value is None else f"{value:.{digits}f}" for value, digits in numbers]
        whose = "" if model in exported.files else " (the teacher)"
        first = [f"{as_markdown(model.file)}{whose}", model.format, f"{model.bytes / 1e6:.2f}"]
        rows.append(f"| {' | '.join([*first, *cells])} |")
    how = f"One image at a time, {exported.threads} thread{'s' * (exported.threads > 1)}, {exported.processor}."
    if exported.calibration:
        how += f" Quantized files are calibrated on {exported.calibration}."
    notes = _listed([f"{model.format}: {model.note}" for model in files if model.note])
    return "\n\n".join(["\n".join(rows), how, *([notes] if notes else [])])


def _front_matter(exported: Exported, licence: str) -> str:
    judged = exported.judged
    task = _PIPELINES[exported.kind]
    metric = {"type": judged.metric, "value": round(judged.score, 3), "name": _score(exported)}
    data = {"name": judged.of, "type": exported.data or "pairs"}
    results = [{"task": {"type": task}, "dataset": data, "metrics": [metric]}]
    named = {"license_name": "see-licences", "license_link": "LICENCES.md"} if licence == "other" else {}
    value: dict[str, Any] = {
        "license": licence,
        **named,
        "library_name": exported.files[0].format.partition("-")[0],
        "pipeline_tag": task,
        "tags": ["face-recognition", "knowledge-distillation", "facedistill"],
        "model-index": [{"name": exported.name, "results": results}],
    }
    lines = [f"{key}: {shown(json.dumps(part, ensure_ascii=False))}" for key, part in value.items()]  # JSON is YAML
    return "\n".join(["---", *lines, "---"])


def _what(exported: Exported, subject: Subject) -> str:
    size = f"{exported.params:,} weights and {exported.macs / 1e6:.1f} million multiply-adds"
    sentences = [f"A face network of {size}.", f"It gives {_gives(exported)}."]
    if (record := subject.record) is not None:
        sentences.append(
            f"It is the run `{record.name}` of facedistill, trained on {record.data['train']:,} faces of "
            f"data={record.data_name}."
        )
    if subject.teacher is not None:
        after = " after a product with its axes (docs/teachers.md)" if exported.axes else ""
        name = as_markdown(subject.teacher.weights.name)
        sentences.append(f"It imitates {name}: their embeddings can be compared with each other{after}.")
    return " ".join(sentences)


def _gives(exported: Exported) -> str:
    length = " of length 1" if exported.normalized else ""
    return _GIVES[exported.kind].format(width=exported.width, length=length)


def _contract(exported: Exported) -> str:
    taken, frame = exported.input, exported.framing
    numbers = f"float32, (x − {taken.mean[0]:g}) / {taken.std[0]:g} of pixels 0 … 255"
    if taken.pixel == "uint8":
        numbers = "uint8, pixels 0 … 255 as they are"
    rows = [
        f"- input `{taken.name}`: [N, 3, {taken.height}, {taken.width}], {taken.colour.upper()}, {numbers}",
        f"- output `{exported.output}`: {_gives(exported)}",
        f"- the face in the image: {_FRAMES[frame.kind].format(side=frame.side)}",
    ]
    if frame.template:
        points = [f"| {name} | {x:.4f} | {y:.4f} |" for name, (x, y) in zip(LANDMARKS, frame.template, strict=True)]
        rows += ["", "| in pixels; 0 is the centre of the first | x | y |", "|---|---:|---:|", *points]
    return "\n".join([*rows, "", "`contract.json` says the same for programs."])


def _score(exported: Exported) -> str:
    return _SCORES[exported.judged.metric].format(of=exported.judged.of)


def _scores(exported: Exported) -> str:
    judged = exported.judged
    text = (
        f"{_score(exported)}: {judged.score:.2f} % by the network in torch, 95 % interval {judged.low:.2f} … "
        f"{judged.high:.2f} ({judged.samples:,} samples)."
    )
    if not judged.thresholds:
        return text
    measured = [model for model in exported.files if model.thresholds]
    names = ["the network", *(model.file for model in measured)]
    head = f"| false accepts | {' | | '.join(names)} | |"
    rows = [head, f"|---|{'---:|' * 2 * len(names)}", f"| |{' threshold | true accepts, % |' * len(names)}"]
    parts: list[Judged | ModelFile] = [judged, *measured]
    for rate in judged.thresholds:
        values = [(part.thresholds[rate], part.tar[rate]) for part in parts]
        rows.append(f"| {rate} | {' | '.join(f'{value:.4f} | {tar:.1f}' for value, tar in values)} |")
    few = [rate for rate in RATES if rate not in judged.thresholds]
    lacking = f"\n\nThey are too few for {', '.join(few)}." if few else ""
    of = f"On {judged.of_thresholds}, without mirror images, two faces are one person's from this cosine on:"
    return f"{text}\n\n{of}\n\n" + "\n".join(rows) + lacking


def _use(exported: Exported, network: Deployed) -> str:
    formats = {model.format: model.file for model in exported.files}
    onnx = next((file for name, file in formats.items() if name.startswith("onnx")), None)
    parts = []
    if onnx:
        parts += [
            f"```bash\nfacedistill predict model={shlex.quote(exported.name)} a.jpg b.jpg\n```",
            "Without facedistill, by onnxruntime; `image` is as the contract says:",
            "```python\nimport onnxruntime\n\n"
            f'session = onnxruntime.InferenceSession("{onnx}")\n'
            f'(answer,) = session.run(None, {{"{exported.input.name}": image}})\n```',
        ]
    if "safetensors" in formats:
        parts += ["By PyTorch, with timm and safetensors:", f"```python\n{loader(network).strip()}\n```"]
    return "\n\n".join(parts) or "In the runtime of its format, by the contract above."


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
