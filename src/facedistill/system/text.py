"""Text that others wrote (names of files, folders, people, runs), as it is shown: on one line, without side effects."""

import io
import re
import shlex
import sys
from collections.abc import Iterable

# control characters, what ends a line, what turns the direction of text, bytes of names that are not UTF-8
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@")


def shown(text: object) -> str:
    """``str(text)`` for a terminal, a picture or a page, with escapes for what has no sign, as in ``Jos\\xe9``."""
    return _UNSHOWN.sub(lambda found: _escape(found[0]), str(text))


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte, as Python has it in names that are not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def command_line(words: Iterable[str]) -> str:
    """Words as a shell takes them; those that are not shown as they are in the form ``$'…'`` of bash and zsh."""
    return " ".join(shlex.quote(word) if shown(word) == word else _dollar_quoted(word) for word in words)


def _dollar_quoted(word: str) -> str:
    return "$'" + shown(word.replace("\\", "\\\\").replace("'", "\\'")) + "'"


def table_cell(text: object) -> str:
    """``shown`` for a CSV: a spreadsheet takes what begins like a formula as text."""
    cell = shown(text)
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def escape_unprintable() -> None:
    """Let stdout and stderr print what their encoding lacks as its escape, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
