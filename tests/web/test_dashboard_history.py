"""What was done here, on the page: runs and the audit, newest first, page by page."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from system_migration import BatchMigration, MigrationFailed, Row, RowIssue, RunOptions
from tests.web.screens import ODD, ODD_SHOWN, assert_harmless, questions, words
from tests.web.serving import Increment, Mark, Served, gated, served, wait_until_ended

SLOWLY = RunOptions(batch_size=4, workers=1)


class Mended(BatchMigration):
    """Fails with an odd error until it is mended."""

    name = "003-mended"
    table = "item"
    reads = ("y",)
    writes = ("y",)
    broken = True

    def transform(self, row: Row) -> dict[str, Any]:
        if type(self).broken and row.y == 5:
            raise RowIssue("bad", ODD)
        return {"y": row.y}


@pytest.fixture
def server(items: sa.Engine) -> Iterator[Served]:
    Mended.broken = True
    with served(items, Mark, Increment, Mended) as server:
        yield server


@pytest.fixture
def ada(server: Served) -> Iterator[httpx.Client]:
    with server.browser() as client:
        yield client


def rows(page: httpx.Response) -> list[str]:
    """The rows of the page's table, in words."""
    body = re.search(r"<tbody>(.*?)</tbody>", page.text, re.DOTALL)
    return [words(row) for row in body[1].split("<tr>")[1:]] if body else []


def pages(client: httpx.Client, address: str) -> Iterator[httpx.Response]:
    following: str | None = address
    while following:
        page = client.get(following)
        assert page.status_code == 200, page.text
        yield page
        link = re.search(r'rel="next" href="/migrations([^"]*)"', page.text)
        following = html.unescape(link[1]) if link else None


@pytest.mark.databases("sqlite")
def test_where_nothing_was_done_both_say_what_to_do(ada: httpx.Client) -> None:
    assert "Nothing was run here yet. Start on the overview" in words(ada.get("/history"))
    assert "Nobody did anything here yet" in words(ada.get("/history/audit"))
    assert "This migration was not run here yet." in words(ada.get("/history?migration=001-mark"))


def test_each_attempt_is_called_what_it_was(server: Served, ada: httpx.Client) -> None:
    migrator = server.migrator.acting_as(ODD)
    migrator.run(Mark.name)
    migrator.verify(Mark.name)
    migrator.rollback(Mark.name)
    migrator.dry_run(Mended.name)
    with pytest.raises(MigrationFailed):
        migrator.run(Mended.name, SLOWLY)
    Mended.broken = False
    migrator.retry(Mended.name, RunOptions(accept_code_change=True))
    page = ada.get("/history")
    assert_harmless(page)
    kinds = [re.search(r"(retry|dry-run|rollback|verify|run) (SUCCEEDED|FAILED)", row) for row in rows(page)]
    assert [kind and kind[0] for kind in kinds] == [
        *("retry SUCCEEDED", "run FAILED", "dry-run SUCCEEDED"),
        *("rollback SUCCEEDED", "verify SUCCEEDED", "run SUCCEEDED"),
    ]
    assert all(ODD_SHOWN in row for row in rows(page))
    assert len(rows(ada.get(f"/history?migration={Mended.name}"))) == 3


def test_the_audit_says_who_did_what(server: Served, ada: httpx.Client) -> None:
    migrator = server.migrator.acting_as("grace")
    migrator.run(Increment.name, SLOWLY)
    migrator.reset(Increment.name, f"done by mistake\n{ODD}")
    page = ada.get("/history/audit")
    assert_harmless(page)
    newest, completed, started = rows(page)[:3]
    assert f"002-increment reset it done by mistake {ODD_SHOWN} grace" in newest
    assert "completed it verified · 1 row held grace" in completed
    assert "started a run was PENDING · batch size 4 · workers 1 grace" in started
    assert re.search(r'href="/migrations/runs/[0-9a-f-]{36}">started a run', page.text)
    assert rows(ada.get("/history/audit?migration=001-mark")) == []


def test_a_run_that_goes_is_seen_as_it_goes(server: Served, ada: httpx.Client) -> None:
    with gated(9) as gate, server.client() as api:
        started = api.post(f"/run/{Increment.name}", params={"batchSize": 4, "workers": 1})
        assert gate.reached.wait(30)
        (row,) = rows(ada.get("/history"))
        gate.opened.set()
        wait_until_ended(
            api, started.json()["runs"][0]["id"] if "runs" in started.json() else started.json()["run"]["id"]
        )
    assert "run RUNNING 8 0 ada" in row


def test_all_pages_together_have_each_entry_once(items: sa.Engine, server: Served, ada: httpx.Client) -> None:
    server.migrator.run(Mark.name)
    _repeat(items, "run", 249)
    _repeat(items, "event", 249)
    found = [re.findall(r'href="/migrations/runs/([0-9a-f-]{36})"><time', page.text) for page in pages(ada, "/history")]
    assert [len(page) for page in found] == [100, 100, 50]
    assert len({run for page in found for run in page}) == 250
    sizes = [len(rows(page)) for page in pages(ada, f"/history/audit?migration={Mark.name}")]
    assert (sizes[:2], sum(sizes)) == ([100, 100], 251)  # with its start


def _repeat(engine: sa.Engine, table: str, times: int) -> None:
    """More rows like the newest one of a tracking table."""
    kept = sa.Table(f"system_migration_{table}", sa.MetaData(), autoload_with=engine)
    with engine.begin() as connection:
        row = dict(connection.execute(sa.select(kept).limit(1).order_by(kept.c.id.desc())).mappings().one())
        if table == "event":
            copies = [{name: value for name, value in row.items() if name != "id"} for _ in range(times)]
        else:
            copies = [row | {"id": f"{number:08x}{row['id'][8:]}"} for number in range(times)]
        connection.execute(sa.insert(kept), copies)


@pytest.mark.databases("sqlite")
def test_a_page_asks_little(server: Served, ada: httpx.Client) -> None:
    server.migrator.run(Mark.name)
    for address in ("/history", "/history/audit", "/history?migration=001-mark", "/history/audit?migration=001-mark"):
        ada.get(address)
        with questions() as asked:
            ada.get(address)
        assert len(asked) <= 2, asked
