"""The page in a real browser: at two widths, in light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import CHROMIUM, Browser
from facedistill.predict.__main__ import main
from made_exports import SIDE, made_export

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("pages")
    for seed, name in enumerate(["a", "<script>alert(1)<script>", "a-name-without-any-blank" * 8]):
        pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(top / f"{name}.png") if "/" not in name else None
    photos = sorted(map(str, top.glob("*.png")))
    assert len(photos) == 3
    for kind in ("embedding", "logits", "landmarks"):
        folder = made_export(top / kind, kind=kind)
        assert main([f"model={folder}", *photos, f"html={top / kind}.html"]) == 0
    return {kind: top / f"{kind}.html" for kind in ("embedding", "logits", "landmarks")}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_the_width_without_errors(browser: Browser, pages: dict[str, Path], width: int, dark: bool) -> None:
    for page in pages.values():
        browser.open(page, width, dark=dark)
        assert browser.ask("document.scrollingElement.scrollWidth <= innerWidth")
        assert browser.ask("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
        assert browser.ask("document.images.length") == 6
        background = browser.ask("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(21, 23, 26)" if dark else "rgb(255, 255, 255)")
    assert browser.complaints == []


def test_bars_marks_and_faces_are_to_be_seen(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["embedding"], 1280)
    boxes = browser.ask(
        "[...document.querySelectorAll('.track')].map(track => { const all = track.getBoundingClientRect(), "
        "bar = track.querySelector('i'), mark = track.querySelector('b').getBoundingClientRect(); "
        "return [bar.getBoundingClientRect().width / all.width, parseFloat(bar.style.width) / 100, "
        "(mark.left - all.left) / all.width, mark.height]; })"
    )
    assert len(boxes) == 6
    for shown, said, mark, height in boxes:
        assert shown == pytest.approx(said, abs=0.02)
        assert mark == pytest.approx(0.6, abs=0.02)
        assert height > 10
    faces = "[...document.querySelectorAll('.face')].map(one => getComputedStyle(one).backgroundImage.slice(0, 21))"
    assert set(browser.ask(faces)) == {'url("data:image/jpeg;'}
