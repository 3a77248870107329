"""An ONNX file as an embedding network: read and judged without being run.

What a stranger's graph may be is decided here, before onnxruntime sees it: its size and number of parts before it is
parsed, its tensors by the bytes that they have, its other files by their names, its operators, its one image and its
one embedding.
"""

import math
import os
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from facedistill.errors import WeightsError
from facedistill.model_files.protobuf import check_parts
from facedistill.system.files import open_regular
from facedistill.system.text import shown

INSTALL = "pip install 'facedistill[onnx]'"
MOST_BYTES = 2**31 - 1  # of a protobuf
MOST_SIDE = 2048  # pixels
MOST_VALUES = 4096  # of an embedding
CLASSES = 1000  # of ImageNet
_SHOWN = 4
_DOMAINS = ("", "ai.onnx")
_EXTRACT = "onnx.utils.extract_model('{name}', 'embedding.onnx', ['{input}'], ['NAME OF THE EMBEDDING'])"


class OnnxGraph(NamedTuple):
    """What a graph takes and gives.

    Attributes:
        input, output: the names of its image and of its embedding.
        size: rows of the image.
        columns: of the image, fewer than rows; None: it is square.
        width: values of the embedding.
        channels_last: [N, H, W, 3] instead of [N, 3, H, W].
        pixel: the type of a value of the image, ``float32`` or ``uint8``.
        one_by_one: a batch has to be one image.
        files: of its weights, where they lie beside it.
    """

    input: str
    output: str
    size: int
    columns: int | None
    width: int
    channels_last: bool
    pixel: str
    one_by_one: bool
    files: tuple[Path, ...]


def read_onnx(path: Path) -> OnnxGraph:
    """What the graph in a file takes and gives.

    Raises:
        WeightsError: it is no ONNX file, or none of a network from one image to one embedding that can be run safely;
            or the package ``onnx`` is not installed.
    """
    try:
        with open_regular(path) as file:
            state = os.fstat(file.fileno())
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.strerror or error}") from error
    return _read(path, state.st_mtime_ns, state.st_size)


@cache
def _read(path: Path, changed: int, size: int) -> OnnxGraph:
    """Many cells have the same teacher."""
    try:
        import onnx  # an extra, and late: few plans have such a file
    except ImportError as error:
        raise WeightsError(f"{path} is an ONNX file: to read it, {INSTALL}") from error
    if size > MOST_BYTES:
        raise WeightsError(f"{path} has {size:,} bytes, more than an ONNX file can: copy it again")
    data = path.read_bytes()
    try:
        check_parts(data, onnx.ModelProto.DESCRIPTOR)
        model = onnx.ModelProto()
        model.ParseFromString(data)
    except Exception as error:  # a stranger's bytes: whatever they make the parser raise
        raise WeightsError(
            f"{path} is damaged or no ONNX file: {shown(error)[:200] or type(error).__name__}"
        ) from error
    del data
    try:
        return _judged(path, model, onnx)
    except _Fault as fault:
        raise WeightsError(f"{path} {fault}") from None
    except Exception as error:  # names that are no text, numbers of no type: whatever a stranger's graph may hold
        raise WeightsError(f"{path} is damaged: {shown(error)[:100]}") from error


class _Fault(Exception):
    """What is wrong with a graph, as the end of a sentence that begins with its file."""


def _judged(path: Path, model: Any, onnx: Any) -> OnnxGraph:
    graph = model.graph
    if not graph.node:
        raise _Fault("has no graph: it is damaged or no ONNX file")
    _check_operators(model, onnx)
    _check_order(graph)
    files = _check_tensors(path, graph, onnx)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise _Fault(f"has {len(inputs)} inputs{_named(inputs)}: a recognizer takes one, its image")
    (image,) = inputs
    size, columns, channels_last, one_by_one = _image_form(image, onnx)
    output, width = _embedding(path, graph, image.name, onnx)
    pixel = "uint8" if image.type.tensor_type.elem_type == onnx.TensorProto.UINT8 else "float32"
    return OnnxGraph(image.name, output, size, columns, width, channels_last, pixel, one_by_one, files)


