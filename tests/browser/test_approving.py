"""One developer approves a dry run on the page, and another one starts it, with the keyboard and on a phone as well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import NewVisitor
from tests.browser.keyboard import walk
from tests.browser.measuring import sticking_out
from tests.browser.steering import press, state
from tests.support.databases import application_engine
from tests.web.serving import Increment, Served, make_items, served

NAME = Increment.name


@pytest.fixture
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    engine = application_engine(f"sqlite:///{tmp_path_factory.mktemp('approving') / 'items.sqlite'}")
    make_items(engine)
    with served(engine, Increment, environment="production", require_approval=True) as server:
        server.migrator.dry_run(NAME)
        yield server
    engine.dispose()


def test_one_approves_and_the_other_starts(new_visitor: NewVisitor, production: Served) -> None:
    ada, eve = arrive(new_visitor, production, "ada-token"), arrive(new_visitor, production, "eve-token")
    expect(ada.get_by_text("needed, and not given")).to_be_visible()
    ada.get_by_role("link", name="Approve…").click()
    expect(ada.get_by_role("heading", name="The dry run to approve")).to_be_visible()
    assert violations(ada) == []
    assert sticking_out(ada) == []
    assert f"Approve {NAME} in production" in [stop.name for stop in walk(ada)]
    press(ada, f"Approve {NAME} in production")
    expect(ada.get_by_text("It was approved: another developer can start it")).to_be_visible()
    assert violations(ada) == []
    assert sticking_out(ada) == []
    expect(eve.get_by_role("button", name="Withdraw the approval")).to_be_visible()  # the page has heard of it
    start(ada)
    expect(ada.get_by_role("alert")).to_contain_text("ada approved it, and cannot start it as well")
    start(eve)
    expect(state(eve)).to_have_text("SUCCEEDED")


def arrive(new_visitor: NewVisitor, production: Served, token: str) -> Page:
    visitor = new_visitor()
    if token == "ada-token":
        visitor.watch.expect("status of 409")
    visitor.context.add_cookies([{"name": "session", "value": token, "url": production.url}])
    visitor.page.goto(f"{production.url}/migrations/m/{NAME}")
    return visitor.page


def start(page: Page) -> None:
    page.get_by_role("link", name="Start…").click()
    page.get_by_label("Dry run", exact=True).uncheck()
    page.get_by_label("Type its name").fill("production")
    press(page, f"Run {NAME} in production")
