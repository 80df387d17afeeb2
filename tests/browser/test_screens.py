"""Every screen in every state: readable for everybody, walked by keyboard, as wide as a phone, and without scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import chromium, story
from tests.browser.axe import violations
from tests.browser.conftest import WATCHES, NewVisitor, Visitor
from tests.browser.keyboard import walk
from tests.browser.measuring import sticking_out
from tests.browser.screenshots import SCREENS, Screen
from tests.browser.watching import Watch
from tests.support.hosting import serve_page

WITHOUT_ZONES = """main => {
  for (const time of main.querySelectorAll('time')) time.textContent = time.dateTime;
  return main.innerText;  // in one step: a script may put the times back into the reader's zone at any moment
}"""
ALL = pytest.mark.parametrize("screen", SCREENS, ids=[screen.name for screen in SCREENS])


@dataclass(frozen=True)
class Stage:
    """Where the page is served over the story's database, and the story's runs."""

    address: str
    runs: dict[str, dict[str, str]]

    def show(self, reader: Visitor, screen: Screen) -> None:
        page = reader.page
        if screen.status != 200:
            reader.watch.expect(f"status of {screen.status}")
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


@dataclass(frozen=True)
class Readers:
    """Somebody who opens one screen after the other, and somebody whose browser runs no scripts."""

    scripted: Visitor
    plain: Visitor


@pytest.fixture(scope="module")
def tabs(browser: Browser) -> Iterator[list[Page]]:
    """A tab of each for all screens: the process of a new one begins by loading and compiling everything."""
    contexts = [chromium.visitor(browser), chromium.visitor(browser, java_script_enabled=False)]
    yield [context.new_page() for context in contexts]
    for context in contexts:
        context.close()


@pytest.fixture
def readers(tabs: list[Page], request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Readers]:
    """Both of them, watched during this test."""
    watches = request.node.stash.setdefault(WATCHES, [])
    watches += [Watch(tab.context, tmp_path / f"reader-{number}") for number, tab in enumerate(tabs)]
    yield Readers(*(Visitor(tab.context, tab, watch) for tab, watch in zip(tabs, watches, strict=True)))
    for watch in watches:
        watch.stop()


@ALL
def test_it_keeps_nobody_out(readers: Readers, stage: Stage, screen: Screen) -> None:
    scripted, plain = readers.scripted, readers.plain
    for reader in (scripted, plain):
        stage.show(reader, screen)
    assert _said(plain.page) == _said(scripted.page)
    assert violations(scripted.page) == []
    assert sticking_out(scripted.page) == []


@ALL
def test_it_is_walked_by_keyboard(new_visitor: NewVisitor, stage: Stage, screen: Screen) -> None:
    """In a new tab each: in one that was walked before, Tab does not always leave the document at its end."""
    visitor = new_visitor()
    stage.show(visitor, screen)
    names = [stop.name for stop in walk(visitor.page)]
    assert names[:2] == ["Skip to the content", "System Migration"]


def _said(page: Page) -> str:
    """All that the screen says, but for times, which scripts put into the reader's zone, and rates, which go on."""
    text: str = page.locator("main").evaluate(WITHOUT_ZONES)
    return re.sub(r"[\d,.]+ rows/s(, about [^\n]* left)?", "", text)
