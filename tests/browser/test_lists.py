"""Held rows, history and audit in a browser: what is done in them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.support.accounts import NAME
from tests.support.hosting import account_project, serve_page

HELD = f"/m/{NAME}/held"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("lists")
    database = folder / "accounts.sqlite"
    database.touch()
    accounts = account_project(folder / "project", f"sqlite:///{database}", accounts=40, damaged=3)
    accounts.project.run("run", NAME, "--executed-by", "ada", "--yes")
    with serve_page(accounts.project) as address:
        yield address


def test_rows_are_chosen_one_by_one_or_all_at_once(page: Page, address: str) -> None:
    page.goto(address + HELD)
    page.get_by_role("checkbox").first.check()
    expect(page.get_by_text("1 chosen")).to_be_visible()
    page.get_by_role("button", name="Choose all on this page").click()
    assert page.get_by_role("checkbox", checked=True).count() == 3
    page.get_by_role("button", name="Choose none").click()
    assert page.get_by_role("checkbox", checked=True).count() == 0


def test_chosen_rows_are_tried_again_at_a_press(page: Page, address: str) -> None:
    page.goto(address + HELD)
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Retry chosen rows").click()
    page.wait_for_url("**/runs/*")
    page.goto(f"{address}/history")
    expect(page.get_by_role("cell", name="retry", exact=True)).to_be_visible()


def test_times_are_in_the_readers_zone_and_in_utc_for_who_asks(page: Page, address: str) -> None:
    page.goto(f"{address}/history")
    time = page.locator("tbody time").first
    local = time.inner_text()
    expect(page.get_by_text("Times are in your zone, Europe/Berlin.")).to_be_visible()
    page.get_by_role("button", name="Show UTC").click()
    assert time.inner_text() != local
    utc = time.get_attribute("title")
    assert utc is not None
    assert utc[11:19] in time.inner_text()
    expect(page.get_by_text("Times are in UTC.")).to_be_visible()
