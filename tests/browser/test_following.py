"""A page that is open follows a run which another process executes, to its death and beyond."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.steering import press, rows_done, state, wait_for_more
from tests.support.command import Project, make_project
from tests.support.hosting import serve_page
from tests.support.workload import prepare

NAME = "002-increment"
LEASE_SECONDS = 1.0
INCREMENT = """
import gate

from system_migration import BatchMigration


class Increment(BatchMigration):
    name = "002-increment"
    table = "item"
    reads = ("origin", "y")
    writes = ("y",)

    def transform(self, row):
        if row.origin in (8, 15):
            gate.stop(str(row.origin))
        return {"y": row.y + 1}
"""


@pytest.fixture
def project(database_url: str, tmp_path: Path) -> Project:
    project = make_project(tmp_path / "project", database_url)
    project.environ |= {"MIGRATION_LEASE_SECONDS": str(LEASE_SECONDS)}
    prepare(project, ("002_increment", INCREMENT), open_gate=False)
    return project


@pytest.fixture
def address(project: Project) -> Iterator[str]:
    with serve_page(project) as address:
        yield address


def begin(page: Page, address: str) -> None:
    """Show the migration, on a page that will not be asked for again."""
    page.goto(f"{address}/m/{NAME}")
    expect(state(page)).to_have_text("PENDING")
    expect(page.locator("#freshness")).to_have_text("Live: this page updates itself.")
    page.evaluate("window.mark = true")


@pytest.mark.databases("sqlite", "postgresql")
def test_a_killed_runner_is_seen_within_seconds_and_its_work_is_continued_once(
    page: Page, project: Project, address: str
) -> None:
    begin(page, address)
    with project.start("run", NAME, "--yes", "--batch-size", "1", "--workers", "1") as runner:
        project.wait_at("8", runner)
        expect(state(page)).to_have_text("RUNNING")
        wait_for_more(page, 0)
        before = rows_done(page)
        run = page.context.new_page()
        run.goto(f"{address}/runs/{project.json('history')[0]['id']}")
        run.evaluate("window.mark = true")
        project.open("8")
        project.wait_at("15", runner)
        for tab in (page, run):
            wait_for_more(tab, before)
        runner.kill()
        killed = time.monotonic()
    for tab, next_step in ((page, "Continue it: the next runner goes on"), (run, "Next: continue it.")):
        expect(state(tab)).to_have_text("STALE")
        expect(tab.locator("[data-live=state]")).to_contain_text("Its runner is gone.")
        expect(tab.locator("[data-live=state]")).to_contain_text(next_step)
        assert tab.evaluate("window.mark")
    assert time.monotonic() - killed < LEASE_SECONDS * 7 / 6 + 4
    _continue(run, project)
    expect(state(page)).to_have_text("COMPLETED")
    assert page.evaluate("window.mark")


def _continue(page: Page, project: Project) -> None:
    project.open("15")
    page.get_by_role("link", name="Continue the run…").click()
    press(page, f"Run {NAME} in acceptance")
    expect(state(page)).to_have_text("SUCCEEDED")
    assert project.status(NAME)["status"] == "COMPLETED"
    assert {y - origin for origin, y in project.sql("SELECT origin, y FROM item")} == {1}
    assert len(project.json("history")) == 1  # the same run, which went on
