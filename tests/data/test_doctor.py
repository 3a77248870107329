"""``facedistill data``: what it prints about good, incomplete and broken data sets, and its exit status."""

import io
import os
import pickle
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedistill.config.compose import compose_config
from facedistill.data import doctor
from facedistill.data.__main__ import main
from facedistill.data.files.alignment import ARCFACE_TEMPLATE
from facedistill.data.sources.source import build_source, is_test_sample
from facedistill.errors import DataError
from facedistill.runs.plan import check_data, plan
from writers import PEOPLE, SHOTS, encoded_faces, write_folders, write_records, write_tsv

FACES = encoded_faces()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Roots are relative: the tests have words in common, and those are composed once."""
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit status and output, with any number of spaces as one."""
    status = main([*words, "cache_dir=cache", "image.resize=32", "image.crop=28"])
    printed = capsys.readouterr()
    return status, re.sub(r"(?<=\S) +", " ", printed.out + printed.err)


def test_a_good_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folders(tmp_path / "my faces", FACES)
    status, said = run(capsys, "data=identity_folders", f"data.root={root}")
    assert status == 0
    assert f"data=identity_folders: folders in {root}" in said
    assert f" images {PEOPLE * SHOTS}\n" in said
    assert f" identities {PEOPLE}\n" in said
    assert f" images per identity {SHOTS} to {SHOTS}, median {SHOTS}\n" in said
    assert f"10-19 {'█' * 30} {PEOPLE} identities" in said or f"10-12 {'█' * 30} {PEOPLE} identities" in said
    assert f" image sizes 32×32 ({PEOPLE * SHOTS})\n" in said
    assert " broken 0 every image was decoded\n" in said
    faces = build_source(compose_config(["data=identity_folders", f"data.root={root}"]).data).faces(32, Path("cache"))
    assert f" to train on {len(faces.train)} {len(faces.test)} to test on\n" in said
    command = re.search(r"\n +(facedistill train .*)\n", said)
    assert command is not None
    assert compose_config(shlex.split(command[1])[2:]).data["root"] == str(root)


def test_names_that_are_not_text_are_shown_and_the_command_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folders(tmp_path / os.fsdecode(b"Jos\xe9\x1b[31m"), FACES)
    (root / "a\x1b]0;b\x07").mkdir()
    (root / "a\x1b]0;b\x07" / "empty.jpg").touch()
    stdout = io.TextIOWrapper(io.BytesIO(), "ascii", "strict")
    monkeypatch.setattr("sys.stdout", stdout)
    words = ["data=identity_folders", f'data.root="{root}"', "image.resize=32", "image.crop=28"]
    assert main([*words, "cache_dir=cache"]) == 1
    stdout.seek(0)
    said = stdout.buffer.read().decode("ascii")
    assert "\x1b" not in said
    assert "Jos\\xe9\\x1b[31m/a\\x1b]0;b\\x07/empty.jpg is empty" in said
    (command,) = re.findall(r"facedistill data (.*)", said)
    typed = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True).stdout
    assert [os.fsdecode(word) for word in typed.split(b"\0")[:-1]] == [
        *words,
        "cache_dir=cache",
        "scale=photos",
        "data.on_error=skip",
    ]


