"""The screen of a migration and the forms of its verbs in a browser: readable, walked by keyboard, wide as a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from system_migration.errors import MigrationFailed
from tests.browser.axe import violations
from tests.browser.conftest import NewVisitor, Visitor
from tests.browser.measuring import sticking_out
from tests.browser.watching import Watch
from tests.support.databases import application_engine
from tests.web.serving import Increment, Mark, Served, make_items, served
from tests.web.test_dashboard_migration import After, Nasty

SCREENS = {
    "failed": "/m/003-nasty",
    "for real": "/m/003-nasty/start?dryRun=false",
    "not offered": "/m/002-increment/start?verb=rollback",
}
"""With odd texts in production; `test_screens` looks at all others."""


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A production in which something failed, with names and texts that are markup."""
    engine = application_engine(f"sqlite:///{tmp_path_factory.mktemp('steering') / 'items.sqlite'}")
    make_items(engine)
    with served(engine, Mark, Increment, Nasty, After, environment="production") as server:
        server.migrator.run(Increment.name)
        server.migrator.dry_run(Nasty.name)
        with suppress(MigrationFailed):
            server.migrator.run(Nasty.name)
        yield server
    engine.dispose()


def sign_in(visitor: Visitor, production: Served) -> Page:
    visitor.context.add_cookies([{"name": "session", "value": "ada-token", "url": production.url}])
    return visitor.page


@pytest.fixture
def ada(visitor: Visitor, production: Served) -> Page:
    return sign_in(visitor, production)


@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_keeps_anybody_out_and_it_fits_a_phone(ada: Page, production: Served, screen: str) -> None:
    ada.goto(f"{production.url}/migrations{SCREENS[screen]}")
    for folded in ada.locator("main details").all():
        folded.evaluate("each => each.open = true")
    assert violations(ada) == []
    assert sticking_out(ada) == []


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_the_button_says_what_the_tick_means(new_visitor: NewVisitor, production: Served, scripts: bool) -> None:
    page = sign_in(new_visitor(java_script_enabled=scripts), production)
    page.goto(f"{production.url}/migrations/m/003-nasty/start")
    expect(page.get_by_role("button", name="Dry-run 003-nasty", exact=True)).to_be_visible()
    expect(page.get_by_label(re.compile("Type its name"))).to_be_hidden()
    page.get_by_label("Dry run", exact=True).uncheck()
    expect(page.get_by_role("button", name="Run 003-nasty in production", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Dry-run 003-nasty")).to_be_hidden()
    expect(page.get_by_label(re.compile("Type its name"))).to_have_value("")


def test_what_is_wrong_is_said_first_and_leads_to_its_field(ada: Page, production: Served, watch: Watch) -> None:
    watch.expect("status of 422")
    ada.goto(f"{production.url}/migrations/m/003-nasty/start?dryRun=false")
    ada.get_by_label("Batch size").fill("many")
    ada.get_by_label("Row limit").fill("7")
    ada.get_by_role("button", name="Run 003-nasty").click()
    expect(ada.get_by_role("alert")).to_be_focused()
    ada.get_by_role("link", name="Batch size: it should be a valid integer.").click()
    expect(ada.get_by_label("Batch size")).to_be_focused()
    expect(ada.get_by_label("Batch size")).to_have_accessible_description(re.compile("it should be a valid integer"))
    expect(ada.get_by_label("Row limit")).to_have_value("7")
    assert violations(ada) == []


def test_a_stale_form_says_what_happened_meanwhile(
    new_visitor: NewVisitor, ada: Page, production: Served, watch: Watch
) -> None:
    eve = sign_in(new_visitor(), production)
    for page in (ada, eve):
        page.goto(f"{production.url}/migrations/m/001-mark/start?verb=skip")
        page.get_by_label("Reason").fill("not needed here")
    eve.get_by_role("button", name="Skip 001-mark in production").click()
    expect(eve.get_by_role("status").first).to_have_text("It was marked as not to be run here.")
    watch.expect("status of 409")
    production.migrator.acting_as("eve").reset("001-mark", "here after all")
    ada.get_by_role("button", name="Skip 001-mark in production").click()
    expect(ada.get_by_role("alert")).to_contain_text("eve reset it at")
    assert violations(ada) == []
    ada.get_by_role("link", name="Look at 001-mark as it stands now").click()
    assert urlsplit(ada.url).path == "/migrations/m/001-mark"
