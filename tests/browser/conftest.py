"""Fixtures for tests in a browser: one Chromium, and in it a watched visitor for each test.

A test fails on an error in any of its pages, whatever it looks for; `watch.expect` is for those that are meant. When it
fails, its tabs are kept as pictures and documents, and the failure says where.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser import chromium
from tests.browser.watching import Watch
from tests.support.hosting import Accounts, account_project

WATCHES = pytest.StashKey[list[Watch]]()


@dataclass(frozen=True)
class Visitor:
    """Somebody with cookies of their own, a first tab, and what goes wrong in all of their tabs."""

    context: BrowserContext
    page: Page
    watch: Watch

    def new_tab(self) -> Page:
        return self.context.new_page()


NewVisitor = Callable[..., Visitor]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The one browser. It ends with these tests, because no others can use `asyncio.run` while it is there."""
    with chromium.launched() as browser:
        yield browser


@pytest.fixture
def new_visitor(browser: Browser, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewVisitor]:
    """Each call is somebody else, a second operator for example. Options are the browser's: `java_script_enabled`."""
    watches = request.node.stash.setdefault(WATCHES, [])
    with ExitStack() as stack:

        def arrive(**options: Any) -> Visitor:
            context = chromium.visitor(browser, **options)
            stack.callback(context.close)
            watch = Watch(context, tmp_path / f"visitor-{len(watches)}")
            watches.append(watch)
            return Visitor(context, context.new_page(), watch)

        yield arrive


@pytest.fixture
def visitor(new_visitor: NewVisitor) -> Visitor:
    return new_visitor()


@pytest.fixture
def page(visitor: Visitor) -> Page:
    """An empty tab of somebody who was never here."""
    return visitor.page


@pytest.fixture
def watch(visitor: Visitor) -> Watch:
    """What goes wrong in `page`, and in the tabs beside it."""
    return visitor.watch


@pytest.fixture
def accounts(database_url: str, tmp_path: Path) -> Accounts:
    """A project with 400 accounts to migrate, three of them damaged, on each database in turn.

    `@pytest.mark.databases("sqlite", "postgresql")` says which; `serve_host(accounts.project)` serves it.
    """
    return account_project(tmp_path / "project", database_url, damaged=3)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Judge the pages as a part of the test, while they can still be seen."""
    watches = pyfuncitem.stash.get(WATCHES, [])
    try:
        result = yield
        problems = [problem for watch in watches for problem in watch.problems()]
        assert not problems, "\n".join(["wrong in the browser:", *problems])
        return result
    except (Exception, pytest.fail.Exception) as error:
        for watch in watches:
            error.add_note(f"the page is kept in {watch.keep()}, and went wrong in {watch.problems() or 'nothing'}")
        raise
