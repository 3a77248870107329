"""An export is whole or not there: what is killed, refused, full or asked for twice, with formats made for it."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from facedistill.errors import ConfigError, DataError, DiskError, RunError, WeightsError
from facedistill.export import make
from facedistill.export.format import Format, Images, Session
from facedistill.export.make import Wish, export
from facedistill.export.network import Deployed
from facedistill.export.subject import Subject
from facedistill.runs.exported import CARD, CONTRACT, LABELS, LICENCES, Exported
from facedistill.runs.run import Run
from facedistill.system.files import held
from made_runs import trained

Moment = Callable[[str], None]


class Pickled(Format):
    """The network itself in a file, whose answers are multiplied with what its variant says."""

    file = "a.bin"
    written: ClassVar[list[str]] = []
    moment: ClassVar[Moment | None] = None
    answers: ClassVar[Callable[[np.ndarray, str], np.ndarray]]

    def write(self, network: Deployed, path: Path, faces: Images, variant: str) -> None:
        assert path.name == self.file
        assert len(faces) > 0
        path.write_bytes(b"half")
        Pickled.written.append(f"{self.file} {variant}".strip())
        if Pickled.moment is not None:
            Pickled.moment(self.file)
        torch.save((network, variant), path)

    def load(self, path: Path, threads: int) -> Session:
        network, variant = torch.load(path, weights_only=False)

        def answer(images: Images) -> np.ndarray:
            found: np.ndarray = network(torch.from_numpy(images)).numpy()
            return Pickled.answers(found, f"{self.file} {variant}".strip())

        return answer


class Second(Pickled):
    file = "b.bin"
    beside = ("b.weights",)

    def write(self, network: Deployed, path: Path, faces: Images, variant: str) -> None:
        super().write(network, path, faces, variant)
        path.with_name("b.weights").write_bytes(b"weights of b")


class Quantized(Pickled):
    file = "q.bin"
    exact = False
    calibrates = True
    variants = ("coarse", "fine", "finest")


@pytest.fixture(autouse=True)
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    kinds = {"first": Pickled(), "second": Second(), "quantized": Quantized()}
    monkeypatch.setattr(make, "named", lambda name: kinds[name])
    monkeypatch.setattr(make, "latency", lambda answer: (answer() is not None) and (1.0, 2.0))
    Pickled.written, Pickled.moment, Pickled.answers = [], None, lambda found, which: found
    yield Pickled.written
    Pickled.moment = None


@pytest.fixture(scope="module")
def subject(runs: dict[str, Run]) -> Subject:
    return subject_of(runs["classify"])


def subject_of(run: Run) -> Subject:
    return Subject.of_run(run.directory, [f"cache_dir={run.config.cache_dir}"])


def wish(folder: Path, *formats: str, **changes: Any) -> Wish:
    return replace(Wish(formats or ("first", "second"), folder, "facedistill export run=x"), **changes)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


WHOLE = {"a.bin", "b.bin", "b.weights", CARD, CONTRACT, LABELS, LICENCES}


def test_an_export_is_all_its_files_and_nothing_else(subject: Subject, tmp_path: Path) -> None:
    exported = export(subject, wish(tmp_path / "e"))
    assert names(tmp_path / "e") == WHOLE
    assert names(tmp_path) <= {"e", ".e.lock"}
    assert Exported.read(tmp_path / "e") == exported
    for name in ("first", "second"):
        model = exported.checked(tmp_path / "e", name)
        assert (model.score, model.median_ms, model.p95_ms) == (exported.judged.score, 1, 2)
        assert model.cosine == pytest.approx(1)
        assert model.difference == 0
    assert set(exported.files[1].beside) == {"b.weights"}
    assert exported.files[1].bytes == sum((tmp_path / "e" / name).stat().st_size for name in ("b.bin", "b.weights"))
    (tmp_path / "e" / "b.weights").write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"b\.weights was changed"):
        exported.checked(tmp_path / "e", "second")


def killed(act: Callable[[], object]) -> None:
    """Do it in a process that does not come to its end."""
    if (child := os.fork()) == 0:
        try:
            act()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, "it was to be killed"


def at(file: str) -> Moment:
    def kill(written: str) -> None:
        if written == file:
            os._exit(9)

    return kill


@pytest.mark.parametrize("old", [False, True], ids=["new", "over an old one"])
@pytest.mark.parametrize(
    ("moment", "left"), [("first", ["a.bin", "b.bin"]), ("second", ["b.bin"]), ("card", []), ("contract", [])]
)
def test_what_is_killed_leaves_nothing_or_the_old_one_and_goes_on(
    subject: Subject, tmp_path: Path, written: list[str], old: bool, moment: str, left: list[str]
) -> None:
    folder = tmp_path / "e"
    if old:
        export(subject, wish(folder, "first"))
        before = (folder / CONTRACT).read_bytes()

    def act() -> None:
        if moment in ("card", "contract"):
            end = lambda *words: os._exit(9)  # noqa: E731
            make.card, Exported.write = (end, Exported.write) if moment == "card" else (make.card, end)  # type: ignore
        else:
            Pickled.moment = at({"first": "a.bin", "second": "b.bin"}[moment])
        export(subject, wish(folder))

    killed(act)
    if old:
        assert (folder / CONTRACT).read_bytes() == before
        assert Exported.read(folder).checked(folder, "first")
    else:
        assert not folder.exists()
    written.clear()
    export(subject, wish(folder))
    assert written == left, "what was proven is not made again"
    assert names(folder) == WHOLE
    assert names(tmp_path) <= {"e", ".e.lock"}
    assert [model.format for model in Exported.read(folder).files] == ["first", "second"]


def test_killed_between_the_old_and_the_new_one_nothing_is_lost(subject: Subject, tmp_path: Path) -> None:
    folder = tmp_path / "e"
    export(subject, wish(folder, "first"))

    def act() -> None:
        rename = Path.rename

        def once(path: Path, to: Path) -> Path:
            return os._exit(9) if to == folder else rename(path, to)  # type: ignore[func-returns-value]

        Path.rename = once  # type: ignore[method-assign]
        export(subject, wish(folder))

    killed(act)
    assert not folder.exists()
    export(subject, wish(folder))
    assert names(folder) == WHOLE
    assert names(tmp_path) <= {"e", ".e.lock"}


def test_what_is_asked_otherwise_or_was_damaged_is_proven_anew(
    subject: Subject, tmp_path: Path, written: list[str]
) -> None:
    def interrupted(**changes: Any) -> list[str]:
        written.clear()
        Pickled.moment = stop
        with pytest.raises(KeyboardInterrupt):
            export(subject, wish(tmp_path / "e", **changes))
        Pickled.moment = None
        return list(written)

    def stop(file: str) -> None:
        if file == "b.bin":
            raise KeyboardInterrupt

    assert interrupted() == ["a.bin", "b.bin"]
    assert interrupted() == ["b.bin"]
    assert interrupted(pixel="uint8") == ["a.bin", "b.bin"]
    assert interrupted(pixel="uint8", tolerance=1.0) == ["a.bin", "b.bin"]
    aside = tmp_path / ".e.part"
    (aside / "a.bin").write_bytes(b"other")
    assert interrupted(pixel="uint8", tolerance=1.0) == ["a.bin", "b.bin"]
    for damage in ("", "{}", "[1]", '{"key": 1}', (aside / "proof-first.json").read_text().replace('"model"', '"m"')):
        (aside / "proof-first.json").write_text(damage)
        assert interrupted(pixel="uint8", tolerance=1.0) == ["a.bin", "b.bin"]
    (aside / "model-of-another-time.onnx").write_bytes(b"")
    (aside / "tmpabc").mkdir()
    export(subject, wish(tmp_path / "e", pixel="uint8", tolerance=1.0))
    assert names(tmp_path / "e") == WHOLE


def test_a_full_disk_leaves_the_old_export_and_says_what_to_type(subject: Subject, tmp_path: Path) -> None:
    folder = tmp_path / "e"
    export(subject, wish(folder))
    before = {name: (folder / name).read_bytes() for name in names(folder)}

    def full(file: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    Pickled.moment = full
    with pytest.raises(DiskError, match=r"No space left on device.*out=FOLDER.*the same command resumes"):
        export(subject, wish(folder, pixel="uint8"))
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before


def test_an_export_replaces_the_old_one_whole(subject: Subject, tmp_path: Path, written: list[str]) -> None:
    folder = tmp_path / "e"
    export(subject, wish(folder))
    written.clear()
    export(subject, wish(folder, "first"))
    assert written == ["a.bin"], "a proof is of one call"
    assert names(folder) == WHOLE - {"b.bin", "b.weights"}


@pytest.mark.parametrize("there", ["folder", "empty folder", "file"])
def test_what_is_no_export_is_not_replaced(subject: Subject, tmp_path: Path, there: str) -> None:
    folder = tmp_path / "e"
    if there == "file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        if there == "folder":
            (folder / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"is there and is no export: name another, name=NAME or out=FOLDER"):
        export(subject, wish(folder))
    assert folder.is_file() or names(folder) == ({"thesis.txt"} if there == "folder" else set())


def test_a_second_process_waits_and_says_so(
    subject: Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if (child := os.fork()) == 0:
        with held(tmp_path / ".e.lock", "a test"):
            (tmp_path / "held").touch()
            while not (tmp_path / "go").exists():
                time.sleep(0.02)
        os._exit(0)
    while not (tmp_path / "held").exists():
        time.sleep(0.02)
    threading.Timer(1.5, (tmp_path / "go").touch).start()
    export(subject, wish(tmp_path / "e"))
    os.waitpid(child, 0)
    assert f"waiting for process {child}" in capsys.readouterr().err
    assert names(tmp_path / "e") == WHOLE


def test_a_file_that_answers_otherwise_is_refused(subject: Subject, tmp_path: Path) -> None:
    for change, said in ((1e-2, r"by up to \S+ of its largest value"), (np.nan, "by up to nan")):
        Pickled.answers = lambda found, which, change=change: found + (change if which == "b.bin" else 0)  # type: ignore[misc]
        with pytest.raises(
            WeightsError, match=rf"^b\.bin answers 37 faces otherwise .*{said}.*leave format=second out"
        ):
            export(subject, wish(tmp_path / "e"))
        assert not (tmp_path / "e").exists()


def turned(found: np.ndarray) -> np.ndarray:
    """Answers whose cosine with these is 1 / √(1 + ¼²) = 0.970."""
    across = found[:, ::-1] - found * ((found[:, ::-1] * found).sum(1) / (found**2).sum(1))[:, None]
    lengths = np.linalg.norm(found, axis=1, keepdims=True) / np.linalg.norm(across, axis=1, keepdims=True)
    changed: np.ndarray = (found + across * lengths / 4).astype(np.float32)
    return changed


@pytest.fixture
def by_likeness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are cosines with the network, so that a test knows what a file loses."""
    monkeypatch.setattr(
        make, "_judge", lambda subject, wish, data: make.LikenessJudge(list(data.val_dataloader()), "faces")
    )


