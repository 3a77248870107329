"""What a pickle says, without doing what it says.

A pickle is a program (Python's ``pickletools.py`` documents its operations), and other people's programs are not run.
The operations that make bytes, whole numbers, tuples and lists are followed; what would be called is noted, not called.
Python's ``Unpickler`` with a strict ``find_class`` would not do: a memo index of 2³¹ makes it ask for 32 GiB, and NumPy
believes the state that an array or a type is given.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from facedistill.errors import DataError

MAX_STRING = 2**25  # bytes: no image has as many
MAX_STEPS = 1_000_000  # operations: 14,000 images in NumPy arrays take 0.4 million
AGAIN = "Never unpickle it; get it again from where it is published"

_OPERATIONS = {operation.code.encode("latin-1"): operation for operation in pickletools.opcodes}
_PUSHED = {"INT", "LONG", "LONG1", "BININT", "BININT1", "BININT2"}  # operations whose argument goes on the stack
_PUSHED |= {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_PUSHED |= {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ENCODE = "_codecs encode"  # Python 3 writes bytes so for Python 2


@dataclass(slots=True)
class Call:
    """A call that a pickle asks for: ``module name``, arguments, and the state that the result would be given."""

    name: str
    arguments: Any
    state: Any = None


def read_inert(data: bytes, names: Collection[str]) -> Any:
    """What a pickle makes, in time and memory that its length and ``MAX_STEPS`` bound.

    Texts come as their Latin-1 bytes, so those of Python 2 and 3 are alike; only a name is a ``str``.

    Args:
        names: ``module name`` of everything it may ask for, ``numpy._core`` as ``numpy.core``.

    Raises:
        DataError: names the byte and what is wrong; the operation is one that files of bytes have no use for, or asks
            for another name, or the pickle is damaged.
    """
    file = _File(data)
    stack: list[Any] = []
    below: list[list[Any]] = []  # the stacks under the marks
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
            why = error if isinstance(error, DataError) else f"damaged, or no pickle ({str(error)[:80]}). {AGAIN}"
            raise DataError(f"byte {start}: {why}") from error
    raise DataError(f"more than {MAX_STEPS} operations. {AGAIN}")


class _File(io.BytesIO):
    """Gives as much as it is asked for or raises, and never more than ``MAX_STRING``."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        if size > MAX_STRING:
            raise DataError(f"a string of {size} bytes, more than any image has. {AGAIN}")
        data = super().read(size)
        if len(data) < size:
            raise DataError("the file ends too early, it has been cut off. Get it again")
        return data

    def readline(self, size: int | None = -1, /) -> bytes:
        return super().readline(MAX_STRING)


def _next(file: _File) -> tuple[str, Any]:
    """The next operation's name and argument."""
    code = file.read(1)
    operation = _OPERATIONS.get(code)
    if operation is None:
        raise DataError(f"{str(code)[1:]} begins no operation: damaged, or no pickle. {AGAIN}")
    if operation.name == "STRING":  # a literal of Python 2, of which pickletools reads ASCII only
        line = file.readline()
        if len(line) < 3 or line[:1] + line[-2:] not in (b"''\n", b'""\n'):
            raise DataError(f"a string without its quotes: damaged, or no pickle. {AGAIN}")
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
        raise DataError(f"bytes in another encoding than Latin-1. {AGAIN}")
    return text
