"""The fields of a protobuf, counted before it is parsed."""

from typing import Any

MOST_PARTS = 2**20  # fields, each of which takes some hundred bytes once it is parsed
_INTEGERS = range(1, 5)  # cpp_type of a field: of 32 and 64 bits, with and without a sign


def check_parts(data: bytes, form: Any) -> None:
    """Raise ``ValueError`` where a protobuf would take far more memory than its bytes, before it is parsed.

    A field of two bytes is an object of a hundred, and a number of one byte takes eight: so they are counted.

    Args:
        form: the descriptor of its message.
    """
    left, todo = MOST_PARTS, [(form, 0, len(data))]
    while todo:
        form, at, end = todo.pop()
        fields = form.fields_by_number
        while at < end:
            left -= 1
            key, at = _varint(data, at, end)
            size, wire = 0, key & 7
            if wire == 0:
                _, at = _varint(data, at, end)
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
            elif wire == 2:
                size, at = _varint(data, at, end)
                field = fields.get(key >> 3)
                if field is not None and field.message_type is not None:
                    todo.append((field.message_type, at, at + size))
                elif field is not None and field.cpp_type in _INTEGERS:
                    left -= size // 16
            else:
                raise ValueError("its bytes are no fields")
            at += size
            if at > end:
                raise ValueError("it is cut off")
            if left < 0:
                raise ValueError(f"it has more than {MOST_PARTS:,} parts")


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("it is cut off")
