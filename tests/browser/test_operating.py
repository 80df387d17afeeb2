"""A developer takes the host's own migration through its life in a browser, from signing in to signing out."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.browser.steering import (
    expect_held,
    expect_would_be_held,
    fill,
    press,
    rows_done,
    sign_in,
    state,
    wait_for_more,
)
from tests.support.accounts import NAME
from tests.support.hosting import Accounts, Host, account_project, serve_host

DAMAGED = 20
GATES = ("460", "600", "730")
"""Where the run waits, after the 400 of the dry run: to be watched twice, and to be followed by the second tab."""


@pytest.fixture
def accounts(database_url: str, tmp_path: Path) -> Accounts:
    return account_project(tmp_path / "project", database_url, damaged=DAMAGED)


@pytest.fixture
def host(accounts: Accounts) -> Iterator[Host]:
    with serve_host(accounts.project, {"GATES": " ".join(GATES), "MIGRATION_LEASE_SECONDS": "2"}) as host:
        yield host


@pytest.mark.databases("sqlite", "postgresql")
def test_a_migration_is_steered_from_its_rehearsal_to_its_proof(
    visitor: Visitor, accounts: Accounts, host: Host
) -> None:
    page = visitor.page
    page.goto(f"{host.url}/migrations")
    sign_in(page, accounts.developers[0])
    page.get_by_role("link", name=NAME, exact=True).click()
    expect(state(page)).to_have_text("PENDING")
    _rehearse(page)
    _start(page, accounts, host)
    _pause(page, accounts, host)
    second = visitor.new_tab()
    _resume(second, accounts, host)
    page.reload()
    expect(page.get_by_text("A later run decides where the migration stands")).to_be_visible()
    _look_at_held_rows(second, accounts)
    _verify(second)
    press(second, "Sign out")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert accounts.project.status(NAME)["verified"]


def _rehearse(page: Page) -> None:
    page.get_by_role("link", name="Dry run…").click()
    expect(page.get_by_label("Dry run", exact=True)).to_be_checked()
    page.get_by_label("Examine all rows").check()
    page.get_by_label("Held rows allowed", exact=True).fill(str(DAMAGED))
    press(page, f"Dry-run {NAME}")
    expect(state(page)).to_have_text("SUCCEEDED")
    page.reload()
    expect_would_be_held(page.get_by_role("region", name="Report", exact=True), DAMAGED)


def _start(page: Page, accounts: Accounts, host: Host) -> None:
    page.get_by_role("link", name="Start…").click()
    expect_would_be_held(page.get_by_role("region", name="Latest dry run"), DAMAGED)
    fill(page, allowed=DAMAGED)
    press(page, f"Run {NAME} in acceptance")
    page.evaluate("window.mark = 'the same document'")
    accounts.project.wait_at(GATES[0], host.running)
    wait_for_more(page, 0)
    before = rows_done(page)
    accounts.project.open(GATES[0])
    accounts.project.wait_at(GATES[1], host.running)
    wait_for_more(page, before)
    assert page.evaluate("window.mark") == "the same document"


def _pause(page: Page, accounts: Accounts, host: Host) -> None:
    press(page, "Pause")
    expect(page.get_by_role("status").first).to_have_text("The pause was asked for; the runner obeys within a batch.")
    accounts.project.open(GATES[1])
    expect(state(page)).to_have_text("PAUSED")
    page.reload()
    expect(state(page)).to_have_text("PAUSED")
    assert accounts.project.status(NAME)["status"] == "PAUSED"


def _resume(page: Page, accounts: Accounts, host: Host) -> None:
    page.goto(f"{host.url}/migrations/m/{NAME}")
    press(page, "Resume the run")
    accounts.project.wait_at(GATES[2], host.running)
    expect(state(page)).to_have_text("RUNNING")
    accounts.project.open(GATES[2])
    expect(state(page)).to_have_text("SUCCEEDED")


def _look_at_held_rows(page: Page, accounts: Accounts) -> None:
    page.locator("[data-live=progress]").get_by_role("link", name=str(DAMAGED)).click()
    expect_held(page, DAMAGED)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all as CSV").click()
    with open(download.value.path(), newline="", encoding="utf-8-sig") as file:
        exported = list(csv.reader(file))
    assert len(exported) == 1 + DAMAGED
    chip = page.get_by_role("navigation", name="By reason").get_by_role("link").nth(1)
    code, number = chip.inner_text().split()
    chip.click()
    expect(page.locator("table.rows tbody tr")).to_have_count(int(number))
    expect(page.locator("td.code").first).to_have_text(code)
    key = page.locator("table.rows tbody th").first.inner_text()
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Find").click()
    expect(page.locator("table.rows tbody tr")).to_have_count(1)
    _mend(accounts, key)
    page.get_by_role("checkbox", name=f"Choose the row {key}").check()
    press(page, "Retry chosen rows")
    expect(state(page)).to_have_text("SUCCEEDED")
    page.goto(page.url.partition("/runs/")[0] + f"/m/{NAME}/held")
    expect_held(page, DAMAGED - 1)
    expect(page.get_by_text(key)).to_have_count(0)


def _mend(accounts: Accounts, key: str) -> None:
    """Give the damaged account the password of another one."""
    good = accounts.developers[0].username
    of_good = 'SELECT password, "key" FROM "Account" WHERE username = :good'
    ((password, iv),) = accounts.project.sql(of_good, good=good)
    accounts.project.sql(
        'UPDATE "Account" SET password = :password, "key" = :iv, "passwordHash" = NULL WHERE id = :id',
        password=password,
        iv=iv,
        id=key,
    )


def _verify(page: Page) -> None:
    page.get_by_role("link", name=NAME, exact=True).first.click()
    press(page, "Verify")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Verification of")
    expect(state(page)).to_have_text("SUCCEEDED")


@pytest.mark.databases("sqlite")
def test_who_is_no_developer_sees_and_does_nothing(visitor: Visitor, accounts: Accounts, host: Host) -> None:
    page = visitor.page
    page.goto(f"{host.url}/migrations/m/{NAME}")
    visitor.watch.expect("status of 403")
    sign_in(page, accounts.user)
    expect(page.get_by_role("alert")).to_contain_text("This account is not a developer's")
    page.goto(f"{host.url}/migrations/m/{NAME}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    expect(page.get_by_text(NAME)).to_have_count(0)
