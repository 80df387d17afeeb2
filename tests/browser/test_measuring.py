"""The measures see a slow page, and one that is too wide."""

from __future__ import annotations

import time

from playwright.sync_api import Page

from tests.browser.measuring import first_paint, sticking_out
from tests.browser.serving import document, served

STYLE = "body { margin: 0 } .wide { width: 400px } .scrolling { overflow-x: auto }"


def test_the_first_paint_waits_for_the_stylesheet_each_time(page: Page) -> None:
    asked: list[float] = []

    class Slow(dict[str, str]):
        def get(self, path: str, default: str | None = None) -> str | None:  # type: ignore[override]
            if path == "/page.css":
                asked.append(time.monotonic())
                time.sleep(0.1)  # how slow it is, not a wait for anything
            return super().get(path, default)

    with served(Slow({"/": document("<p>Text</p>"), "/page.css": STYLE})) as address:
        slow = first_paint(page, address, loads=3)
    assert len(asked) == 3  # nothing came from the cache
    with served({"/": document("<p>Text</p>"), "/page.css": STYLE}) as address:
        quick = first_paint(page, address, loads=3)
    assert slow >= 100 > 0 < quick < slow


def test_what_is_too_wide_for_a_phone_is_named(page: Page) -> None:
    files = {
        "/good": document("<div class='scrolling'><p class='wide'>Text</p></div>"),
        "/bad": document("<section class='wide'><p>Text</p></section>"),
        "/page.css": STYLE,
    }
    with served(files) as address:
        page.goto(f"{address}/good")
        assert sticking_out(page) == []
        page.goto(f"{address}/bad")
        assert sticking_out(page) == ['<section class="wide"></section> ends at 400 of 360']
        assert sticking_out(page, 400) == []
    assert page.viewport_size == {"width": 1280, "height": 720}