@pytest.mark.usefixtures("by_likeness")
def test_a_way_that_loses_too_much_is_followed_by_the_next(
    subject: Subject, tmp_path: Path, written: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"coarse": lambda found: -found, "fine": turned, "finest": lambda found: found * 2}
    Pickled.answers = lambda found, which: changes[which.split()[1]](found)  # type: ignore[misc]
    exported = export(subject, wish(tmp_path / "e", "quantized"))
    assert written == ["q.bin coarse", "q.bin fine", "q.bin finest"]
    (model,) = exported.files
    assert model.note == (
        "finest; tried before: coarse: mean cosine -1.000 on 37 training faces · fine: 97.01, 2.99 points worse"
    )
    assert model.note in (tmp_path / "e" / CARD).read_text()
    assert "scoring q.bin" in capsys.readouterr().err
    assert model.score == pytest.approx(100)


@pytest.mark.usefixtures("by_likeness")
def test_what_always_loses_too_much_is_refused_with_what_may_help(subject: Subject, tmp_path: Path) -> None:
    Pickled.answers = lambda found, which: turned(found)  # type: ignore[misc]
    what = (
        r"^q\.bin loses more than 0\.5 points of cosine \(100\.00 by the network\): coarse: 97\.01, 2\.99 points worse"
    )
    with pytest.raises(WeightsError, match=rf"{what} · fine: .*calibrate=1024 .*tolerance=POINTS"):
        export(subject, wish(tmp_path / "e", "quantized"))
    with pytest.raises(WeightsError, match=r"loses more than 2\.9 points"):
        export(subject, wish(tmp_path / "e", "quantized", tolerance=2.9))
    assert not (tmp_path / "e").exists()
    exported = export(subject, wish(tmp_path / "e", "quantized", tolerance=3.0))
    assert [model.note for model in exported.files] == ["coarse"]


