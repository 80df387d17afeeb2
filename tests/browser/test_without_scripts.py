"""All that can be done on the page is done by its plain forms, in a browser that runs no script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewVisitor
from tests.browser.steering import press
from tests.support.databases import application_engine
from tests.support.host import wait_for
from tests.web.serving import ONCE, PATIENCE, Increment, Mark, Served, changes, gated, make_items, served

pytestmark = pytest.mark.databases("sqlite")


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = application_engine(database_url)
    make_items(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def server(engine: sa.Engine) -> Iterator[Served]:
    with served(engine) as server:
        yield server


@pytest.fixture
def page(new_visitor: NewVisitor, server: Served) -> Page:
    visitor = new_visitor(java_script_enabled=False)
    visitor.context.add_cookies([{"name": "session", "value": "ada-token", "url": server.url}])
    return visitor.page


def reload_until(page: Page, server: Served, name: str, status: str) -> None:
    """Show the migration as soon as it stands like this, as somebody does who reloads."""

    def stands() -> bool:
        known = server.migrator.show(name).status
        return known.status == status and known.held_by is None

    wait_for(stands, PATIENCE, f"{name} to be {status}")
    page.goto(f"{server.url}/migrations/m/{name}")
    expect(page.locator("[data-live=state] .badge").first).to_have_text(status)


def ask(page: Page, verb: str, button: str, reason: str = "") -> None:
    """Go to a verb's form, and send it."""
    page.get_by_role("link", name=verb).click()
    if reason:
        page.get_by_label("Reason").fill(reason)
    press(page, button)


def run_for_real(page: Page, name: str, verb: str, **fields: str) -> None:
    page.get_by_role("link", name=verb).click()
    page.get_by_label("Dry run", exact=True).uncheck()
    for label, value in fields.items():
        page.get_by_label(label.replace("_", " "), exact=True).fill(value)
    press(page, f"Run {name} in staging")


def test_a_migration_in_one_transaction(page: Page, server: Served) -> None:
    name = Mark.name
    reload_until(page, server, name, "PENDING")
    ask(page, "Skip…", f"Skip {name} in staging", "not needed")
    reload_until(page, server, name, "SKIPPED")
    ask(page, "Reset…", f"Reset {name} in staging", "needed after all")
    reload_until(page, server, name, "PENDING")
    ask(page, "Dry run…", f"Dry-run {name}")
    reload_until(page, server, name, "PENDING")
    run_for_real(page, name, "Start…")
    reload_until(page, server, name, "COMPLETED")
    page.get_by_role("link", name="Roll back…").click()
    page.get_by_label("Dry run", exact=True).uncheck()
    press(page, f"Roll back {name} in staging")
    wait_for(lambda: server.migrator.show(name).status.status == "ROLLED_BACK", PATIENCE, "the rollback")
    kinds = [run.kind for run in server.migrator.history()]
    assert kinds == ["rollback", "run", "dry-run"]


def test_a_migration_in_batches(page: Page, server: Served, engine: sa.Engine) -> None:
    name = Increment.name
    with gated() as gate:
        reload_until(page, server, name, "PENDING")
        run_for_real(page, name, "Start…", Batch_size="4", Workers="1")
        assert gate.reached.wait(PATIENCE)
        press(page, "Pause")
        expect(page.get_by_role("status").first).to_contain_text("The pause was asked for")
        press(page, "Take back the pause")
        expect(page.get_by_role("status").first).to_contain_text("The pause was taken back")
        press(page, "Pause")
        gate.opened.set()
        reload_until(page, server, name, "PAUSED")
    ask(page, "Cancel…", f"Cancel the run of {name} in staging")
    reload_until(page, server, name, "FAILED")
    run_for_real(page, name, "Run again…")
    reload_until(page, server, name, "COMPLETED")
    page.get_by_role("link", name="Look at all 1 row").or_(page.get_by_role("link", name="unlucky")).first.click()
    page.get_by_role("checkbox").check()
    press(page, "Retry chosen rows")
    reload_until(page, server, name, "COMPLETED")
    press(page, "Verify")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Verification of")
    assert changes(engine) == ONCE
