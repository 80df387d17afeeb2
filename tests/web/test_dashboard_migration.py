"""The screen of a migration: what is known of it, also where its file is gone, and the buttons of its state."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from system_migration import BatchMigration, MigrationContext, MigrationResult, Row, RowIssue, RunOptions, discover
from system_migration.errors import MigrationFailed
from system_migration.web.dashboard.pages import HEADERS
from tests.web.serving import PATIENCE, Increment, Mark, Served, gated, served
from tests.web.test_dashboard_actions import REAL, fields, run_of, send, text

pytestmark = pytest.mark.databases("sqlite")
NASTY = "<img src=x onerror=alert(1)>\n\x1b[31m\u202e&amp;"
ESCAPED = ("&lt;img src=x onerror=alert(1)&gt;", r"\x1b[31m\u202e", "&amp;amp;")


class Nasty(BatchMigration):
    """Everything that a page shows of it is markup, or a terminal's escape: </code></pre><script>alert(1)</script>"""

    name = "003-nasty"
    version = "1.0.<b>0</b>"
    description = NASTY
    requires = (Increment.name,)
    rollbackable = True
    table = "item"
    reads = ("origin",)
    writes = ("note",)

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.note.is_(None)

    def transform(self, row: Row) -> dict[str, Any]:
        if row.origin % 5 == 0:
            raise RowIssue("<u>odd</u>" if row.origin % 2 else "even", NASTY)
        return {"note": "n"}


class After(Mark):
    name = "004-after"
    requires = (Nasty.name,)

    def up(self, context: MigrationContext) -> MigrationResult:
        raise ValueError(NASTY)


@pytest.fixture
def server(items: sa.Engine) -> Iterator[Served]:
    with served(items, Mark, Increment, Nasty, After) as server:
        yield server


@pytest.fixture
def ada(server: Served) -> Iterator[httpx.Client]:
    with server.browser() as client:
        yield client


def buttons(page: str) -> list[str]:
    return re.findall(r'id="verb-([a-z-]+)"', page)


def section(answer: httpx.Response, key: str) -> str:
    """What a part of the page says that is replaced while one looks on."""
    start = answer.text.index(f'data-live="{key}"')
    end = answer.text.find("data-live=", start + 1)
    return " ".join(re.sub(r"<[^>]*>", " ", answer.text[start:end]).split())


def fail(server: Served, name: str) -> None:
    with suppress(MigrationFailed):
        server.migrator.acting_as("eve").run(name, RunOptions())


def test_a_pending_one_says_what_it_waits_for_and_what_to_do(ada: httpx.Client) -> None:
    answer = ada.get("/m/003-nasty")
    assert answer.status_code == 200
    assert "It cannot start: it requires 002-increment, which is PENDING." in text(answer)
    assert "has to come first" in text(answer)
    assert 'href="/migrations/m/002-increment"' in answer.text
    assert 'href="/migrations/m/004-after"' in answer.text
    assert "journals its changes, so that it can be rolled back" in text(answer)
    assert "It was not run here yet. Start with a dry run" in text(answer)
    assert buttons(answer.text) == ["dry-run", "skip"]


def test_what_was_done_with_it_is_all_there(server: Served, ada: httpx.Client) -> None:
    server.migrator.run(Increment.name)
    server.migrator.acting_as("eve").dry_run("003-nasty")
    fail(server, "003-nasty")
    answer = ada.get("/m/003-nasty")
    assert buttons(answer.text) == ["run", "dry-run", "retry", "rollback", "skip", "reset"]
    assert "can be rolled back from its journal of 16 changes" in text(answer)
    assert "even 2" in section(answer, "held")
    assert 'href="/migrations/m/003-nasty/held?code=%3Cu%3Eodd%3C/u%3E"' in answer.text
    assert "The latest report was made by eve" in section(answer, "rehearsed")
    assert "Would change" in section(answer, "rehearsed")
    dry, run = [each.id for each in reversed(server.migrator.history("003-nasty"))]
    assert f'href="/migrations/runs/{dry}"' in answer.text
    assert f'href="/migrations/runs/{run}"' in answer.text
    assert "run FAILED 16 4 eve" in section(answer, "runs")
    assert "the run failed" in section(answer, "events")
    assert "started a run" in section(answer, "events")


def test_the_report_is_told_of_who_made_it(server: Served, ada: httpx.Client, items: sa.Engine) -> None:
    for who in ("eve", "bob"):
        server.migrator.acting_as(who).dry_run("003-nasty")
    newest, kept = [each.id for each in server.migrator.history("003-nasty")]
    with items.begin() as connection:  # as one that goes on, or was withdrawn
        connection.execute(sa.text("UPDATE system_migration_run SET report = NULL WHERE id = :id"), {"id": newest})
    answer = ada.get("/m/003-nasty")
    assert "The latest report was made by eve" in section(answer, "rehearsed")
    assert f'/migrations/runs/{kept}">open it' in answer.text
    assert f'Other dry runs: <a class="lone" href="/migrations/runs/{newest}"' in answer.text


