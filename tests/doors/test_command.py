"""The command ``facedistill`` and its subcommands: help, version, what it refuses; none of that imports torch."""

import dataclasses
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from facedistill import __version__
from facedistill.__main__ import COMMANDS, main
from facedistill.cli import run_command, split_words
from facedistill.config.schema import Config
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
    assert (
        "choices are compress, train, evaluate, predict, export, report, data, runs, worker" in capsys.readouterr().err
    )


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
        "              ['report', '--help'], ['train', '--help'],\n"
        "              ['evaluate', 'rate=8'], ['evaluate', 'run=nowhere']):\n"
        "    sys.argv = ['facedistill', *words]\n"
        "    main()\n"
        "heavy = ('torch', 'pytorch_lightning', 'timm', 'wandb', 'matplotlib', 'scipy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_python_m_is_the_same_command(command: str) -> None:
    module = import_module(COMMANDS[command])
    assert module.__name__.removesuffix(".__main__") == f"facedistill.{command}"
    assert callable(module.main)


@pytest.mark.parametrize(
    "command", ["train", "train -m", "train plan=true -m", "worker", "data", "evaluate protocol=lfw weights=x"]
)
def test_a_word_that_is_not_understood_is_the_same_line_of_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    for module in ("train", "worker"):
        monkeypatch.setattr(f"facedistill.{module}.stop_on_signals", lambda: None)
    assert called(monkeypatch, *command.split(), "schedule.epoch=3") == 2
    printed = capsys.readouterr()
    assert printed.err == "facedistill: schedule.epoch=3: there is no such key. Did you mean schedule.epochs=3?\n"
    assert printed.out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --rate=8", "--rate=8: words are KEY=VALUE: rate=8"),
        ("train --cfg nope", "--cfg/-c: invalid choice: 'nope' (choose from 'job', 'hydra', 'all')"),
        ("train --experimental-rerun x", "unrecognized arguments: --experimental-rerun"),
        ("train -m rate=x,2 plan=true", "rate=x: choices are rate=1, rate=2, rate=4, rate=8"),
        ("train -m rate=glob(*)", "the sweep is empty: glob(…) is for groups, as init=glob(s*)"),
        ("train -m rate=2,4 hydra.job.chdir=true", "hydra.job.chdir=true: paths are those"),
    ],
)
def test_options_and_sweeps_that_are_not_understood_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, said: str, tmp_path: Path
) -> None:
    monkeypatch.setattr("facedistill.train.stop_on_signals", lambda: None)
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, *words.split()) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1


