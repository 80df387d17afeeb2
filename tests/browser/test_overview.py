"""The overview in a browser: readable for everybody, usable by keyboard, and as wide as a phone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.browser.axe import violations
from tests.browser.keyboard import walk
from tests.browser.measuring import sticking_out
from tests.browser.story import told
from tests.support.hosting import serve_page


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("overview")
    database = folder / "accounts.sqlite"
    database.touch()
    with told(folder / "project", f"sqlite:///{database}") as accounts, serve_page(accounts.project) as address:
        yield address


@pytest.fixture
def overview(page: Page, address: str) -> Page:
    page.goto(address)
    page.get_by_role("heading", level=1).wait_for()
    return page


def test_nothing_in_it_keeps_anybody_out(overview: Page) -> None:
    assert violations(overview) == []


def test_it_is_walked_by_keyboard(overview: Page) -> None:
    assert [stop.name for stop in walk(overview)][:2] == ["Skip to the content", "System Migration"]


def test_it_fits_a_phone(overview: Page) -> None:
    assert sticking_out(overview) == []
