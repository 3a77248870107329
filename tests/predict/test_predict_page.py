"""The page: everything within, everything escaped, the answers as they are."""

import base64
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedistill.predict.__main__ import main
from made_exports import POINTS, SIDE, made_export

HOSTILE = "<img src=x onerror=alert(1)>&\"'.png"


class Read(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> Iterator[dict[str, str]]:
        return (attributes for name, attributes in self.tags if name == tag)


def photo(name: str, colour: tuple[int, int, int] = (200, 40, 40), seed: int = 0) -> str:
    pixels = np.random.default_rng(seed).normal(0, 30, (SIDE, SIDE, 3)) + colour
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(name)
    return name


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def page_of(*words: str) -> Read:
    assert main(["model=made", "html=page.html", *words]) == 0
    return Read(Path("page.html").read_text(encoding="utf-8"))


def check_self_contained(page: Read) -> None:
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "base", "form", "a", "video", "audio", "svg"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            assert attributes.get(name, "data:").startswith("data:")
    assert all(url.startswith("data:image/jpeg;base64,") for url in re.findall(r"url\(['\"]?([^)]*)", page.text))
    assert "http:" not in page.text
    assert "https:" not in page.text
    assert "@import" not in page.text
    policy = next(one["content"] for one in page.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_two_faces_have_their_verdict_and_nothing_from_elsewhere(here: Path) -> None:
    made_export(here / "made", name="<b>made</b>", title="<script>alert(1)</script>")
    page = page_of(photo("a.png"), photo(HOSTILE, seed=1))
    check_self_contained(page)
    assert "Same person" in page.text
    assert "Of 1,000 pairs of two people at most 1 is this similar (on 600 made pairs)." in page.text
    assert HOSTILE in page.text
    assert "<b>made</b>" in page.text
    assert "model.onnx, onnx, " in page.text
    assert "97.50 % (made pairs)" in page.text
    assert "0.600: of 1,000 pairs of two people at most 1 reaches it (on 600 made pairs)" in page.text
    images = list(page.of("img"))
    assert len(images) == 4
    assert all(len(image["alt"]) > 10 for image in images)
    assert HOSTILE in images[2]["alt"]
    seen = Image.open(io.BytesIO(base64.b64decode(images[1]["src"].partition(",")[2])))
    assert np.abs(np.asarray(seen).astype(int) - np.asarray(Image.open("a.png"))).mean() < 20


def test_bars_are_as_long_as_similarities_beside_the_threshold(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_export(here / "made")
    names = [photo("a.png"), photo("b.png", seed=1), photo("c.png", (40, 200, 40))]
    page = page_of(*names)
    rows = [line.split("│")[3:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert len(rows) == 3
    widths = [float(one["style"].removeprefix("width: ").rstrip("%")) for one in page.of("i")]
    found = [sorted((float(cell.strip(" *")) for cell in row if cell.strip()), reverse=True) for row in rows]
    assert widths == pytest.approx([max(100 * value, 0) for row in found for value in row], abs=0.6)
    assert {one["style"] for one in page.of("b")} == {"left: 60.0%"}
    classes = [one["class"] for one in page.of("li")]
    assert classes == ["same" if value >= 0.6 else "other" for row in found for value in row]


def test_without_a_threshold_there_is_no_mark_and_no_verdict(here: Path) -> None:
    made_export(here / "made", thresholds={})
    page = page_of(photo("a.png"), photo("b.png", seed=1))
    assert not list(page.of("b"))
    assert "Same person" not in page.text
    assert "none: the export was made without pairs" in page.text


def test_of_many_faces_the_nearest_are_shown(here: Path) -> None:
    made_export(here / "made")
    page = page_of(*(photo(f"{n}.png", seed=n) for n in range(15)))
    assert page.text.count("and 2 that are less similar") == 15
    assert len(list(page.of("i"))) == 15 * 12


def test_names_have_bars(here: Path) -> None:
    made_export(here / "made", kind="logits", labels=["</style><script>alert(1)</script>", "Bob\x07", "Cid"])
    page = page_of(photo("a.png", (125, 112, 100)))
    check_self_contained(page)
    assert "</style><script>alert(1)</script>" in page.text
    assert r"Bob\x07" in page.text
    widths = [float(one["style"].removeprefix("width: ").rstrip("%")) for one in page.of("i")]
    assert sum(widths) == pytest.approx(100, abs=0.2)
    assert widths == sorted(widths, reverse=True)


def test_landmarks_are_a_table(here: Path) -> None:
    made_export(here / "made", kind="landmarks")
    Image.new("RGB", (320, 320)).save("a.png")
    page = page_of("a.png")
    check_self_contained(page)
    for name, (x, y) in zip(("left eye", "right eye"), POINTS * 160 + 159.5, strict=False):
        assert re.search(rf"{name}\s*{x:.1f}\s*{y:.1f}", page.text)


def test_photos_that_were_left_out_are_on_the_page(here: Path) -> None:
    made_export(here / "made")
    (here / "broken.png").write_bytes(b"no image")
    page = page_of(photo("a.png"), photo("b.png", seed=1), "broken.png")
    assert "broken.png is not a readable image" in page.text
    assert "left out: 1 that can't be used" in page.text
