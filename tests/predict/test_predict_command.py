"""The command: verdicts, names, landmarks, matrices, files of embeddings, and all that it refuses."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedistill.data.files.detector import is_there
from facedistill.predict.__main__ import main
from facedistill.runs.exported import LABELS, Exported
from made_exports import POINTS, SIDE, arcface, made_export, means

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photo(name: str, colour: tuple[int, int, int] = (200, 40, 40), seed: int = 0, noise: int = 30) -> str:
    """A coloured photo with noise, as a PNG of the side that the model takes."""
    pixels = np.random.default_rng(seed).normal(0, noise, (SIDE, SIDE, 3)) + colour
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(name)
    return name


def seen(name: str) -> np.ndarray:
    return means(np.asarray(Image.open(name)))


def cosine(one: str, other: str) -> float:
    a, b = seen(one), seen(other)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_two_photos_are_compared(here: Path, capsys: Printed) -> None:
    made_export(Path("made"))
    a, b, c = photo("a.png"), photo("b.png", seed=1), photo("c.png", (40, 200, 40))
    assert main(["model=made", a, b]) == 0
    same = capsys.readouterr().out
    assert same == (
        f"same person: similarity {cosine(a, b):.3f}, threshold 0.600. Of 1,000 pairs of two people at most 1 is this "
        "similar (on 600 made pairs).\n"
    )
    assert main(["model=made", a, c]) == 0
    different = capsys.readouterr().out
    assert different.startswith(
        f"different people: similarity {cosine(a, c):.3f}, threshold 0.600. Of 100 pairs of one"
    )
    assert main(["model=made", a, b, "threshold=1"]) == 0
    assert capsys.readouterr().out.startswith("different people: ")
    assert main(["model=made", a, a, "threshold=1"]) == 0
    assert capsys.readouterr().out == "same person: similarity 1.000, threshold 1.000.\n"
    assert main(["model=made", a, b, "far=1e-2"]) == 0
    assert "threshold 0.400" in capsys.readouterr().out


def test_without_a_threshold_the_similarity_alone_is_said(here: Path, capsys: Printed) -> None:
    made_export(Path("made"), thresholds={})
    a, b = photo("a.png"), photo("b.png", seed=1)
    assert main(["model=made", a, b]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"similarity {cosine(a, b):.3f}. The export has no threshold")
    assert "pairs=FOLDER" in printed
    assert not printed.startswith(("same", "different"))


def test_more_photos_are_a_matrix(here: Path, capsys: Printed) -> None:
    made_export(Path("made"))
    names = [photo("a.png"), photo("b.png", seed=1), photo("[red]c.png", (40, 200, 40))]
    assert main(["model=made", *names, "out=drawn.png"]) == 0
    printed = capsys.readouterr().out
    rows = [line.split("│")[2:-1] for line in printed.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows] == names
    for i, row in enumerate(rows):
        for j, cell in enumerate(row[1:]):
            value = cosine(names[i], names[j])
            assert cell.strip() == ("" if i == j else f"{value:z.2f}{'*' * (value >= 0.6)}")
    assert "*: the same person, similarity 0.600 or more" in printed
    with Image.open("drawn.png") as drawn:
        assert len(drawn.convert("RGB").getcolors(2**24) or ()) > 500


def test_many_photos_are_each_beside_the_most_similar(here: Path, capsys: Printed) -> None:
    made_export(Path("made"))
    names = [photo(f"set/{n:02}.png", (200, 40, 40) if n % 2 else (40, 200, 40), seed=n) for n in range(14)]
    assert main(["model=made", "set"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, line in zip(names, lines, strict=False):
        best = max((other for other in names if other != name), key=lambda other: cosine(name, other))
        assert line == f"{name}: most similar {best}, {cosine(name, best):.3f}, same person"
    assert lines[-1] == "42 of 91 pairs are of the same person, 0.600 or more"


def test_names_are_ranked(here: Path, capsys: Printed) -> None:
    made_export(Path("made"), kind="logits", labels=["Ann Lee", "evil\x1b[2Jname", "Cid"])
    assert main(["model=made", photo("a.png", (125, 112, 100), noise=3), "out=drawn.jpg"]) == 0
    printed = capsys.readouterr().out
    logits = seen("a.png").reshape(3, 16).mean(1) * 10
    shares = np.exp(logits) / np.exp(logits).sum()
    ranked = sorted(zip(shares, ["Ann Lee", r"evil\x1b[2Jname", "Cid"], strict=True), reverse=True)
    assert printed.splitlines()[0] == "a.png: " + ", ".join(f"{name} {100 * share:.1f} %" for share, name in ranked)
    assert Image.open("drawn.jpg").format == "JPEG"


def test_landmarks_are_in_pixels_of_the_photo_and_drawn_there(here: Path, capsys: Printed) -> None:
    made_export(Path("made"), kind="landmarks")
    Image.new("RGB", (400, 300), "white").save("wide.png")
    assert main(["model=made", "wide.png", "out=drawn.png"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("wide.png: left eye ")
    found = np.array([part.split()[-2:] for part in line.partition(": ")[2].split(", ")], float)
    expected = POINTS * 200 + [200, 150] - 0.5  # the whole of it, padded to 400 × 400
    assert np.abs(found - expected).max() < 0.051
    drawn = np.asarray(Image.open("drawn.png"))
    scale = drawn.shape[1] / 400
    for x, y in (expected + 0.5) * scale - 0.5:
        assert tuple(drawn[round(y), round(x)]) == (255, 210, 63)
    assert tuple(drawn[round(150 * scale), round(30 * scale)]) == (255, 255, 255)


def test_embeddings_of_a_folder_are_a_file_without_pickles(here: Path, capsys: Printed) -> None:
    made_export(Path("made"))
    names = [photo(f"set/{n % 3}/{n:02}.png", seed=n) for n in range(40)] + [photo("set/Jos\u00e9.png", seed=99)]
    Path("set/broken.png").write_bytes(b"no image")
    Path("set/notes.txt").write_text("no image either")
    assert main(["model=made", "set", "embed=faces.npz"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "faces.npz: 41 embeddings of 48 values; 1 photo left out\n"
    assert "set/broken.png is not a readable image" in printed.err
    assert "left out: 1 that can't be used" in printed.err
    with np.load("faces.npz", allow_pickle=False) as file:
        assert sorted(file) == ["embedding", "face", "path"]
        assert file["embedding"].dtype == np.float32
        assert sorted(file["path"].tolist()) == sorted(names)
        np.testing.assert_allclose(file["embedding"], [seen(name) for name in file["path"]], rtol=1e-4, atol=1e-4)
        assert file["face"].shape == (41, 5, 2)
        assert np.isnan(file["face"]).all()
    assert sorted(path.name for path in here.iterdir()) == ["faces.npz", "made", "set"]


def test_embeddings_go_to_parquet_or_it_is_said_what_that_needs(here: Path, capsys: Printed) -> None:
    made_export(Path("made"))
    names = [photo(f"{n}.png", seed=n) for n in range(3)]
    status = main(["model=made", *names, "embed=faces.parquet"])
    try:
        import pyarrow.parquet as pq
    except ImportError:
        assert status == 2
        assert "Parquet needs pyarrow: pip install pyarrow, or embed=faces.npz" in capsys.readouterr().err
        return
    table = pq.read_table("faces.parquet")
    assert table.column("path").to_pylist() == names
    expected = [seen(name) for name in names]
    np.testing.assert_allclose(table.column("embedding").to_pylist(), expected, rtol=1e-4, atol=1e-4)


def test_what_can_not_be_used_among_many_is_left_out_and_said(here: Path, capsys: Printed) -> None:
    made_export(Path("made"))
    Path("broken.png").write_bytes(b"no image")
    assert main(["model=made", photo("a.png"), "broken.png", photo("b.png", seed=1)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("same person: ")
    assert printed.err.count("broken.png") == 1
    assert main(["model=made", "a.png", "broken.png", "broken.png"]) == 2
    assert "one of the photos can be used, and two are needed" in capsys.readouterr().err


def test_a_path_may_look_like_a_word(here: Path, capsys: Printed) -> None:
    made_export(Path("made"))
    names = [photo("out=a.png"), photo("fram=2.png", seed=1)]
    assert main(["model=made", *names]) == 0
    assert not Path("a.png").exists()
    assert capsys.readouterr().out.startswith("same person")


def refusals() -> list[tuple[str, str]]:
    return [
        ("a.png b.png", "model= is missing"),
        ("model=made", "no photo is named"),
        ("model=made gone.png b.png", "gone.png does not exist"),
        ("model=gone a.png b.png", "gone does not exist: model= names the folder of an export"),
        ("model=made/model.onnx a.png b.png", "which is wanted as a whole: model=made"),
        (
            "model=a.png a.png b.png",
            "is a file, and an export is a folder that says what its model takes: facedistill ex",
        ),
        ("model=run a.png b.png", "run is a run and no export: facedistill export run=run format=onnx"),
        ("model=empty a.png b.png", "empty is no export (no contract.json): facedistill export run=RUN format=onnx"),
        ("model=made a.png b.png treshold=0.3", "Did you mean threshold=0.3?"),
        ("model=made a.png b.png size=3", "size=3: there is no such word, and no such file"),
        ("model=made a.png b.png threshold=much", "threshold=much must be a number from -1 to 1"),
        ("model=made a.png b.png threshold=nan", "threshold=nan must be a number"),
        ("model=made a.png b.png far=2", "far=2 must be a number from 0 to 1"),
        ("model=made a.png b.png far=0", "far=0: made has thresholds for 0.001, 0.01"),
        ("model=made a.png b.png far=0.1 threshold=0.3", "leave one of them out"),
        ("model=made a.png b.png threads=0", "threads=0 must be a whole number from 1 to"),
        ("model=made a.png b.png threads=10000000000000", "must be a whole number from 1 to"),
        ("model=made a.png b.png framed=yes", "framed=yes: choices are true, false"),
        ("model=made a.png b.png format=tflite", "format=tflite: choices are onnx"),
        ("model=made a.png b.png out=x.gif", "out=x.gif must name a file that ends in .png or .jpg or .jpeg"),
        ("model=made a.png b.png html=page", "html=page must name a file that ends in .html"),
        ("model=made a.png b.png out=a.png", "is one of the photos, and would be overwritten"),
        ("model=made a.png b.png embed=x.npz out=x.png", "embed= keeps no photos to show"),
        ("model=made a.png b.png out=/dev/null/x.png", "out=FILE"),
        ("model=made a.png", "a.png is one photo: name a second to compare it with, or embed=FILE.npz"),
        ("model=made empty", "empty: no image is in it, nor in a folder below"),
        ("model=made a.png broken.png", "broken.png is not a readable image"),
        ("model=made a.png empty.png", "empty.png is empty"),
        ("model=made allbad", "none of the photos can be used"),
        ("model=made allbad embed=x.npz", "none of the photos can be used"),
        ("model=named a.png threshold=0.3", "threshold= is for models that give embeddings, and named gives names"),
        ("model=named a.png embed=x.npz", "embed= is for models that give embeddings"),
        ("model=named broken.png", "broken.png is not a readable image"),
    ]


@pytest.mark.parametrize(("words", "said"), refusals())
def test_what_can_not_be_is_one_line_that_says_what_to_type(words: str, said: str, here: Path, capsys: Printed) -> None:
    made_export(Path("made"))
    made_export(Path("named"), kind="logits")
    photo("a.png"), photo("b.png")
    for folder in ("empty", "run", "allbad"):
        Path(folder).mkdir()
    Path("run/record.json").write_text("{}")
    for name in ("broken.png", "allbad/1.png"):
        Path(name).write_bytes(b"no image")
    Path("empty.png").touch()
    before = sorted(here.rglob("*"))
    assert main(words.split()) == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1].startswith("facedistill: ")
    assert said in printed.err.splitlines()[-1]
    if "allbad" not in words:
        assert len(printed.err.splitlines()) == 1
    if "out=/dev" not in words:
        assert printed.out == ""
    assert sorted(here.rglob("*")) == before


def test_names_that_were_changed_or_are_too_few_are_refused(here: Path, capsys: Printed) -> None:
    photo("a.png")
    folder = made_export(Path("made"), kind="logits", labels=["only one"])
    assert main(["model=made", "a.png"]) == 2
    assert "made has 1 names for 3 people: export it again" in capsys.readouterr().err
    (folder / LABELS).write_text("a\nb\nc\n")
    assert main(["model=made", "a.png"]) == 2
    assert "labels.txt was changed after it was proven" in capsys.readouterr().err


def test_too_many_photos_are_refused_before_one_is_opened(here: Path, capsys: Printed) -> None:
    made_export(Path("made"))
    Path("set").mkdir()
    for number in range(1001):
        Path(f"set/{number}.png").touch()
    assert main(["model=made", "set"]) == 2
    assert "at most 1,000 photos are compared, and these are 1,001: embed=FILE.npz" in capsys.readouterr().err
    assert main(["model=made", "set", "html=x.html"]) == 2
    assert "show at most 60 photos, and these are 1,001" in capsys.readouterr().err


def test_names_of_files_are_printed_without_side_effects(here: Path, capsys: Printed) -> None:
    made_export(Path("made"))
    names = [photo(f"{n}\x1b[31m\u202e.png", seed=n) for n in range(3)]
    assert main(["model=made", *names]) == 0
    assert main(["model=made", *names, "embed=faces.npz"]) == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "\u202e" not in printed.out + printed.err
    assert r"0\x1b[31m\u202e.png" in printed.out


def test_what_a_contract_says_is_printed_without_side_effects(here: Path, capsys: Printed) -> None:
    folder = made_export(Path("made"))
    exported = Exported.read(folder)
    replace(exported, judged=replace(exported.judged, of_thresholds="pairs\x1b[2J")).write(folder)
    assert main(["model=made", photo("a.png"), photo("b.png", seed=1)]) == 0
    assert capsys.readouterr().out.endswith("(on pairs\\x1b[2J).\n")


@pytest.fixture
def people(real_faces: Path) -> Path:
    if not is_there():
        pytest.skip("needs facedistill[photos]")
    return real_faces / "lfw" / "images"


def test_real_faces_are_found_and_counted(here: Path, people: Path, capsys: Printed) -> None:
    made_export(Path("made"), framing=arcface(40, SIDE))
    blair = str(people / "Tony_Blair" / "Tony_Blair_0001.jpg")
    two = str(people / "George_W_Bush" / "George_W_Bush_0018.jpg")
    Image.new("RGB", (120, 120), "grey").save("wall.png")
    assert main(["model=made", blair, "wall.png"]) == 2
    assert capsys.readouterr().err.startswith("facedistill: wall.png: no face was found")
    assert main(["model=made", blair, two, "wall.png", "embed=faces.npz"]) == 0
    printed = capsys.readouterr()
    assert f"{two} shows 2 faces: the largest is taken" in printed.err
    assert "left out: 1 without a face" in printed.err
    with np.load("faces.npz") as file:
        assert file["path"].tolist() == [blair, two]
        assert np.isfinite(file["face"]).all()
        assert (file["face"].min(), file["face"].max()) > (20, 20)
    assert main(["model=made", "wall.png", blair, "framed=true"]) == 0


HEAVY = ("torch", "pandas", "matplotlib", "hydra", "albumentations", "timm", "omegaconf", "scipy", "onnx")


@pytest.mark.parametrize("looks", [False, True], ids=["whole photos", "faces"])
def test_nothing_heavy_is_imported(looks: bool, here: Path, request: pytest.FixtureRequest) -> None:
    if looks:
        folder = request.getfixturevalue("people") / "Tony_Blair"
        names = [str(folder / f"Tony_Blair_000{number}.jpg") for number in (1, 2)]
    else:
        names = [photo("a.png"), photo("b.png", seed=1)]
    made_export(Path("made"), framing=arcface(40, SIDE) if looks else None)
    words = ["facedistill", "predict", "model=made", *names, "out=drawn.png", "html=page.html"]
    code = (
        f"import sys\nsys.argv = {words!r}\nfrom facedistill.__main__ import main\nassert main() == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert Path("drawn.png").stat().st_size > 1000


def test_a_contract_with_another_framing_is_refused(here: Path, capsys: Printed) -> None:
    folder = made_export(Path("made"))
    text = (folder / "contract.json").read_text()
    (folder / "contract.json").write_text(text.replace('"whole"', '"magic"'))
    assert Exported.read(folder).framing.kind == "magic"
    assert main(["model=made", photo("a.png"), photo("b.png")]) == 2
    assert "framed by magic" in capsys.readouterr().err
