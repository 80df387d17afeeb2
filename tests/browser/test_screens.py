"""Every screen in every state: readable for everybody, walked by keyboard, as wide as a phone, and without scripts."""

from __future__ import annotations

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

UNROLL = "all => all.forEach(area => area.style.maxHeight = 'none')"
ALL = pytest.mark.parametrize("screen", SCREENS, ids=[screen.name for screen in SCREENS])


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


@ALL
def test_it_keeps_nobody_out(new_visitor: NewVisitor, stage: Stage, screen: Screen) -> None:
    visitor = new_visitor()
    if screen.status != 200:
        visitor.watch.expect(f"status of {screen.status}")
    stage.show(visitor.page, screen)
    visitor.page.locator(".scroll, pre").evaluate_all(UNROLL)  # axe measures no contrast of what is scrolled away
    assert violations(visitor.page) == []
    assert sticking_out(visitor.page) == []
    names = [stop.name for stop in walk(visitor.page)]
    assert names[:2] == ["Skip to the content", "System Migration"]


@ALL
def test_it_says_the_same_without_scripts(new_visitor: NewVisitor, stage: Stage, screen: Screen) -> None:
    plain, scripted = new_visitor(java_script_enabled=False), new_visitor(timezone_id="UTC")
    said = []
    for visitor in (plain, scripted):
        if screen.status != 200:
            visitor.watch.expect(f"status of {screen.status}")
        stage.show(visitor.page, screen)
        main = visitor.page.locator("main")
        main.locator("time").evaluate_all("all => all.forEach(each => each.textContent = each.dateTime)")
        said.append(main.inner_text())
    assert said[0] == said[1]
