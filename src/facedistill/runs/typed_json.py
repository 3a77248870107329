"""JSON that strangers may have written, as a dataclass: every value of its declared type."""

from functools import cache
from typing import Any, TypeVar, cast

T = TypeVar("T")


def parsed(kind: type[T], text: bytes) -> T:
    """Raises ``ValueError`` with the first value that is missing or not of its type."""
    from pydantic import ValidationError  # late: a plan of runs that are not there needs none

    try:
        return cast(T, _reader(cast(Any, kind)).validate_json(text, strict=True))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


@cache
def _reader(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