def test_cells_that_fail_are_listed_by_the_words_that_were_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("facedistill.train.stop_on_signals", lambda: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("facedistill.sweep.scheduler.failures", [])
    assert called(monkeypatch, "train", "-m", "rate=16,32") == 2
    assert capsys.readouterr().out == "2 failed:\n  rate=16\n  rate=32\n"


def test_ways_to_look_at_a_configuration(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("facedistill.train.stop_on_signals", lambda: None)
    assert called(monkeypatch, "train", "rate=8", "--cfg", "job", "--package", "schedule", "schedule.epochs=3") == 0
    assert capsys.readouterr().out.startswith("# @package schedule\nepochs: 3\n")
    assert called(monkeypatch, "train", "--help") == 0
    shown = capsys.readouterr().out
    assert "facedistill train [-m]" in shown
    assert "init: distill, fitnet, full" in shown


def test_a_sweep_prints_its_cells_and_nothing_of_hydra_s(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("facedistill.train.stop_on_signals", lambda: None)
    monkeypatch.chdir(tmp_path)
    long = "synthetic" * 20
    assert (
        called(monkeypatch, "train", "-m", "rate=2,4", "plan=true", f"data.name={long}", "rate=2,8", "target=soft") == 0
    )
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("cell")] == [["cell", "1/2"], ["cell", "2/2"]]
    assert len(lines) == 4, lines  # each with its teacher
    assert all(line.endswith("to be trained") and long in line for line in lines)  # a pipe is no 80 columns wide


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task=spoof", "data=synthetic_spoof", "target=two_teachers", "task.options.alignment=4"], "no bank can hold"),
        (["task=periocular", "target=soft"], "has a teacher in the place of the branch of faces"),
        (["rate=8", "init=full", "target=soft", "+target.terms.soft.depth=3"], "unexpected keyword argument 'depth'"),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else "",
)
def test_a_plan_refuses_what_training_would(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], said: str
) -> None:
    monkeypatch.setattr("facedistill.train.stop_on_signals", lambda: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("facedistill.sweep.scheduler.failures", [])
    assert called(monkeypatch, "train", *words, "logger=csv", "plan=true") == 2
    assert said in capsys.readouterr().err


def test_a_plan_is_not_cut_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("facedistill.train.stop_on_signals", lambda: None)
    monkeypatch.chdir(tmp_path)
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", "40"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    assert called(monkeypatch, "train", "rate=8", "init=full", "target=soft", "plan=true") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("to be trained" in line for line in lines)


def test_a_reader_who_leaves_ends_a_command_quietly() -> None:
    code = (
        "import sys, facedistill.__main__ as command\n"
        "command._main = lambda: print('x' * 2**20)\n"
        "sys.exit(command.main())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_a_command_without_stdout_does_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert run_command(["--help"], "manual", lambda words: 1) == 0


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(words: list[str]) -> int:
        raise KeyboardInterrupt

    assert run_command(["run"], "manual", stopped) == 130
    assert capsys.readouterr().err == "\nfacedistill: stopped\n"


def test_an_error_of_ours_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(words: list[str]) -> int:
        raise RunError(f"no {words[0]}")

    assert run_command(["run"], "manual", fails) == 2
    assert capsys.readouterr().err == "facedistill: no run\n"
    assert run_command([], "manual", fails, bare=False) == 2
    assert capsys.readouterr().out == "manual\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("data chek=all", "chek=all: there is no such word. Did you mean check=all?"),
        ("data --pack=true", "--pack=true: there is no such word. Did you mean pack=true?"),
        ("evaluate protcol=lfw root=x", "Did you mean protocol=lfw?"),
        ("report run_dir=x", "Did you mean runs_dir=x?"),
        ("report runs_dir=gone", "runs_dir=gone does not exist: name the folder of the runs, runs_dir=FOLDER"),
        ("runs runs_dir=gone", "runs_dir=gone does not exist: name the folder of the runs, runs_dir=FOLDER"),
        ("runs stael", "stael: choices are stale, remove NAME …, verify [NAME …]"),
    ],
)
def test_a_command_s_own_words_are_named_where_one_is_misspelt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, said: str, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert called(monkeypatch, *command.split()) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert len(printed.err.splitlines()) == 1


def test_no_key_of_a_configuration_is_taken_for_a_misspelt_word() -> None:
    keys = [field.name for field in dataclasses.fields(Config)]
    for own in (("sheet", "check", "pack"), ("run", "protocol", "root", "weights", "flip")):
        words = [f"{key}=1" for key in keys if key != "protocol"]  # which of a configuration has keys, no value
        assert split_words(words, own)[1] == words


def test_words_of_a_command_are_told_from_those_of_a_configuration() -> None:
    own, others = split_words(["run=a=b", "image.resize=64", "plain"], ("run", "root"))
    assert own == {"run": "a=b"}
    assert others == ["image.resize=64", "plain"]


@pytest.mark.parametrize("asked", ["true", "false"])
def test_a_file_that_is_no_teacher_is_refused_by_its_plan_and_leaves_no_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: str, tmp_path: Path
) -> None:
    monkeypatch.setattr("facedistill.train.stop_on_signals", lambda: None)
    monkeypatch.setattr("facedistill.sweep.scheduler.failures", [])
    monkeypatch.chdir(tmp_path)
    Path("cut.safetensors").write_bytes(b"\x40\x01\0\0\0\0\0\0{")
    assert called(monkeypatch, "train", "target=hidden", "teacher.weights=cut.safetensors", f"plan={asked}") == 2
    printed = capsys.readouterr()
    assert "facedistill: cut.safetensors is not a whole safetensors file" in printed.err
    assert printed.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["cut.safetensors"]


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["train", "-m", "runs_dir=/dev/null/runs", "rate=4,8", "init=scratch", "target=none"], "runs_dir=FOLDER"),
        (["report", "runs_dir=runs", "out=/dev/null/reports"], "out=FOLDER"),
        (["data", "data.num_identities=2", "cache_dir=/dev/null/cache"], "cache_dir=FOLDER"),
    ],
)
def test_a_folder_that_can_not_be_written_is_named_with_the_word_that_moves_it(
    words: list[str],
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not even by root."""
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, *words) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("facedistill: ")]
    assert line.startswith("facedistill: /dev/null/")
    assert "Not a directory. It belongs to the " in line
    assert word in line
