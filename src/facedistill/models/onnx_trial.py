"""One image for an ONNX network, in a process of its own whose memory and time are bounded.

A graph may make values of any size, and a program that runs it may crash on one that nobody thought of: here it takes
no run with it. ``python -m facedistill.models.onnx_trial`` is the other process.
"""

import json
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from facedistill.errors import WeightsError
from facedistill.models.onnx_file import INSTALL, OnnxGraph, read_onnx
from facedistill.system.text import shown

MEMORY = 2**32  # bytes of address space, and as often again what the weights take
COPIES = 6  # of the weights, that onnxruntime may make while it prepares them
SECONDS = 120
_SAID = 200  # characters of onnxruntime's own words


def check_runs(path: Path) -> OnnxGraph:
    """What a graph takes and gives, once it has answered an image, and twice the same.

    Raises:
        WeightsError: it was not read, or not run: it takes too much memory or time, it crashes, or it is wrong.
    """
    graph = read_onnx(path)
    if find_spec("onnxruntime") is None:
        raise WeightsError(f"{path} is an ONNX file: to run it, {INSTALL}")
    try:
        changed = [file.stat().st_mtime_ns for file in (path, *graph.files)]
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.filename} {error.strerror}") from error
    if fault := _fault(path, graph, tuple(changed)):
        raise WeightsError(f"{path} {fault}")
    return graph


@cache
def _fault(path: Path, graph: OnnxGraph, changed: tuple[int, ...]) -> str:
    """What is wrong with it; empty: nothing. Many cells have the same teacher."""
    size = sum(file.stat().st_size for file in (path, *graph.files))
    asked = {"path": str(path), "memory": MEMORY + COPIES * size, "width": graph.width, **_image(graph)}
    command = [sys.executable, "-m", __name__]
    try:
        done = subprocess.run(
            command, input=json.dumps(asked), capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"answers no image in {SECONDS} seconds"
    if done.returncode != 0:
        return f"crashes onnxruntime, or takes more than {asked['memory'] / 2**30:.0f} GiB for an image"
    return str(json.loads(done.stdout.splitlines()[-1]))


def _image(graph: OnnxGraph) -> dict[str, Any]:
    form = [1, graph.size, graph.size, 3] if graph.channels_last else [1, 3, graph.size, graph.size]
    return {"input": graph.input, "output": graph.output, "form": form, "pixel": graph.pixel}


def _try(asked: dict[str, Any]) -> str:
    with suppress(ImportError, ValueError, OSError):  # what has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (asked["memory"], asked["memory"]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import numpy as np
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    image = np.random.default_rng(0).integers(0, 256, asked["form"]).astype(asked["pixel"])
    try:
        session = onnxruntime.InferenceSession(asked["path"], options, providers=["CPUExecutionProvider"])
        first, second = (session.run([asked["output"]], {asked["input"]: image})[0] for _ in range(2))
    except Exception as error:  # a stranger's graph: whatever onnxruntime says of it
        words = " ".join(shown(error).split())
        return f"can't be run: {words[:_SAID]}"
    if first.shape != (1, asked["width"]) or first.dtype != np.float32:
        return f"announces an embedding of {asked['width']} values and gives {list(first.shape)} of {first.dtype}"
    if not np.isfinite(first).all():
        return "answers an image with values that are no numbers (NaN, or infinite)"
    return "" if np.array_equal(first, second) else "says something else of the same image each time: it is random"


if __name__ == "__main__":
    print(json.dumps(_try(json.load(sys.stdin))))