def _check_operators(model: Any, onnx: Any) -> None:
    if model.functions:
        raise _Fault("has operators of its own (functions): write them out with onnx.inliner.inline_local_functions")
    newest = onnx.defs.onnx_opset_version()
    for node in model.graph.node:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        if node.domain not in _DOMAINS or not onnx.defs.has(node.op_type):
            raise _Fault(
                f"has the operator {_short(name)}, which is none of ONNX's own (up to opset {newest}): export the "
                "network with standard operators only"
            )
        if any(part.HasField("g") or part.graphs or part.HasField("sparse_tensor") for part in node.attribute):
            raise _Fault(
                f"has a graph within its graph ({_short(name)}): a recognizer needs no branches and no loops. Export "
                "it for images of one size"
            )


def _check_order(graph: Any) -> None:
    """Raise ``_Fault`` where a value is made of itself, of nothing, or twice."""
    maker: dict[str, int] = {}
    for number, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in maker:
                raise _Fault(f"makes the value {_short(name)} twice: it is damaged")
            maker[name] = number
    given = {value.name for value in (*graph.input, *graph.initializer)}
    for value in graph.output:
        if value.name not in maker:
            raise _Fault(f"does not make its output {_short(value.name)}: it is damaged")
    behind: dict[int, set[int]] = {}
    for number, node in enumerate(graph.node):
        names = [name for name in node.input if name and name not in given]
        for name in names:
            if name not in maker:
                raise _Fault(f"has no value {_short(name)}, which its {_short(node.op_type)} takes: it is damaged")
        behind[number] = {maker[name] for name in names}
    try:
        TopologicalSorter(behind).prepare()
    except CycleError as error:
        first = graph.node[error.args[1][0]]
        raise _Fault(f"makes a value of itself: {_short(first.op_type)} stands in a circle") from None


