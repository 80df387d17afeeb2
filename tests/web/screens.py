"""What a person reads on a screen, and what its parts say to the script that keeps it fresh."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import sqlalchemy as sa

ODD = "<script>alert('x')</script> \x1b[31m \u202ekcab"
"""Markup, a terminal's escape and a mark that turns text around."""
ODD_SHOWN = "<script>alert('x')</script> \\x1b[31m \\u202ekcab"
_IGNORED = ("PRAGMA", "BEGIN", "SET ", "COMMIT", "ROLLBACK", "SHOW")


def words(page: httpx.Response | str) -> str:
    """The text of a page on one line, without its markup."""
    text = page if isinstance(page, str) else page.text
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", text)).split())


def part(page: httpx.Response, key: str) -> str:
    """The markup of one region that is kept fresh."""
    found = re.search(rf'data-live="{key}".*?(?=data-live="|</main>)', page.text, re.DOTALL)
    assert found is not None, f"no region {key}"
    return found[0]


def buttons(page: httpx.Response) -> list[str]:
    """The ids of what can be pressed to do something, in order."""
    return re.findall(r'id="verb-([a-z-]+)"', page.text)


def press(browser: httpx.Client, page: httpx.Response, verb: str) -> httpx.Response:
    """Send the form of a button with all that it brings along, and go where it leads."""
    found = re.search(rf'<form method="post" action="([^"]*/{verb})">(.*?)</form>', page.text, re.DOTALL)
    assert found is not None, f"no button {verb}"
    fields = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', found[2]))
    url = str(browser.base_url).removesuffix("/migrations/") + found[1]
    return browser.post(url, data=fields, follow_redirects=True)


def assert_harmless(page: httpx.Response) -> None:
    """Nothing that was written by others acts, in a browser or in a terminal that shows the source."""
    assert "<script>alert" not in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text


@contextmanager
def questions() -> Iterator[list[str]]:
    """The statements that this process sends to any database, without those that only frame them."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(_IGNORED):
            sent.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
