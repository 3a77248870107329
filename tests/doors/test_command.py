"""The command ``facedistill`` and its subcommands: help, version, what it refuses; none of that imports torch."""

import subprocess
import sys
from importlib import import_module

import pytest

from facedistill import __version__
from facedistill.__main__ import COMMANDS, main
from facedistill.cli import run_command, split_words
from facedistill.errors import RunError


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["facedistill", *words])
    return main()


def test_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(monkeypatch, "--help") == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {command} " in printed for command in COMMANDS)


def test_the_version_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"facedistill {__version__}\n"


@pytest.mark.parametrize("words", [[], ["trian"], ["rate=8"]])
def test_what_is_not_a_command_is_refused_with_the_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert called(monkeypatch, *words) == 2
    assert "choices are train, evaluate, report, data, runs, worker" in capsys.readouterr().err


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "train"])
def test_every_command_has_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    for word in ("--help", "-h"):
        assert called(monkeypatch, command, word) == 0
        assert f"facedistill {command}" in capsys.readouterr().out


def test_help_and_refusals_need_no_torch() -> None:
    code = (
        "import sys\n"
        "from facedistill.__main__ import main\n"
        "for words in (['evaluate', '--help'], ['data', '--help'], ['runs', '--help'], ['worker', '--help'],\n"
        "              ['evaluate', 'rate=8'], ['evaluate', 'run=nowhere']):\n"
        "    sys.argv = ['facedistill', *words]\n"
        "    main()\n"
        "print([name for name in ('torch', 'pytorch_lightning', 'timm', 'wandb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_python_m_is_the_same_command(command: str) -> None:
    module = import_module(COMMANDS[command])
    assert module.__name__.removesuffix(".__main__") == f"facedistill.{command}"
    assert callable(module.main)


def test_an_error_of_ours_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(words: list[str]) -> int:
        raise RunError(f"no {words[0]}")

    assert run_command(["run"], "manual", fails) == 2
    assert capsys.readouterr().err == "facedistill: no run\n"
    assert run_command([], "manual", fails, bare=False) == 2
    assert capsys.readouterr().out == "manual\n"


def test_words_of_a_command_are_told_from_those_of_a_configuration() -> None:
    own, others = split_words(["run=a=b", "image.resize=64", "plain"], ("run", "root"))
    assert own == {"run": "a=b"}
    assert others == ["image.resize=64", "plain"]
