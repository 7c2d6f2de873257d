"""The page in a browser: digits drawn by mouse, finger and keys are seen, images are taken, no error is logged."""

import io
import shutil
import time
from contextlib import contextmanager

import numpy as np
import pytest
from drawings import HANDS, drawing, photographed
from servers import served

pytest.importorskip("uvicorn", reason="the extra web is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url():
    with served("mnist_cnn") as (_, url):
        yield url


@contextmanager
def opened(browser, url, **more):
    """The page, which must have logged nothing in the end."""
    context = browser.new_context(**more)
    page = context.new_page()
    logged = []
    page.on("console", lambda message: logged.append(message.text))
    page.on("pageerror", lambda error: logged.append(str(error)))
    page.goto(url)
    page.wait_for_selector("body.ready")
    yield page
    context.close()
    assert logged == []


def points_of(page, digit, hand=0):
    """A digit's strokes as places on the page."""
    box = page.locator("#canvas").bounding_box()
    for stroke in HANDS[hand][digit]:
        yield [
            (box["x"] + box["width"] * (0.25 + 0.5 * x), box["y"] + box["height"] * (0.2 + 0.6 * y)) for x, y in stroke
        ]


def until(page, what):
    """Wait until something is so; the page's own waiting evaluates text, which its security policy forbids."""
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end, page.inner_text("main")
        page.wait_for_timeout(20)


def seen(page, text):
    """Wait until the page says so."""
    until(page, lambda: page.inner_text("#class") == text)


def test_a_digit_drawn_by_mouse_is_seen(browser, url):
    with opened(browser, url, viewport={"width": 1280, "height": 900}) as page:
        assert page.inner_text("h1") == "Draw a digit"
        assert page.inner_text("#class") == "?"
        for points in points_of(page, 3):
            page.mouse.move(*points[0])
            page.mouse.down()
            for point in points[1:]:
                page.mouse.move(*point)
            page.mouse.up()
        seen(page, "3")
        assert page.locator("#bars li").count() == 10
        assert page.locator("#bars li.best").inner_text().split()[0] == "3"
        assert page.locator(".map img").count() == 24
        assert page.evaluate("document.getElementById('prepared').naturalWidth") == 28
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        until(page, lambda: page.text_content("#said").startswith("3, "))  # by a screen reader
        # Two strokes are taken back one by one, then everything is cleared, and comes back.
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+z")
        seen(page, "?")
        page.keyboard.press("Control+y")
        page.keyboard.press("Control+Shift+z")
        seen(page, "3")
        page.keyboard.press("Escape")
        seen(page, "?")
        page.click("#undo")
        seen(page, "3")


def test_a_digit_drawn_by_finger_is_seen_on_a_phone(browser, url):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "color_scheme": "dark"}
    with opened(browser, url, **phone) as page:
        touch = page.context.new_cdp_session(page)
        for points in points_of(page, 5, hand=1):
            moves = [("touchMove", [each]) for each in points]
            for kind, places in [("touchStart", points[:1]), *moves, ("touchEnd", [])]:
                at = [{"x": x, "y": y} for x, y in places]
                touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
        seen(page, "5")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
        assert page.evaluate("scrollY") == 0  # the finger drew, and did not scroll
        page.tap("#clear")
        seen(page, "?")


def test_a_digit_drawn_by_keys_is_seen(browser, url):
    with opened(browser, url) as page:
        while page.evaluate("document.activeElement.id") != "canvas":
            page.keyboard.press("Tab")
        for _ in range(12):
            page.keyboard.press("ArrowUp")
        page.keyboard.press("Space")
        for _ in range(24):
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Space")
        seen(page, "1")


def test_a_photograph_is_taken_and_what_is_none_is_not(browser, url):
    with opened(browser, url) as page:
        file, blank = io.BytesIO(), io.BytesIO()
        Image.fromarray(drawing(7, 1, photographed)).save(file, "WEBP")  # which the server does not take
        Image.fromarray(np.full((90, 90), 250, np.uint8)).save(blank, "PNG")
        for name, kind, content in [("7", "image/webp", file), ("blank", "image/png", blank)]:
            page.set_input_files("#file", files=[{"name": name, "mimeType": kind, "buffer": content.getvalue()}])
            seen(page, "7" if name == "7" else "?")
        assert page.inner_text("#sentence").startswith("There is nothing drawn on it")
        page.set_input_files("#file", files=[{"name": "x.png", "mimeType": "image/png", "buffer": b"no"}])
        page.wait_for_selector("#trouble:visible")
        assert "x.png is no image" in page.inner_text("#trouble")
        page.click("#clear")
        assert page.is_visible("#canvas")


def test_a_server_that_has_ended_is_noticed(browser):
    with served("digits_cnn") as (process, url):
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("body.ready")
        process.terminate()
        process.wait(20)
        page.click("#canvas")
        page.wait_for_selector("#trouble:visible")
        assert "does not answer" in page.inner_text("#trouble")
        context.close()
