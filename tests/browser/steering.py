"""What an operator does on the page, in the words that they read there."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from tests.support.accounts import NAME
from tests.support.hosting import Person

PROGRESS = "[data-live=progress] progress"


def sign_in(page: Page, person: Person) -> None:
    page.get_by_label("Username or e-mail").fill(person.username)
    page.get_by_label("Password").fill(person.password)
    page.get_by_role("button", name="Sign in").click()


def open_form(page: Page, address: str, *, allowed: int) -> None:
    """The form of a real start, filled with what lets a test stop the run at its gates."""
    page.goto(f"{address}/migrations/m/{NAME}/start")
    fill(page, allowed=allowed)


def fill(page: Page, *, allowed: int) -> None:
    """Untick the dry run, and say how many rows may be held, and that all is done in batches of 20, one by one."""
    page.get_by_label("Dry run", exact=True).uncheck()
    for label, value in (("Batch size", 20), ("Workers", 1), ("Held rows allowed", allowed)):
        page.get_by_label(label, exact=True).fill(str(value))


def press(page: Page, name: str) -> None:
    """Press the button of this name, and wait for the page it leads to."""
    with page.expect_navigation():
        page.get_by_role("button", name=name).click()


def state(page: Page) -> Locator:
    """What a screen says first about a run or a migration: RUNNING, for example."""
    return page.locator("[data-live=state] .badge").first


def rows_done(page: Page) -> float:
    """How far the bar is."""
    found: float = page.locator(PROGRESS).evaluate("bar => bar.position < 0 ? 0 : bar.value")
    return found


def wait_for_more(page: Page, than: float) -> None:
    """Wait until the bar is further than that, without asking for anything."""
    script = "([bar, than]) => document.querySelector(bar)?.value > than"
    page.wait_for_function(script, arg=[PROGRESS, than])


def expect_held(page: Page, rows: int) -> None:
    expect(page.locator("h1 .count")).to_have_text(str(rows))
    expect(page.locator("table.rows tbody tr")).to_have_count(rows)


def expect_would_be_held(report: Locator, rows: int) -> None:
    expect(report.locator(".tiles div").filter(has_text="Would be held").locator("dd")).to_have_text(str(rows))
