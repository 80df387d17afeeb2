"""The machine's Chromium, headless, without anything that it does of its own accord."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from tests.support.requirements import required_program

QUIET = (
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
READER: dict[str, Any] = {
    "locale": "en-GB",
    "timezone_id": "Europe/Berlin",  # never UTC, so a time that is not turned into the reader's shows
    "reduced_motion": "reduce",
    "service_workers": "block",
}
"""Who reads the pages, wherever the tests run."""
PATIENCE = 20_000.0
"""Milliseconds after which whatever is waited for does not come. Never reached in a test that passes."""


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser of our own, with a profile that is thrown away. Where there is none, the test ends here.

    While it is there, this thread counts as running an event loop: `asyncio.run` works again when it is closed.
    """
    executable = os.environ.get("CHROMIUM") or required_program("chromium", "chromium")
    as_root = ("--no-sandbox",) if os.geteuid() == 0 else ()  # which Chromium refuses to be with its sandbox
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=[*QUIET, *as_root])
        try:
            yield browser
        finally:
            browser.close()


def visitor(browser: Browser, **options: Any) -> BrowserContext:
    """Somebody who opens pages: with cookies and a cache of their own, both empty. `options` are the browser's."""
    context = browser.new_context(**{**READER, **options})
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)  # which has a patience of its own
    return context