def _check_tensors(path: Path, graph: Any, onnx: Any) -> tuple[Path, ...]:
    """The other files of its weights. Raises ``_Fault`` where a tensor has not the bytes that it announces."""
    if graph.sparse_initializer:
        raise _Fault("has sparse weights: export it with dense ones")
    external: dict[str, int] = {}  # bytes that are used of each file
    for tensor in _tensors(graph):
        name, count = _short(tensor.name), math.prod(tensor.dims)
        if any(size < 0 for size in tensor.dims):
            raise _Fault(f"has weights of a negative size: {name}")
        no_numbers = (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING)
        if tensor.data_type in no_numbers or tensor.data_type not in onnx.TensorProto.DataType.values():
            raise _Fault(f"has weights that are no numbers: {name}")
        item = _bits(tensor.data_type, onnx)
        needed = -(-count * item // 8)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = {entry.key: entry.value for entry in tensor.external_data}
            external[place.get("location", "")] = external.get(place.get("location", ""), 0) + needed
            _check_place(path, place, needed, name)
            continue
        held = max(
            len(tensor.raw_data) * 8 // item,
            len(tensor.float_data) // (2 if tensor.data_type == onnx.TensorProto.COMPLEX64 else 1),
            len(tensor.int32_data) * (8 // item if item < 8 else 1),
            len(tensor.int64_data),
            len(tensor.double_data) // (2 if tensor.data_type == onnx.TensorProto.COMPLEX128 else 1),
            len(tensor.uint64_data),
        )
        if held < count:
            raise _Fault(f"is damaged: {name} announces {count:,} values and has {held:,}")
    for location, used in external.items():
        if used > (path.parent / location).stat().st_size:
            raise _Fault(f"takes more weights from {_short(location)} than are in it")
    return tuple(path.parent / location for location in sorted(external))


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _bits(kind: int, onnx: Any) -> int:
    """Of a value."""
    name = onnx.TensorProto.DataType.Name(kind)
    small = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    return small.get(name) or 8 * onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize


def _check_place(path: Path, place: dict[str, str], needed: int, tensor: str) -> None:
    location = place.get("location", "")
    file = path.parent / location
    if not location or location in (".", "..") or "/" in location or "\\" in location or "\0" in location:
        raise _Fault(f"has weights ({tensor}) outside of its folder, in {_short(location)}: this is not followed")
    if not file.is_file():
        raise _Fault(f"lacks the file of its weights: copy {_short(location)} into its folder")
    if file.resolve().parent != path.parent.resolve():
        raise _Fault(f"has weights ({tensor}) outside of its folder, by the link {_short(location)}: copy the file")
    try:
        start, length = int(place.get("offset", 0)), int(place.get("length", needed))
    except ValueError:
        raise _Fault(f"is damaged: it says not where in {_short(location)} {tensor} is") from None
    if start < 0 or length != needed or start + length > file.stat().st_size:
        raise _Fault(f"is damaged, or {_short(location)} is: {tensor} is not whole there")


def _image_form(value: Any, onnx: Any) -> tuple[int, int | None, bool, bool]:
    """The rows of the image, its columns where they are fewer, whether its channels come last, and a batch is one."""
    name, kind = _short(value.name), value.type.tensor_type
    form = _form(value)
    if kind.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8):
        held = onnx.TensorProto.DataType.Name(kind.elem_type).lower() if kind.elem_type in range(1, 24) else "nothing"
        raise _Fault(f"takes values of type {held} ({name}): export it for float32 or uint8 pixels")
    if form is None or len(form) != 4 or 3 not in (form[1], form[3]):
        raise _Fault(f"takes {_shape(form)} ({name}), which is no image: [N, 3, S, S] or [N, S, S, 3]")
    channels_last = form[1] != 3
    height, width = form[1:3] if channels_last else form[2:]
    if height is None or width is None:
        raise _Fault(
            f"takes images of any size, {_shape(form)} ({name}): export it for the size that it was trained with, "
            "[N, 3, S, S]"
        )
    if not 1 <= width <= height <= MOST_SIDE:
        raise _Fault(
            f"takes images of {height} rows and {width} columns ({name}): faces are square or higher than wide, and "
            f"have at most {MOST_SIDE} rows"
        )
    if form[0] not in (None, 1):
        raise _Fault(f"takes batches of {form[0]} images ({name}): export it for batches of any size, or of 1")
    return height, None if width == height else width, channels_last, form[0] == 1


def _embedding(path: Path, graph: Any, image: str, onnx: Any) -> tuple[str, int]:
    """The name of the output that is an embedding, and how many values it has."""
    forms = {value.name: _form(value) for value in graph.output}
    found = [name for name, form in forms.items() if form is not None and len(form) == 2 and form[1] is not None]
    all_of_them = ", ".join(f"{_short(name)} {_shape(form)}" for name, form in list(forms.items())[:_SHOWN])
    extract = _EXTRACT.format(name=_short(path.name), input=_short(image))
    if not found:
        raise _Fault(f"gives {all_of_them}: no embedding [N, values]. To cut it there: {extract}")
    if len(found) > 1:
        raise _Fault(f"gives {all_of_them}: which is the embedding? To keep that alone: {extract}")
    (name,) = found
    value = next(value for value in graph.output if value.name == name)
    if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise _Fault(f"gives an embedding ({_short(name)}) that is not of float32: export it so")
    width = forms[name][1]  # type: ignore[index]
    assert width is not None
    maker = {made: node for node in graph.node for made in node.output}
    last = maker[name]
    while last.op_type in ("Identity", "Cast") and last.input and last.input[0] in maker:
        last = maker[last.input[0]]
    why = None
    if last.op_type in ("Softmax", "LogSoftmax", "Hardmax", "ArgMax"):
        why = f"it ends in {last.op_type}"
    elif width == CLASSES:
        why = f"it has {CLASSES} values, as many as ImageNet has classes"
    elif not 2 <= width <= MOST_VALUES:
        why = f"it has {width:,} values"
    if why:
        raise _Fault(f"gives the scores of a classifier, no embedding ({_short(name)}: {why}). To cut it: {extract}")
    return name, width


def _form(value: Any) -> list[int | None] | None:
    """The sizes of a tensor, None for one that may vary; None for what is no tensor or has no shape."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    sizes = value.type.tensor_type.shape.dim
    return [size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else None for size in sizes]


def _shape(form: list[int | None] | None) -> str:
    if form is None:
        return "no tensor of a known shape"
    more = ", …" if len(form) > 2 * _SHOWN else ""
    return f"[{', '.join('?' if size is None else str(size) for size in form[: 2 * _SHOWN])}{more}]"


def _named(values: list[Any]) -> str:
    names = ", ".join(_short(value.name) for value in values[:_SHOWN])
    return f" ({names}{', …' if len(values) > _SHOWN else ''})" if values else ""


def _short(name: str) -> str:
    """A stranger's name for a message."""
    return shown(name)[:60] or "without a name"