@pytest.mark.usefixtures("by_likeness")
def test_a_file_of_nan_has_no_score(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Pickled.answers = lambda found, which: found * np.nan  # type: ignore[misc]
    for hopeless in (0.9, -np.inf):
        monkeypatch.setattr(make, "HOPELESS", hopeless)
        with pytest.raises(WeightsError, match="loses more than"):
            export(subject, wish(tmp_path / "e", "quantized"))


@pytest.mark.parametrize("count", [1, 5, 1000])
def test_as_many_faces_calibrate_as_are_asked_for_and_there(
    subject: Subject, tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        Quantized,
        "write",
        lambda self, network, path, faces, variant: (
            seen.append(faces),
            Pickled.write(self, network, path, faces, variant),
        ),
    )
    exported = export(subject, wish(tmp_path / "e", "quantized", calibrate=count))
    there = min(count, 37)
    assert [faces.shape for faces in seen] == [(there, 3, 20, 20)]
    assert len(np.unique(seen[0], axis=0)) == there
    assert exported.calibration.startswith(f"{there} faces of synthetic")
    data = subject.data()
    trained = torch.cat([batch.images for batch in data.test_loader(data.faces.train)]).numpy()
    numbers = {image.tobytes() for image in (trained.astype(np.float32) - 127.5) / 127.5}
    assert {image.astype(np.float32).tobytes() for image in seen[0]} <= numbers


HOSTILE = [
    "ann\nbob",
    "\x1b[31mred",
    "-rf",
    "| a | b |",
    "  two   spaces ",
    "caf\udce9",
    "\u2028",
    "a\x85b",
    "‮evil",
    "",
]


def test_labels_are_a_line_for_each_identity_whatever_they_are_called(runs: dict[str, Run], tmp_path: Path) -> None:
    subject = subject_of(runs["classify"])
    data = subject.data()
    four = []
    for start in range(0, len(HOSTILE), 4):
        chosen = (HOSTILE * 2)[start : start + 4]
        data.faces = replace(data.faces, identities=chosen)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Subject, "data", lambda self: data)
            exported = export(subject, wish(tmp_path / "e", "first"))
        found = exported.names(tmp_path / "e")
        assert len(found) == 4
        four += found
        text = (tmp_path / "e" / LABELS).read_bytes().decode()
        assert not any(mark in text for mark in "\x1b\u2028\x85\u202e\udce9")
    assert four[:5] == ["ann bob", "\\x1b[31mred", "-rf", "| a | b |", "two spaces"]


