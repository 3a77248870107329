"""Reads a pickle without executing it.

A pickle is a program (Python's ``pickletools.py`` documents its operations), and downloaded programs must not run.
Operations that make bytes, whole numbers, tuples and lists are interpreted; calls are recorded, not made. Python's
``Unpickler`` with a strict ``find_class`` is not enough: a memo index of 2³¹ makes it allocate 32 GiB, and NumPy trusts
the state that it gets for an array or a dtype.
"""

import io
import pickletools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from facedistill.errors import DataError

MAX_STRING = 2**25  # bytes; no image has as many
MAX_STEPS = 1_000_000  # operations; 14,000 images in NumPy arrays need 0.4 million
AGAIN = "Never unpickle it; get it again from where it is published"

_OPERATIONS = {operation.code.encode("latin-1"): operation for operation in pickletools.opcodes}
_PUSHED = {"INT", "LONG", "LONG1", "BININT", "BININT1", "BININT2"}  # operations whose argument goes on the stack
_PUSHED |= {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_PUSHED |= {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ENCODE = "_codecs encode"  # how Python 3 writes bytes for Python 2


@dataclass(slots=True)
class Call:
    """A call in a pickle: ``module name``, its arguments, and the state that the result would get."""

    name: str
    arguments: Any
    state: Any = None


def read_inert(data: bytes, names: Collection[str]) -> Any:
    """The contents of a pickle, in time and memory bounded by its length and ``MAX_STEPS``.

    Strings are returned as their Latin-1 bytes, so that those of Python 2 and 3 are alike; only names are ``str``.

    Args:
        names: every allowed ``module name``, with ``numpy._core`` written as ``numpy.core``.

    Raises ``DataError`` with the byte if the pickle is damaged, uses another name, or an operation that bytes and
    numbers don't need.
    """
    file = _File(data)
    stack: list[Any] = []
    below: list[list[Any]] = []  # the stacks below the marks
    memo: dict[int, Any] = {}
    for _ in range(MAX_STEPS):
        start = file.tell()
        try:
            operation, argument = _next(file)
            match operation:
                case _ if operation in _PUSHED:
                    stack.append(argument)
                case "BINPUT" | "LONG_BINPUT" | "PUT":
                    memo[argument] = stack[-1]
                case "BINGET" | "LONG_BINGET" | "GET":
                    stack.append(memo[argument])
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "MARK":
                    below.append(stack)
                    stack = []
                case "LIST" | "TUPLE":
                    items, stack = stack, below.pop()
                    stack.append(items if operation == "LIST" else tuple(items))
                case "APPENDS":
                    items, stack = stack, below.pop()
                    stack[-1].extend(items)
                case "APPEND":
                    item = stack.pop()
                    stack[-1].append(item)
                case "EMPTY_LIST":
                    stack.append([])
                case _ if operation in _TUPLES:
                    stack.append(tuple([stack.pop() for _ in range(_TUPLES[operation])][::-1]))
                case _ if operation in _CONSTANTS:
                    stack.append(_CONSTANTS[operation])
                case "GLOBAL":
                    stack.append(_checked(argument, names))
                case "STACK_GLOBAL":
                    name, module = stack.pop(), stack.pop()
                    stack.append(_checked(f"{module.decode()} {name.decode()}", names))
                case "REDUCE":
                    arguments, name = stack.pop(), stack.pop()
                    stack.append(_latin1(*arguments) if name == _ENCODE else Call(name, arguments))
                case "BUILD":
                    state = stack.pop()
                    stack[-1].state = state
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    return stack.pop()
                case _:
                    raise DataError(f"the operation {operation}, which bytes and numbers do not need. {AGAIN}")
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            why = error if isinstance(error, DataError) else f"damaged, or not a pickle ({str(error)[:80]}). {AGAIN}"
            raise DataError(f"byte {start}: {why}") from error
    raise DataError(f"more than {MAX_STEPS} operations. {AGAIN}")


class _File(io.BytesIO):
    """Reads exactly the requested size or raises, and never more than ``MAX_STRING``."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        if size > MAX_STRING:
            raise DataError(f"a string of {size} bytes, more than any image has. {AGAIN}")
        data = super().read(size)
        if len(data) < size:
            raise DataError("the file ends too early; it has been cut off. Get it again")
        return data

    def readline(self, size: int | None = -1, /) -> bytes:
        return super().readline(MAX_STRING)


def _next(file: _File) -> tuple[str, Any]:
    """Name and argument of the next operation."""
    code = file.read(1)
    operation = _OPERATIONS.get(code)
    if operation is None:
        raise DataError(f"{str(code)[1:]} is not an operation: damaged, or not a pickle. {AGAIN}")
    if operation.name == "STRING":  # a literal of Python 2; pickletools reads only ASCII
        line = file.readline()
        if len(line) < 3 or line[:1] + line[-2:] not in (b"''\n", b'""\n'):
            raise DataError(f"a string without quotes: damaged, or not a pickle. {AGAIN}")
        return operation.name, line[1:-2].decode("unicode-escape").encode("latin-1")
    argument = operation.arg.reader(file) if operation.arg else None
    if isinstance(argument, str) and operation.name != "GLOBAL":
        argument = argument.encode("latin-1")
    return operation.name, bytes(argument) if isinstance(argument, bytearray) else argument


def _checked(name: str, names: Collection[str]) -> str:
    known = name.replace("numpy._core", "numpy.core")
    if known != _ENCODE and known not in names:
        raise DataError(f"it asks for {'.'.join(name[:80].split())}, which may run code. {AGAIN}")
    return known


def _latin1(text: bytes, encoding: bytes) -> bytes:
    if encoding != b"latin1":
        raise DataError(f"bytes in an encoding other than Latin-1. {AGAIN}")
    return text
