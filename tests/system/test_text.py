"""Names of files, folders and people that are hostile, or of another encoding, on a terminal and in a spreadsheet."""

import io
import os
import subprocess
from collections.abc import Callable

import pytest

from facedistill.__main__ import main as command_main
from facedistill.report import __main__ as report
from facedistill.runs import __main__ as runs
from facedistill.system.text import command_line, shown, table_cell


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("José 山田　太郎 👩‍🚀 'a' $x$ [red] C:\\faces", "José 山田　太郎 👩‍🚀 'a' $x$ [red] C:\\faces"),
        (os.fsdecode(b"Jos\xe9"), "Jos\\xe9"),
        ("lone \ud83d surrogate", "lone \\ud83d surrogate"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("two\nlines\r\n\ttab", "two\\nlines\\r\\n\\ttab"),
        ("two\u2028lines\u2029\x85", "two\\u2028lines\\u2029\\x85"),
        ("ann\u202egpj.exe", "ann\\u202egpj.exe"),
        ("\u2066isolated\u2069 \u200emark \ufeffbom", "\\u2066isolated\\u2069 \\u200emark \\ufeffbom"),
        ("\x00\x7f\x08", "\\x00\\x7f\\x08"),
        (ValueError("a\x1bb"), "a\\x1bb"),
    ],
)
def test_what_others_wrote_is_shown_on_one_line_without_side_effects(text: object, expected: str) -> None:
    assert shown(text) == expected
    assert shown(shown(text)) == expected
    expected.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("==1+1", "'==1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "\\t=1"),
        ("\r=1", "\\r=1"),
        ("/8 full, soft", "/8 full, soft"),
        ("a=b", "a=b"),
        ("", ""),
        (8, "8"),
    ],
)
def test_a_cell_of_a_table_is_no_formula(text: object, expected: str) -> None:
    assert table_cell(text) == expected


@pytest.mark.parametrize("command", [command_main, report.main, runs.main], ids=["facedistill", "report", "runs"])
@pytest.mark.parametrize("encoding", ["ascii:strict", "utf-8:strict", "utf-8:surrogateescape"])
def test_a_command_shows_any_word_on_any_terminal(
    monkeypatch: pytest.MonkeyPatch, command: Callable[..., int], encoding: str
) -> None:
    word = os.fsdecode(b"Jos\xe9\x1b[31m\n=x")
    errors = io.TextIOWrapper(io.BytesIO(), *encoding.split(":"))
    monkeypatch.setattr("sys.stderr", errors)
    monkeypatch.setattr("sys.argv", ["facedistill", word])
    assert (command() if command is command_main else command([word])) == 2
    errors.seek(0)
    (line,) = errors.buffer.read().splitlines()
    assert b"Jos\\" in line
    assert b"\x1b" not in line


@pytest.mark.parametrize("name", [b"Jos\xe9", b"it's \xe9\x1b[31m\\n", "\u202e\n山 $x$".encode(), b"plain", b"a b"])
def test_a_command_that_is_shown_can_be_typed(name: bytes) -> None:
    line = command_line(["printf", "%s", os.fsdecode(name)])
    assert shown(line) == line
    assert subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout == name
