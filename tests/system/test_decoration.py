"""What is nice to have may fail, and nothing else is held back."""

import io

import pytest

from facedistill.system.decoration import Display, decoration


@pytest.mark.parametrize(
    "error", [ValueError("a\nb \x1b[31m"), OSError(28, "No space left"), MemoryError(), KeyError("x")]
)
def test_what_fails_is_noted_and_said_in_a_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    failed: list[str] = []
    with decoration("the picture", failed):
        raise error
    (note,) = failed
    assert note.startswith(f"the picture: {type(error).__name__}:")
    assert capsys.readouterr().err == f"facedistill: without {note}\n"
    assert note.isprintable()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), GeneratorExit()])
def test_what_ends_the_process_goes_on(error: BaseException) -> None:
    failed: list[str] = []
    with pytest.raises(type(error)), decoration("the picture", failed):
        raise error
    assert failed == []


def test_it_needs_no_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    failed: list[str] = []
    with decoration("the picture", failed):
        raise ValueError
    assert len(failed) == 1


def test_a_display_that_failed_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[int] = []

    def show(number: int) -> None:
        if number == 1:
            raise BrokenPipeError(32, "Broken pipe")
        shown.append(number)

    display = Display("the bar")
    for number in range(4):
        display.show(lambda number=number: show(number))  # type: ignore[misc]
    assert shown == [0]
    assert len(capsys.readouterr().err.splitlines()) == 1