def test_a_network_that_tells_live_faces_from_attacks_gives_classes(tmp_path: Path) -> None:
    data = ["data=synthetic_spoof", "data.num_people=5", "data.images=1"]
    run = trained(tmp_path, "task=spoof", "target=none", "rate=8", data=data)
    exported = export(subject_of(run), wish(tmp_path / "e", "first"))
    assert (exported.kind, exported.width, exported.judged.metric) == ("logits", 2, "hter")
    assert exported.judged.score == pytest.approx(run.record.metrics["hter"], abs=1e-9)
    assert exported.names(tmp_path / "e") == ["attack", "live"]
    said = (tmp_path / "e" / CARD).read_text()
    assert "half total error rate on the held-out domain of the test split of synthetic_spoof" in said
    assert "logits of 2 classes" in said
    assert "It does not tell a face from a picture of one" not in said


def test_it_names_the_recognizers_that_it_learnt_from_and_no_others(runs: dict[str, Run]) -> None:
    teacher = runs["classify"].weights
    alone = Subject.of_run(runs["classify"].directory, [f"teacher.weights={teacher}"])
    assert alone.recognizers == []
    assert subject_of(runs["embed"]).recognizers == [teacher]
    subject = subject_of(runs["embed"])
    subject.config.teachers["second"] = {"weights": "/x/second.onnx"}
    assert subject.recognizers == [teacher, Path("/x/second.onnx")]