def test_markup_and_escapes_are_text_wherever_they_come_from(server: Served, ada: httpx.Client) -> None:
    server.migrator.run(Increment.name)
    actor = server.migrator.acting_as("<b>Eve</b>\x1b[2J")
    actor.dry_run("003-nasty")
    with suppress(MigrationFailed):
        actor.run("003-nasty")
    server.migrator.run("003-nasty", RunOptions(max_issues=4))
    with suppress(MigrationFailed):
        actor.run("004-after")
    actor.skip("004-after", NASTY)
    for address in ("/m/003-nasty", "/m/004-after", "/m/003-nasty/start", "/m/004-after/start?verb=run"):
        page = ada.get(address).text
        assert not re.search(r"<(img|u|b|script>)[ >]", page), address
        assert not set(page) & set("\x1b\u202e"), address
    page = ada.get("/m/003-nasty").text
    assert all(part in page for part in ESCAPED)
    assert "&lt;/code&gt;&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in page  # its own source
    assert "&lt;b&gt;Eve&lt;/b&gt;\\x1b[2J" in page


def test_its_source_is_folded(ada: httpx.Client) -> None:
    page = ada.get("/m/003-nasty").text
    assert '<details class="source"><summary>Source</summary>' in page
    assert "class Nasty(BatchMigration):" in page


def test_escapes_in_its_source_are_text(items: sa.Engine, tmp_path: Path) -> None:
    source = """
from system_migration import Migration, MigrationResult

class Odd(Migration):  # \x1b[2J\u202e <b>
    name = "009-odd"

    def up(self, context):
        return MigrationResult()
"""
    (tmp_path / "009_odd.py").write_text(source, encoding="utf-8")
    with served(items, discover(str(tmp_path))["009-odd"]) as server, server.browser() as ada:
        page = ada.get("/m/009-odd").text
    assert r"class Odd(Migration):  # \x1b[2J\u202e &lt;b&gt;" in page
    assert not set(page) & set("\x1b\u202e")


def test_one_whose_file_is_gone_is_shown_with_its_record(items: sa.Engine) -> None:
    with served(items, Mark, Increment) as server:
        server.migrator.run()
    with served(items, Mark) as server, server.browser() as ada:
        answer = ada.get("/m/002-increment")
        assert answer.status_code == 200
        assert "Its file is missing" in text(answer)
        assert "COMPLETED" in section(answer, "state")
        assert buttons(answer.text) == []
        assert "run SUCCEEDED" in section(answer, "runs")
        refused = send(ada, "reset", fields(server), {"reason": "x"})
        assert refused.status_code == 404
        assert ada.get("/m/002-increment/start?verb=reset").status_code == 200


def test_one_that_is_neither_known_nor_recorded_is_not_found(ada: httpx.Client) -> None:
    assert ada.get("/m/404-nothing").status_code == 404
    assert ada.get("/m/404-nothing/start").status_code == 404
    assert "404-nothing" not in ada.get("/m/404-nothing").text


def test_while_it_goes_on_it_is_live_and_offers_what_the_runner_obeys(server: Served, ada: httpx.Client) -> None:
    with gated() as gate:
        run_id = run_of(send(ada, "run", fields(server), REAL))
        assert gate.reached.wait(PATIENCE)
        answer = ada.get(f"/m/{Increment.name}")
        assert 'data-stream="/migrations/events"' in answer.text
        assert buttons(answer.text) == ["pause", "cancel"]
        assert f'href="/migrations/runs/{run_id}"' in answer.text
        assert "RUNNING" in section(answer, "runs")
        assert "<progress" in answer.text
        first = re.findall(r'data-live="state" data-version="([^"]*)"', answer.text)
        server.migrator.pause(Increment.name)
        answer = ada.get(f"/m/{Increment.name}")
        assert buttons(answer.text) == ["resume", "cancel"]
        assert "pause asked for by server" in section(answer, "state")
        assert re.findall(r'data-live="state" data-version="([^"]*)"', answer.text) != first


def test_every_button_works_as_it_stands(server: Served, ada: httpx.Client) -> None:
    """With what the page itself put into the form."""
    server.migrator.run(Increment.name)
    page = ada.get(f"/m/{Increment.name}").text
    form = re.search(r'<form method="post" action="/migrations(/m/[^"]*/verify)">(.*?)</form>', page, re.DOTALL)
    assert form is not None
    data = dict(re.findall(r'name="([a-z]+)" value="([^"]*)"', form[2]))
    assert set(data) == {"token", "request", "seen"}
    assert run_of(ada.post(form[1], data=data))


@pytest.mark.parametrize(
    "address", ["/m/002-increment", "/m/002-increment/start", "/m/002-increment/start?verb=x", "/m/nothing"]
)
def test_no_screen_is_kept_by_caches_or_may_load_from_elsewhere(ada: httpx.Client, address: str) -> None:
    headers = ada.get(address).headers
    assert {name: headers.get(name) for name in HEADERS} == HEADERS
