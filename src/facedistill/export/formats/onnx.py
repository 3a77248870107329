"""ONNX in float32: for onnxruntime, OpenCV's dnn, InsightFace's ArcFaceONNX and whatever else reads it."""

from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from facedistill.errors import WeightsError
from facedistill.export.format import Format, Images, Session
from facedistill.export.network import Deployed

_WHOLE = 2**30  # values of a constant: all are computed once, when the graph is made
_ROUNDING = 1e-3  # by which a batch may be answered otherwise than by the network, or the graph is none of it


class Onnx(Format):
    """The opset is that of torch's exporter, batches are of any size, and what no image changes is computed already."""

    file = "model.onnx"
    modules: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript", "onnxruntime", "threadpoolctl")
    install = "pip install 'facedistill[export]'"

    def write(self, network: Deployed, path: Path, faces: Images, variant: str) -> None:
        import onnx

        onnx.save(graph_of(network), path)

    def load(self, path: Path, threads: int) -> Session:
        return session(path, threads)


def graph_of(network: Deployed) -> Any:
    """The checked ``ModelProto`` of a network, exported once for all that is made of it.

    It is exported for one image, so that all that depends on the size alone becomes constants, and its batch is opened
    afterwards; a network for which that changes answers is exported for a batch that varies.

    Raises:
        WeightsError: torch can do neither.
    """
    import onnx

    return onnx.ModelProto.FromString(_graph(network))


@lru_cache(maxsize=1)
def _graph(network: Deployed) -> bytes:
    model = _opened(_exported(network, None))
    if not _answers_as(model, network):
        model = _exported(network, [{0: torch.export.Dim("batch")}])
        if not _answers_as(model, network):
            raise WeightsError("torch can't export this network to ONNX for batches of any size: leave format=onnx out")
    _bare(model)
    import onnx

    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def session(path: Path | bytes, threads: int) -> Session:
    """onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    run = onnxruntime.InferenceSession(
        path if isinstance(path, bytes) else str(path), options, providers=["CPUExecutionProvider"]
    )
    name = run.get_inputs()[0].name

    def answer(images: Images) -> np.ndarray[Any, np.dtype[np.float32]]:
        found: np.ndarray[Any, np.dtype[np.float32]] = run.run(None, {name: images})[0]
        return found

    return answer


def _exported(network: Deployed, shapes: Any) -> Any:
    import onnx_ir
    from onnxscript import optimizer
    from threadpoolctl import threadpool_limits

    program = torch.onnx.export(
        network,
        (network.example(1 if shapes is None else 2),),
        dynamo=True,
        dynamic_shapes=shapes,
        input_names=[network.taken.name],
        output_names=[network.kind],
        verbose=False,
    )
    assert program is not None
    with threadpool_limits(1, user_api="blas"):  # NumPy folds, and sums depend on how many threads share them
        optimizer.fold_constants(program.model, input_size_limit=_WHOLE, output_size_limit=_WHOLE)
        optimizer.optimize(program.model)
    return onnx_ir.to_proto(program.model)


def _opened(model: Any) -> Any:
    """A graph for one image as one for a batch: a 1 with which a new shape begins becomes "as many as there are"."""
    import onnx

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    known = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            form = known.get(node.output[0], [])
            if len(form) > 1 and form[0] == 1:
                name = f"{node.output[0]}_form"
                graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, *form[1:]]), name))
                node.input[1] = name
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]  # of one image: onnxruntime plans its memory by these
    return model


def _answers_as(model: Any, network: Deployed) -> bool:
    images = network.example(3)
    try:
        answer = session(model.SerializeToString(), 1)(images.numpy())
    except Exception:  # whatever onnxruntime says of a graph that takes no batches
        return False
    expected = network(images).numpy()
    return answer.shape == expected.shape and bool(np.allclose(answer, expected, atol=_ROUNDING, rtol=_ROUNDING))


def _bare(model: Any) -> None:
    """Without what exporters write about themselves, and constants that nobody reads: as many bytes as the weights."""
    graph = model.graph
    del graph.value_info[:]
    del graph.metadata_props[:]
    del model.metadata_props[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for part in (*graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    model.producer_name = "facedistill"