def test_the_contact_sheet_has_a_row_per_identity(capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folders(Path("faces"), FACES)
    assert run(capsys, "data=identity_folders", f"data.root={root}", "sheet=sheet.png")[0] == 0
    sheet = np.asarray(Image.open("sheet.png"))
    assert sheet.shape == (PEOPLE * 34, doctor.COLUMNS * 34, 3)
    shown = [FACES[row * SHOTS + shot] for row in range(PEOPLE) for shot in (0, SHOTS - 1)]
    for number, face in enumerate(shown):
        image = np.asarray(Image.open(root / face.identity / face.file))
        top, left = number // 2 * 34, number % 2 * (doctor.COLUMNS - 1) * 34
        np.testing.assert_array_equal(sheet[top : top + 32, left : left + 32], image)


def test_counts_are_compared_with_the_published_ones(capsys: pytest.CaptureFixture[str]) -> None:
    root = write_records(Path("casia"), FACES)
    status, said = run(capsys, "data=casia_webface", f"data.root={root}")
    assert status == 0
    assert f"RecordIO in {root / 'train.rec'}" in said
    assert re.search(rf" images {PEOPLE * SHOTS} 490,575 fewer than InsightFace's, 490,623\n", said)
    assert re.search(rf" identities {PEOPLE} 10,568 fewer than InsightFace's, 10,572\n", said)


def test_published_counts_that_are_met_or_exceeded() -> None:
    published = {"A": [48, 4], "B": [1000, 50]}
    assert [re.sub(" +", " ", line) for line in doctor.count_lines(48, 4, published)] == [
        " images 48 A",
        " identities 4 A",
    ]
    more = [re.sub(" +", " ", line) for line in doctor.count_lines(1200, 40, published)]
    assert more == [" images 1,200 200 more than B, 1,000", " identities 40 10 fewer than B, 50"]
    assert [re.sub(" +", " ", line) for line in doctor.count_lines(7, 0, {})] == [" images 7"]


@pytest.mark.parametrize("form", ["folders", "records", "tsv"])
def test_a_broken_set_and_how_to_continue(capsys: pytest.CaptureFixture[str], form: str) -> None:
    faces = [face._replace(content=face.content[:60]) if i % 6 == 5 else face for i, face in enumerate(FACES)]
    write = {"folders": write_folders, "records": write_records}
    root = write[form](Path(form), faces) if form != "tsv" else write_tsv(Path("a.tsv"), faces)
    status, said = run(capsys, "data=ms_celeb_1m", f"data.root={root}")
    assert status == 1
    assert " broken 8 every image was decoded\n" in said
    assert said.count("is not a readable image") == 5
    assert "… and 3 more" in said
    assert {"folders": "person 0/005.png", "records": "train.rec, key 6", "tsv": "a.tsv, line 6"}[form] in said
    again = re.search(r"\n +(facedistill data .*)\n", said)
    assert again is not None
    status, said = run(capsys, *shlex.split(again[1])[2:])
    assert status == 0
    assert "data.on_error=skip" in said


def test_a_missing_image_counts_as_broken(capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folders(Path("faces"), FACES)
    (root / "person 1" / "lost.png").symlink_to("nowhere.png")
    (root / "person 9").mkdir()
    status, said = run(capsys, "data=identity_folders", f"data.root={root}")
    assert status == 1
    assert " broken 0 every" in said
    assert " names or lines at fault 1\n" in said
    assert "It can't be trained on as it is: mend what is named above, or get it again. Or leave it out:" in said
    assert "lost.png: No such file or directory" in said
    assert " folders without images 1\n" in said


def test_images_without_a_line_of_landmarks_are_left_out_by_all_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folders(tmp_path / "faces", FACES)
    numbers = " ".join(f"{value:.2f}" for value in (ARCFACE_TEMPLATE * 32 / 112).ravel())
    lines = [f"{face.identity}/{face.file} {numbers}" for face in FACES]
    (root / "points.txt").write_text("\n".join(lines[2:]))
    words = ["data=identity_folders", f"data.root={root}", "data.alignment=similarity", "data.landmarks=points.txt"]
    status, said = run(capsys, *words)
    assert status == 1
    assert " broken 0 every" in said
    assert " names or lines at fault 2\n" in said
    assert said.count("points.txt has no line for") == 2
    again = printed_command(said)
    assert again[-1] == "data.on_error=skip"
    with pytest.raises(DataError, match=r"points\.txt has no line for .*data\.on_error=skip"):
        check_data(plan([*words, "cache_dir=cache", "image.resize=32", "image.crop=28"]))
    assert main(again) == 0
    check_data(plan(printed_command(capsys.readouterr().out)))


def test_images_of_people_with_few_of_them_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    less = [face for face in FACES if face.identity != "person 0"] + FACES[:5]
    root = write_folders(tmp_path / "faces", less)
    status, said = run(capsys, "data=identity_folders", f"data.root={root}", "data.min_images=6")
    assert status == 0
    assert " identities below min images 1 with 5 images\n" in said


def test_what_can_not_be_examined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["data=casia_webface", f"data.root={tmp_path / 'nowhere'}"],
        ["data=casia_webface"],
        ["data=casia_web"],
        ["data=synthetic", "check=some"],
        ["data=synthetic", "pack=yes"],
    ):
        status, said = run(capsys, *words)
        assert status == 2
        assert said.startswith("facedistill: ")
        assert "Traceback" not in said
    assert "choices are true, false" in said


def printed_command(said: str) -> list[str]:
    """The words of the one command that the doctor says to type next."""
    commands = re.findall(r"\n +facedistill (?:train|data) (.*)\n", said)
    assert len(commands) == 1, said
    return shlex.split(commands[0])


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        ([], 0, ["rate=4", "init=full", "target=soft"]),
        (["task=classify", "rate=8"], 0, ["task=classify", "rate=8"]),
        (["task=verify", "task.batch_size=8"], 0, ["task=verify", "task.batch_size=8"]),
        (["task=verify"], 1, "4 identities can't fill a batch of 8 × 4 images: lower task.batch_size"),
        (["task=verify", "target=hidden", "task.batch_size=16"], 0, ["target=hidden", "task.batch_size=16"]),
        (["task=align"], 1, "task=align needs landmarks, which data=identity_folders does not give"),
        (["task=classify", "rate=3"], 2, "rate=3 is no compression rate"),
        (["data.min_images=99"], 2, "min_images"),
    ],
)
def test_what_it_prints_can_be_typed(
    capsys: pytest.CaptureFixture[str], words: list[str], status: int, expected: list[str] | str
) -> None:
    root = write_folders(Path("faces"), FACES)
    said_status, said = run(capsys, "data=identity_folders", f"data.root={root}", *words)
    assert said_status == status, said
    if isinstance(expected, str):
        assert expected in said
        assert "It can be trained on" not in said
        return
    command = printed_command(said)
    assert command[-len(expected) :] == expected or set(expected) <= set(command)
    check_data(plan(command))


