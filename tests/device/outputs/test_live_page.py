"""The live page as a browser shows it."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Bundle
from edgekit.device.copies import Copies
from edgekit.device.decode import Prediction
from edgekit.device.outputs.http import LivePage
from edgekit.device.picture import rgb
from edgekit.device.result import Result
from edgekit.device.running import running
from edgekit.device.stats import Stats
from edgekit.device.uri import open_output
from tests.device.outputs.browser import CHROMIUM, DRIVER, MISSING, Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING),
]

Make = Callable[..., Result]

CONTRASTS = """
  const number = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (node) => {
    const [r, g, b, a = 1] = number(getComputedStyle(node).backgroundColor);
    return a || !node.parentElement ? [r, g, b] : behind(node.parentElement);
  };
  const found = [];
  for (const node of document.querySelectorAll("main *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !node.offsetParent) continue;
    const [a, b] = [light(number(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([Number(ratio.toFixed(2)), node.textContent]);
  }
  return found.sort((a, b) => a[0] - b[0]);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as started:
        started.look(1280, 1000)
        yield started


@contextmanager
def shown_run(bundle: Bundle, *sources: str) -> Iterator[str]:
    """A loop with a live page; gives its URL."""
    ended = threading.Event()
    urls: list[str] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with (
                running([bundle], sources) as loop,
                closing(open_output("http://127.0.0.1:0", loop.copies)) as output,
            ):
                assert isinstance(output, LivePage)
                urls.append(f"http://127.0.0.1:{output.port}/")
                for result in loop:
                    output.write(result)
                    if ended.is_set():
                        break
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        while not urls and thread.is_alive():
            time.sleep(0.01)
        yield urls[0]
    finally:
        ended.set()
        thread.join()
    assert failed == []


@contextmanager
def written(page: LivePage, *makes: Callable[[int], Result]) -> Iterator[None]:
    """Writes results of our own, fifty a second, until it is left."""
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.wait(0.02):
            for make in makes:
                page.write(make(number))
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def page_at(uri: str = "http://127.0.0.1:0") -> Iterator[LivePage]:
    page = open_output(uri, Copies())
    assert isinstance(page, LivePage)
    with closing(page):
        yield page


def state(browser: Browser, word: str) -> None:
    browser.until(f"document.getElementById('state').textContent === '{word}'")


def pixel(browser: Browser, x: int, y: int) -> list[int]:
    got = browser.run(
        "const copy = document.createElement('canvas').getContext('2d');"
        f"copy.drawImage(document.getElementById('canvas'), {-x}, {-y});"
        "return Array.from(copy.getImageData(0, 0, 1, 1).data)"
    )
    return [int(value) for value in got[:3]]


def test_everything_is_shown(bundle: Bundle, browser: Browser, tmp_path: Path) -> None:
    with shown_run(bundle, "synthetic://800x600@30") as url:
        browser.open(url)
        browser.until("Number(document.getElementById('picture').dataset.number) > 5")
        browser.until("document.querySelector('#age_plot .second')?.points.length > 2")
        state(browser, "live")
        size = "const c = document.getElementById('canvas'); return [c.width, c.height]"
        assert browser.run(size) == [640, 480]
        assert max(pixel(browser, 100, 30)) > 100  # the pattern, which has colour everywhere
        text = browser.text()
        bars = browser.run(
            "return [...document.querySelectorAll('#answers li')].map((li) => [li.children[0]"
            ".textContent, parseFloat(li.children[1].textContent),"
            " parseFloat(li.querySelector('i').style.transform.match(/[\\d.]+/)[0])])"
        )
        assert {label for label, _, _ in bars} == {"red", "green", "blue"}
        assert sum(percent for _, percent, _ in bars) == pytest.approx(100, abs=0.2)
        assert [percent for _, percent, _ in bars] == sorted((b[1] for b in bars), reverse=True)
        for _, percent, scale in bars:
            assert scale * 100 == pytest.approx(percent, abs=0.1)
        fps = float(browser.run("return document.getElementById('fps').textContent"))
        assert 10 <= fps <= 33
        points = "return document.querySelector('#fps_plot .line').getAttribute('points')"
        assert len(browser.run(points).split()) >= 2
        stages = "return [...document.querySelectorAll('#stages th')].map((th) => th.textContent)"
        assert browser.run(stages) == ["capture", "wait", "prepare", "infer", "decode", "output"]
        for words in (
            "onnx fp32 · synthetic://800x600@30",
            "Bytes copied per frame",
            "1 of at most 8 viewers",
        ):
            assert words in text
        assert re.search(r"display\s+[\d,]{3,}", text)
        assert browser.run("return document.title").startswith("● ")
        browser.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 50_000
        assert browser.console() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(bundle: Bundle, browser: Browser, scheme: str) -> None:
    with shown_run(bundle, "synthetic://640x480@30") as url:
        browser.open(url)
        state(browser, "live")
        browser.until("document.querySelectorAll('#stages tr').length")
        try:
            for width in (320, 390, 768, 1024, 1920):
                browser.look(width, 900, scheme)
                over = "return document.documentElement.scrollWidth - innerWidth"
                assert browser.run(over) <= 0, width
                cut = browser.run(
                    "return [...document.querySelectorAll('main *')].filter((n) => n.clientWidth &&"
                    " n.scrollWidth > n.clientWidth + 1).map((n) => n.outerHTML.slice(0, 80))"
                )
                assert cut == [], width
            # WCAG 2.2, 1.4.3: at least 4.5 to 1. The caption's shade is an image, not a colour.
            low = [
                pair for pair in browser.run(CONTRASTS) if pair[0] < 4.5 and "frame" not in pair[1]
            ]
            assert low == []
            unnamed = (
                "return [...document.querySelectorAll('[role=img], nav, button')]"
                ".filter((n) => !n.ariaLabel && !n.textContent).length"
            )
            assert browser.run(unnamed) == 0
        finally:
            browser.look(1280, 1000)


def test_a_stall_a_lost_connection_and_the_end(browser: Browser, make_result: Make) -> None:
    with page_at() as page:
        url = f"http://127.0.0.1:{page.port}/"
        browser.open(url)
        state(browser, "waiting")
        with written(page, make_result):
            state(browser, "live")
            browser.until("Number(document.getElementById('picture').dataset.number) > 1")
            assert browser.run("return document.getElementById('message').textContent") == ""
        state(browser, "stalled")
        browser.until("/no new frame for [3-9] s/.test(document.body.innerText)")
        with written(page, make_result):
            state(browser, "live")
            browser.offline(True)
            state(browser, "connection lost")
            assert "Trying again" in browser.text()
            browser.offline(False)
            state(browser, "live")
    state(browser, "ended")
    assert "The run has ended." in browser.text()
    with page_at(url.rstrip("/")) as again, written(again, make_result):
        state(browser, "live")  # the next run at the same address
        browser.until("Number(document.getElementById('picture').dataset.number) > 1")
    browser.console()  # holds the failures that were meant


def test_the_token_leaves_the_address_bar(
    browser: Browser, make_result: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    with page_at("http://0.0.0.0:0") as page, written(page, make_result):
        printed = capsys.readouterr().err.split()[-1]
        token = printed.partition("?token=")[2]
        bare = f"http://127.0.0.1:{page.port}/"
        browser.open(bare)
        assert "this page needs its token" in browser.text()
        browser.console()
        browser.open(f"{bare}?token={token}")
        state(browser, "live")
        assert browser.run("return location.href") == bare
        assert browser.run("return document.cookie") == ""  # scripts cannot read it
        browser.open(bare)
        state(browser, "live")
        assert browser.console() == []


def test_several_viewers_and_one_too_many(browser: Browser, make_result: Make) -> None:
    with page_at("http://127.0.0.1:0?viewers=2") as page, written(page, make_result):
        url = f"http://127.0.0.1:{page.port}/"
        browser.open(url)
        with browser.window():
            browser.open(url)
            browser.until("document.body.innerText.includes('2 of at most 2 viewers')")
            with browser.window():
                browser.open(url)
                state(browser, "refused")
                browser.until("document.body.innerText.includes('2 viewers are watching')")
            browser.until("Number(document.getElementById('picture').dataset.number) > 1")
        browser.until("document.body.innerText.includes('1 of at most 2 viewers')")
        state(browser, "live")
        browser.console()


def test_streams_are_chosen_by_buttons(browser: Browser, make_result: Make) -> None:
    blue = rgb(np.full((48, 64, 3), (20, 20, 200), np.uint8))
    with page_at() as page, written(
        page, make_result, lambda number: make_result(number, blue, model="<b>other</b>")
    ):  # fmt: skip
        browser.open(f"http://127.0.0.1:{page.port}/")
        browser.until("document.querySelectorAll('nav button').length === 2")
        browser.until("Number(document.getElementById('picture').dataset.number) > 1")
        assert pixel(browser, 5, 5)[0] > 150
        browser.run("document.querySelectorAll('nav button')[1].click()")
        browser.until("document.getElementById('model').textContent === '<b>other</b>'")
        browser.until("Number(document.getElementById('picture').dataset.number) > 1")
        assert pixel(browser, 5, 5)[2] > 150
        assert browser.run("return document.querySelectorAll('main b b').length") == 0
        assert browser.console() == []


def test_labels_of_any_kind(browser: Browser, make_result: Make) -> None:
    labels = ["Ägyptische Katze", "猫", "<script>alert(1)</script>", "a" * 200]
    stats = Stats()

    def make(number: int) -> Result:
        made = make_result(number, stats=stats)
        share = tuple(Prediction(n, label, 0.25) for n, label in enumerate(labels))
        return replace(made, predictions=share)

    with page_at() as page, written(page, make):
        browser.open(f"http://127.0.0.1:{page.port}/")
        browser.until("Number(document.getElementById('picture').dataset.number) > 1")
        shown = browser.run(
            "return [...document.querySelectorAll('#answers li')]"
            ".map((li) => li.firstChild.textContent)"
        )
        assert shown == labels
        assert browser.run("return document.documentElement.scrollWidth - innerWidth") <= 0
        assert browser.console() == []
