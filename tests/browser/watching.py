"""What must not happen in a page while a test looks elsewhere: errors, and anything asked of another host."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Request, WebError

OURS = ("127.0.0.1", "localhost", "::1")
BY_ITSELF = "/favicon.ico"
"""What the browser asks for of its own accord, perhaps when the test is over, where a page names no icon."""
WITHIN_THE_BROWSER = ("about", "blob", "data")


class Watch:
    """All that is wrong in the pages of one visitor, tabs opened later included.

    A page that breaks its Content-Security-Policy says so on the console, so that is an error here, too.
    """

    def __init__(self, context: BrowserContext, folder: Path) -> None:
        self._context, self._folder = context, folder
        self._problems: list[str] = []
        self._expected: list[str] = []
        self._listeners = {"console": self._said, "weberror": self._broke, "request": self._asked}
        for event, listener in self._listeners.items():
            context.on(event, listener)  # type: ignore[call-overload]

    def expect(self, pattern: str) -> None:
        """One error whose words match is meant to come, such as `status of 403`; that it does not is a problem."""
        self._expected.append(pattern)

    def problems(self) -> list[str]:
        """What went wrong so far, and which errors were expected in vain."""
        for page in self._context.pages:
            with suppress(Error):  # it was closed meanwhile
                page.evaluate("0")  # until it is answered, what was reported before arrives
        left, missed = list(self._problems), []
        for pattern in self._expected:
            found = next((problem for problem in left if re.search(pattern, problem)), None)
            if found is None:
                missed.append(f"expected in vain: {pattern}")
            else:
                left.remove(found)
        return left + missed

    def forget(self) -> None:
        """Hold nothing that went wrong so far against the test."""
        self._problems.clear()
        self._expected.clear()

    def stop(self) -> None:
        """Hear nothing more: the visitor is another test's from here on."""
        for event, listener in self._listeners.items():
            self._context.remove_listener(event, listener)

    def keep(self) -> Path:
        """Write what each tab shows into the folder: a picture, and the document as it is now."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for number, page in enumerate(self._context.pages):
            file = self._folder / f"tab-{number}.html"
            try:
                page.screenshot(path=file.with_suffix(".png"), full_page=True, timeout=5000)
                file.write_text(page.content(), encoding="utf-8")
            except Error as error:  # a page that hangs must not hide why the test failed
                file.write_text(f"{page.url} could not be kept: {error}", encoding="utf-8")
        return self._folder

    def _said(self, message: ConsoleMessage) -> None:
        where = str(message.location["url"])
        if message.type in ("error", "assert") and not where.endswith(BY_ITSELF):
            self._problems.append(f"console: {message.text} ({where})")

    def _broke(self, error: WebError) -> None:
        self._problems.append(f"script: {error.error}")

    def _asked(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.hostname not in OURS and address.scheme not in WITHIN_THE_BROWSER:
            self._problems.append(f"asked another host: {request.method} {request.url}")
