"""The page stays quick and small: with very many migrations, runs and batches, and however long it is left open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import CDPSession, Page, expect

from system_migration import RunOptions
from system_migration.store import tables
from tests.browser.measuring import first_paint
from tests.browser.test_following import INCREMENT, NAME
from tests.support.command import Project, make_project
from tests.support.databases import application_engine
from tests.support.hosting import page_host
from tests.support.workload import prepare
from tests.web.screens import questions
from tests.web.serving import Served, make_items, served
from tests.web.test_dashboard_overview import fill, many
from tests.web.test_dashboard_run import leave_a_million_batches

QUESTIONS = 5
MIGRATIONS, WITH_RUNS, RUNS = 500, 400, 25


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = application_engine(database_url)
    make_items(engine)
    yield engine
    engine.dispose()


def assert_cheap(page: Page, server: Served, path: str) -> None:
    """It costs few questions. How soon it is painted is told, not judged: that depends on who else uses the machine."""
    page.context.add_cookies([{"name": "session", "value": "ada-token", "url": server.url}])
    url = f"{server.url}/migrations{path}"
    page.goto(url)
    print(f"first paint of {path or 'the overview'}: {first_paint(page, url):.0f} ms")
    page.goto("about:blank")  # which ends its stream, that asks as well
    with server.browser(follow_redirects=True) as client, questions() as asked:
        assert client.get(path).status_code == 200
    assert len(asked) <= QUESTIONS, "\n\n".join(asked)


@pytest.mark.databases("sqlite", "postgresql")
def test_the_overview_of_very_many_is_cheap(page: Page, engine: sa.Engine) -> None:
    """500 migrations, and 10,000 runs of 400 of them."""
    first, *others = [many(number) for number in range(1, MIGRATIONS + 1)]
    with served(engine, first, *others) as server:
        server.migrator.run(first.name, RunOptions(allow_scan=True))
        fill(engine, [other.name for other in others[:WITH_RUNS]], RUNS)
        assert_cheap(page, server, "")
        expect(page.locator("html")).to_be_visible()


@pytest.mark.databases("sqlite", "postgresql")
def test_a_run_of_a_million_batches_is_cheap(page: Page, engine: sa.Engine) -> None:
    with served(engine) as server:
        assert_cheap(page, server, f"/runs/{leave_a_million_batches(engine, server)}")


# Left open

LINES, AT_ONCE = 10_000, 2_000
GROWTH = 8 << 20
HEAP_GROWTH = 1 << 20


@pytest.fixture
def project(database_url: str, tmp_path: Path) -> Project:
    project = make_project(tmp_path / "project", database_url)
    prepare(project, ("002_increment", INCREMENT), open_gate=False)
    return project


@pytest.mark.databases("sqlite")
def test_ten_thousand_events_leave_no_trace_in_memory(page: Page, project: Project) -> None:
    with page_host(project) as host, project.start("run", NAME, "--yes", "--workers", "1") as runner:
        project.wait_at("8", runner)
        (run,) = project.json("history")
        page.goto(f"{host.url}/migrations/runs/{run['id']}")
        for said in range(-2 * AT_ONCE, 0, AT_ONCE):
            _say(page, project, run["id"], said)
        session = page.context.new_cdp_session(page)
        before = _resident(host.running.process.pid), _heap(session)
        for said in range(0, LINES, AT_ONCE):
            _say(page, project, run["id"], said)
        after = _resident(host.running.process.pid), _heap(session)
        page.goto("about:blank")  # before the server ends its stream, which is an error to the browser
    print(
        f"10,000 events: server {before[0] >> 10} to {after[0] >> 10} KiB, page {before[1] >> 10} to {after[1] >> 10}"
    )
    assert after[0] - before[0] < GROWTH
    assert after[1] - before[1] < HEAP_GROWTH


def _say(page: Page, project: Project, run_id: str, first: int) -> None:
    """Have the run say some lines, as its runner writes them, and wait until the page shows the last one."""
    engine = application_engine(project.url)
    with engine.begin() as connection:
        now = connection.scalar(sa.select(tables.run.c.started_at).where(tables.run.c.id == run_id))
        lines = range(first, first + AT_ONCE)
        connection.execute(
            sa.insert(tables.log),
            [{"run_id": run_id, "at": now, "level": "INFO", "message": f"line {line} of many"} for line in lines],
        )
    engine.dispose()
    expect(page.locator(".lines li").last).to_contain_text(f"line {first + AT_ONCE - 1} of many")


def _resident(process: int) -> int:
    """Bytes of memory that the process has now."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))


def _heap(session: CDPSession) -> int:
    """Bytes that the page's scripts hold on to."""
    session.send("HeapProfiler.collectGarbage")
    used: int = session.send("Runtime.getHeapUsage")["usedSize"]
    return used
