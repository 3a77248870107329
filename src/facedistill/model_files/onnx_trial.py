"""One image for an ONNX network, in a process of its own whose memory and time are bounded.

A graph may make values of any size, and a program that runs it may crash on one that nobody thought of: here it takes
no run with it. ``python -m facedistill.model_files.onnx_trial`` is the other process.
"""

import json
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from facedistill.errors import WeightsError
from facedistill.model_files.onnx_file import INSTALL, OnnxGraph, read_onnx
from facedistill.system.text import shown

MEMORY = 2**32  # bytes of address space, and as often again what the weights take
COPIES = 6  # of the weights, that onnxruntime may make while it prepares them
SECONDS = 120
TOLERANCE = 1e-3  # of the largest value, by which an image may be answered otherwise in a batch: sums round
_SAID = 200  # characters of onnxruntime's own words


def check_runs(path: Path) -> OnnxGraph:
    """What a graph takes and gives, once it has answered an image, and twice the same.

    A graph that answers a batch otherwise than its images is asked one by one: many were exported for one image, and
    say that they take any number.

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
    tried = _tried(path, graph, tuple(changed))
    if tried.fault:
        raise WeightsError(f"{path} {tried.fault}")
    return graph._replace(one_by_one=tried.one_by_one)


class _Tried(NamedTuple):
    """What is wrong with a graph (empty: nothing), and whether it has to be asked one by one."""

    fault: str
    one_by_one: bool = False


@cache
def _tried(path: Path, graph: OnnxGraph, changed: tuple[int, ...]) -> _Tried:
    """Many cells have the same teacher."""
    size = sum(file.stat().st_size for file in (path, *graph.files))
    asked = {**graph._asdict(), "files": [], "path": str(path), "memory": MEMORY + COPIES * size}
    command = [sys.executable, "-m", __name__]
    try:
        done = subprocess.run(
            command, input=json.dumps(asked), capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return _Tried(f"answers no image in {SECONDS} seconds")
    if done.returncode != 0:
        return _Tried(f"crashes onnxruntime, or takes more than {asked['memory'] / 2**30:.0f} GiB for an image")
    return _Tried(*json.loads(done.stdout.splitlines()[-1]))


def _try(asked: dict[str, Any]) -> _Tried:
    with suppress(ImportError, ValueError, OSError):  # what has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (asked["memory"], asked["memory"]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import numpy as np
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    rows, columns = asked["size"], asked["columns"] or asked["size"]
    form = [2, rows, columns, 3] if asked["channels_last"] else [2, 3, rows, columns]
    images = np.random.default_rng(0).integers(0, 256, form).astype(asked["pixel"])
    try:
        session = onnxruntime.InferenceSession(asked["path"], options, providers=["CPUExecutionProvider"])
        first, again, other = (
            session.run([asked["output"]], {asked["input"]: image[None]})[0] for image in images[[0, 0, 1]]
        )
    except Exception as error:  # a stranger's graph: whatever onnxruntime says of it
        words = " ".join(shown(error).split())
        return _Tried(f"can't be run: {words[:_SAID]}")
    width = asked["width"]
    if first.shape != (1, width) or first.dtype != np.float32:
        return _Tried(f"announces an embedding of {width} values and gives {list(first.shape)} of {first.dtype}")
    if not np.isfinite(first).all():
        return _Tried("answers an image with values that are no numbers (NaN, or infinite)")
    if not np.array_equal(first, again):
        return _Tried("says something else of the same image each time: it is random")
    if asked["one_by_one"]:
        return _Tried("", True)
    alone = np.concatenate([first, other])
    with suppress(Exception):
        (both,) = session.run([asked["output"]], {asked["input"]: images})
        if both.shape == alone.shape and np.allclose(both, alone, rtol=0, atol=TOLERANCE * np.abs(alone).max()):
            return _Tried("")
    return _Tried("", True)


if __name__ == "__main__":
    print(json.dumps(_try(json.load(sys.stdin))))
