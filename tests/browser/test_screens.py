"""Every screen in every state: readable for everybody, walked by keyboard, as wide as a phone, and without scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Page

from tests.browser import story
from tests.browser.axe import violations
from tests.browser.conftest import NewVisitor
from tests.browser.keyboard import walk
from tests.browser.measuring import sticking_out
from tests.browser.screenshots import SCREENS, Screen
from tests.support.hosting import serve_page


@dataclass(frozen=True)
class Stage:
    """Where the page is served over the story's database, and the story's runs."""

    address: str
    runs: dict[str, dict[str, str]]

    def show(self, page: Page, screen: Screen) -> None:
        page.goto(self.address + screen.path.format_map(self.runs))
        screen.reach(page)
        page.get_by_role("heading", level=1).wait_for()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("screens")
    database = folder / "accounts.sqlite"
    database.touch()
    with story.told(folder / "project", f"sqlite:///{database}") as accounts:
        with serve_page(accounts.project) as address:
            yield Stage(address, story.runs(accounts.project))


@pytest.mark.parametrize("screen", SCREENS, ids=[screen.name for screen in SCREENS])
def test_it_keeps_nobody_out(new_visitor: NewVisitor, stage: Stage, screen: Screen) -> None:
    scripted, plain = new_visitor(), new_visitor(java_script_enabled=False)
    for visitor in (scripted, plain):
        if screen.status != 200:
            visitor.watch.expect(f"status of {screen.status}")
        stage.show(visitor.page, screen)
    assert _said(plain.page) == _said(scripted.page)
    assert violations(scripted.page) == []
    assert sticking_out(scripted.page) == []
    names = [stop.name for stop in walk(scripted.page)]
    assert names[:2] == ["Skip to the content", "System Migration"]


def _said(page: Page) -> str:
    """All that the screen says, but for times, which scripts put into the reader's zone, and rates, which go on."""
    main = page.locator("main")
    main.locator("time").evaluate_all("all => all.forEach(each => each.textContent = each.dateTime)")
    return re.sub(r"[\d,.]+ rows/s(, about [^\n]* left)?", "", main.inner_text())
