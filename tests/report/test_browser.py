"""The page in a real browser: at three widths, in light and dark, by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from records import full_report

from browser import CHROMIUM, Browser

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return full_report(tmp_path_factory.getbasetemp()) / "reports" / "index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_it_fits_the_width_without_errors(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width, dark=dark)
    assert browser.ask("document.scrollingElement.scrollWidth <= innerWidth")
    assert browser.ask("document.querySelectorAll('figure svg').length") == 19
    background = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(21, 23, 26)" if dark else "rgb(255, 255, 255)")
    assert browser.picture().startswith(b"\x89PNG")
    assert browser.complaints == []


LUMINANCE = """(() => {
  const parse = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = rgb => rgb.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (!color.endsWith(', 0)')) return parse(color);
    }
  };
  let worst = 21;
  for (const element of document.querySelectorAll('h1, h2, h3, p, dt, dd, a, td, th, li, strong, caption, summary, '
      + 'figcaption, button, code, pre')) {
    if (!element.textContent.trim() || element.closest('.skip')) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    worst = Math.min(worst, (a + .05) / (b + .05));
  }
  return worst;
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_can_be_read(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, 1280, dark=dark)
    assert browser.ask(LUMINANCE) >= 4.5


def test_a_table_is_sorted_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    table = "document.querySelector('#table-2 + .scroll table.sortable')"
    numbers = f"[...{table}.tBodies[0].rows].map(row => row.cells[3].dataset.value).filter(Boolean).map(Number)"
    state = f"{table}.tHead.rows[1].cells[3].getAttribute('aria-sort')"
    before = browser.ask(numbers)
    assert browser.ask(state) is None
    browser.ask(f"{table}.tHead.rows[1].cells[3].querySelector('button').focus()")
    browser.press("Enter", 13, "\r")
    assert browser.ask(state) == "ascending"
    assert browser.ask(numbers) == sorted(before)
    assert before != sorted(before)
    browser.press(" ", 32, " ")
    assert browser.ask(state) == "descending"
    assert browser.ask(numbers) == sorted(before, reverse=True)


def test_a_number_leads_to_its_runs(browser: Browser, page: Path) -> None:
    browser.open(page, 768)
    browser.ask("document.querySelector('#table-1 + .scroll table a').click()")
    found = "document.getElementById(location.hash.slice(1))"
    assert browser.ask(f"{found}.className") == "cell"
    browser.call("Runtime.evaluate", expression="new Promise(done => setTimeout(done, 50))", awaitPromise=True)
    assert browser.ask(f"[...{found}.querySelectorAll('details')].every(one => one.open)")
    assert browser.ask(f"{found}.querySelector('pre').textContent").startswith("facedistill train rate=")


def test_headings_are_in_order_and_pictures_have_words(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    levels = browser.ask("[...document.querySelectorAll('h1,h2,h3,h4')].map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert browser.ask("[...document.querySelectorAll('img')].every(one => one.alt.length > 10)")
    assert browser.ask("[...document.querySelectorAll('[role=img]')].every(one => one.ariaLabel.length > 10)")
    assert browser.ask("document.querySelectorAll('img').length") == 4
    assert browser.ask("[...document.querySelectorAll('table')].every(one => one.caption)")