def test_an_imitation_without_pairs_is_exported(runs: dict[str, Run], tmp_path: Path) -> None:
    """Its teacher answers the test split, and the faces of calibration are of the other one."""
    exported = export(subject_of(runs["embed"]), wish(tmp_path / "e", "quantized"))
    assert exported.judged.metric == "cosine"
    (teacher,) = exported.teacher
    assert teacher.file == "weights.safetensors"
    assert teacher.score is None


def test_an_imitation_whose_teacher_is_gone_says_how_to_name_it(runs: dict[str, Run], tmp_path: Path) -> None:
    teacher = runs["classify"].weights
    hidden = teacher.rename(tmp_path / "moved.safetensors")
    try:
        with pytest.raises(RunError, match=r"weights\.safetensors does not exist, .* teacher\.weights=FILE"):
            export(subject_of(runs["embed"]), wish(tmp_path / "e", "first"))
        moved = [f"cache_dir={runs['embed'].config.cache_dir}", f"teacher.weights={hidden}"]
        export(Subject.of_run(runs["embed"].directory, moved), wish(tmp_path / "e", "first"))
    finally:
        hidden.rename(teacher)


def test_of_no_faces_at_all_a_line_says_so(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = subject.data()
    data.faces = replace(data.faces, is_test=np.ones_like(data.faces.is_test))
    monkeypatch.setattr(Subject, "data", lambda self: data)
    with pytest.raises(DataError, match="data=synthetic has 0 faces to calibrate by and 48 to judge by"):
        export(subject, wish(tmp_path / "e", "quantized"))


def test_the_template_is_that_of_arcface_cut_as_the_network_sees_it(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The five points that InsightFace publishes, of 112 pixels."""
    published = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    aligned = SimpleNamespace(framing=("template", 1.0))
    monkeypatch.setattr("facedistill.export.subject.build_source", lambda node: aligned)
    for words, shift, scale in (([112, 112], 0, 1.0), ([128, 112], 8, 128 / 112), ([128, 128], 0, 128 / 112)):
        subject = subject_of(runs["classify"])
        image = replace(subject.config.image, resize=words[0], crop=words[1])
        subject.config = replace(subject.config, image=image)
        framing = subject.framing()
        assert framing.kind == "template"
        assert framing.resize == words[0]
        expected = (np.array(published) + 0.5) * scale - 0.5 - shift  # 0 is the centre of the first pixel
        np.testing.assert_allclose(framing.template, expected, atol=2e-4)