def test_it_needs_no_word_about_crops(capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folders(Path("faces"), FACES)
    status = main(["data=identity_folders", f"data.root={root}", "image.resize=32", "cache_dir=cache"])
    said = capsys.readouterr().out
    assert status == 0
    assert compose_config(printed_command(said)).image.crop == 28


@pytest.mark.parametrize(("words", "scale"), [([], ["scale=photos"]), (["scale=paper"], ["scale=paper"])])
def test_photographs_are_larger_than_rendered_faces_unless_another_scale_is_named(
    capsys: pytest.CaptureFixture[str], words: list[str], scale: list[str]
) -> None:
    root = write_folders(Path("faces"), FACES)
    main(["data=identity_folders", f"data.root={root}", "cache_dir=cache", *words])
    said = capsys.readouterr().out
    command = printed_command(said)
    assert [word for word in command if word.startswith("scale=")] == scale
    assert f"{compose_config(command).image.resize} px" in said


def test_people_who_keep_one_training_image_are_judged_without_broken_ones(capsys: pytest.CaptureFixture[str]) -> None:
    trained = [face for face in FACES if face.identity == "person 0" and not is_test_sample(f"person 0/{face.file}")]
    broken = [face._replace(content=b"") if face in trained[1:] else face for face in FACES]
    root = write_folders(Path("faces"), broken)
    words = ["data=identity_folders", f"data.root={root}", "task=verify", "task.batch_size=8", "data.on_error=skip"]
    status, said = run(capsys, *words)
    assert status == 1
    assert "It can't be trained on: data=identity_folders: 1 identity has one training image" in said


def test_images_on_one_side_of_the_split_can_not_be_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    training = [face for face in FACES if not is_test_sample(f"{face.identity}/{face.file}")]
    root = write_folders(Path("faces"), training)
    status, said = run(capsys, "data=identity_folders", f"data.root={root}")
    assert status == 1
    assert "one side of the 80/20 split" in said


def test_of_a_large_set_some_are_decoded(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MOST_DECODED", 10)
    faces = [face._replace(content=face.content[:60]) if i == 2 else face for i, face in enumerate(FACES)]
    root = write_folders(Path("faces"), faces)
    status, said = run(capsys, "data=identity_folders", f"data.root={root}")
    looked = re.search(rf" broken 0 (\d+) of {PEOPLE * SHOTS} images were decoded", said)
    assert status == 0
    assert looked is not None
    assert 10 <= int(looked[1]) < PEOPLE * SHOTS
    status, said = run(capsys, "data=identity_folders", f"data.root={root}", "check=all")
    assert status == 1
    assert " broken 1 every image was decoded" in said


def test_rendered_faces(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data.num_identities=3", "data.images_per_identity=9", "data.pairs_per_fold=2"]
    status, said = run(capsys, "data=synthetic", *words)
    assert status == 0
    assert "data=synthetic: synthetic faces" in said
    assert " images 27\n" in said


def test_packed_faces_and_their_checksums(capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folders(Path("faces"), FACES)
    status, said = run(capsys, "data=identity_folders", f"data.root={root}", "pack=true")
    assert status == 0
    found = re.search(r"data=packed (data.root=\S+) image.resize=32 ", said)
    assert found is not None
    status, said = run(capsys, "data=packed", found[1])
    assert status == 0
    assert " broken 0 compared with their checksums once on this machine; check=all compares them again\n" in said
    assert " broken 0 all checksums agree\n" in run(capsys, "data=packed", found[1], "check=all")[1]
    images = Path(found[1].removeprefix("data.root=")) / "images.npy"
    content = bytearray(images.read_bytes())
    content[-1] ^= 1
    images.write_bytes(content)
    status, said = run(capsys, "data=packed", found[1], "check=all")
    assert status == 2
    assert f"{images}" in said
    assert f"image {PEOPLE * SHOTS - 1}" in said


@pytest.fixture
def no_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where these rendered faces lie is not the question."""
    monkeypatch.setattr("facedistill.data.placement.is_there", lambda: False)


@pytest.mark.usefixtures("no_detector")
def test_faces_without_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folders(tmp_path / "faces", FACES)
    (root / "copy.png").write_bytes(FACES[0].content)
    (root / "album").mkdir()
    (root / "album" / "broken.jpg").write_bytes(b"<html>")
    words = ["data=photos", f"data.root={root}", "data.alignment=none", "data.test_share=0.2"]
    status, said = run(capsys, *words)
    assert status == 1
    assert f"data=photos: photographs in {root}\n" in said
    assert f" images {PEOPLE * SHOTS + 2}\n" in said
    assert " copies of other images 1\n" in said
    assert " broken 1 every image was decoded\n" in said
    assert "identities" not in said
    assert main(printed_command(said)) == 0
    said = capsys.readouterr().out
    assert "Its faces have no labels, and a recognizer can be imitated on them. With the file of yours:\n" in said
    assert "  facedistill compress teacher=recognizer.onnx contract=arcface faces=" in said
    assert "facedistill train" not in said
    sheet = np.asarray(Image.open("contact_sheet.png"))
    assert sheet.shape == (-(-PEOPLE * SHOTS // doctor.COLUMNS) * 34, doctor.COLUMNS * 34, 3)
    status, said = run(capsys, *words, "data.on_error=skip", "task=classify")
    assert status == 1
    assert "It can't be trained on: task=classify needs identities, which data=photos does not give" in said
    status, said = run(capsys, *words, "data.on_error=skip", "pack=true")
    assert status == 0
    packed = Path(re.findall(r"Its packed form is (\S+)\n$", said)[0])
    status, said = run(capsys, "data=packed", f"data.root={packed}")
    assert status == 0
    assert "a recognizer can be imitated on them.\n" in said
    assert f" images {PEOPLE * SHOTS}\n" in said


@pytest.mark.usefixtures("no_detector")
def test_photos_of_two_folders_on_one_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write_folders(tmp_path / "one", FACES[:20]), write_folders(tmp_path / "two (b)", FACES[10:])
    words = ["data=photos", f"data.root=[{one},{two}]", "data.alignment=[none,centre]", "data.test_share=0.2"]
    status, said = run(capsys, *words)
    assert status == 0
    assert f"data=photos: photographs in {one}, {two}\n" in said
    assert " copies of other images 10\n" in said
    assert "as a network sees them: 32 px, alignment none, centre\n" in said


@pytest.mark.usefixtures("no_detector")
@pytest.mark.parametrize("names", [[], ["a.jpg"]])
def test_photos_that_can_not_be_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: list[str]
) -> None:
    root = write_folders(tmp_path / "faces", [FACES[0]._replace(file=name) for name in names])
    root.mkdir(exist_ok=True)
    status, said = run(capsys, "data=photos", f"data.root={root}", "data.alignment=centre")
    assert status == (1 if names else 2)
    assert (
        "one side of the split with data.test_share=0.05" if names else f"data.root={root}: no image is in it"
    ) in said


def test_a_set_of_pairs_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cfp_fp.bin").write_bytes(pickle.dumps(([face.content for face in FACES], [True, False] * 12)))
    status, said = run(capsys, "data=cfp_fp", f"data.root={tmp_path}")
    assert status == 1
    assert "data=cfp_fp: 24 pairs, 12 of them of one person\n" in said
    assert f"facedistill evaluate protocol=cfp_fp root={tmp_path} run=" in said
    assert np.asarray(Image.open("contact_sheet.png")).shape == (10 * 34, doctor.COLUMNS * 34, 3)


@pytest.mark.parametrize("kind", [True, False])
def test_pairs_of_one_kind_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: bool) -> None:
    (tmp_path / "cfp_fp.bin").write_bytes(pickle.dumps(([face.content for face in FACES], [kind] * 24)))
    status, said = run(capsys, "data=cfp_fp", f"data.root={tmp_path}")
    assert status == 1
    assert f"data=cfp_fp: 24 pairs, {24 * kind} of them of one person\n" in said
    assert np.asarray(Image.open("contact_sheet.png")).shape == (5 * 34, doctor.COLUMNS * 34, 3)


@pytest.mark.parametrize("words", [[], ["task=spoof"]])
def test_what_shows_live_faces_and_attacks_is_for_a_task_that_tells_them_apart(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = run(capsys, "data=synthetic_spoof", "data.num_people=5", "data.images=1", *words)
    assert status == 0, said
    assert "It can be trained on. Next:" in said
    assert "task=spoof" in said.splitlines()[-1]
    counts = re.search(r"images (\d+)\n +attack (\d+)\n +live (\d+)\n +not used (\d+) of people", said)
    sides = re.search(r"to train on (\d+) (\d+) to test on", said)
    assert counts
    assert sides
    images, attacks, live, unused = map(int, counts.groups())
    assert images == attacks + live == unused + sum(map(int, sides.groups()))
    assert "identit" not in said
    status, said = run(capsys, "data=synthetic_spoof", "data.num_people=5", "data.images=1", "task=classify")
    assert status == 1
    assert "task=classify needs identities, which data=synthetic_spoof does not give" in said


def test_faces_by_latents_are_for_imitation(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = run(capsys, "data=latent", "data.faces_per_round=8", "data.test_faces=4")
    assert status == 0, said
    assert "to train on 8 4 to test on" in said
    assert "Its faces have no labels, and a recognizer can be imitated on them." in said
