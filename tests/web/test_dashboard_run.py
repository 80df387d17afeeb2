"""The screen of a run: what it shows of each state, whoever makes the run, and at what price."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa

from system_migration import BatchMigration, Migration, MigrationContext, MigrationResult, Row, RowIssue
from system_migration.store import tables
from tests.support.host import wait_for
from tests.web.screens import ODD, ODD_SHOWN, assert_harmless, buttons, part, press, questions, words
from tests.web.serving import PATIENCE, Served, gated, served, wait_until_ended
from tests.web.test_following import running_elsewhere

UNKNOWN = "00000000-0000-4000-8000-000000000000"


class Telling(Migration):
    """Says a lot, and fails."""

    name = "003-telling"
    lines = 0

    def up(self, context: MigrationContext) -> MigrationResult:
        context.log.warning("%s\nand a second line", ODD)
        for number in range(self.lines):
            context.log.info("line %d", number)
        raise RuntimeError(f"it broke: {ODD}")


class Counting(Migration):
    """Succeeds in one transaction."""

    name = "004-counting"

    def up(self, context: MigrationContext) -> MigrationResult:
        return MigrationResult(records_processed=7)


class Tagging(BatchMigration):
    """Has keys that people have typed, and holds all of them."""

    name = "005-tagging"
    table = "tag"
    reads = ("y",)
    writes = ("y",)

    def transform(self, row: Row) -> dict[str, Any]:
        if row.y == 1:
            raise RowIssue("odd", ODD)
        return {"y": row.y + 1}


def start(server: Served, path: str, **query: Any) -> str:
    """Start something, and wait for its end. The run's id."""
    with server.client() as client:
        answer = client.post(path, params={"wait": 30, **query})
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["run"]["id"]
        return found


def screen(server: Served, run_id: str, **query: Any) -> httpx.Response:
    with server.browser() as browser:
        page = browser.get(f"/runs/{run_id}", params=query)
    assert page.status_code == 200, page.text
    return page


def test_a_run_that_somebody_else_makes(items: sa.Engine) -> None:
    with served(items) as server, running_elsewhere(items) as run_id:
        page = screen(server, run_id)
        said = words(page)
    assert "Run of 002-increment" in said
    assert "RUNNING" in words(part(page, "state"))
    assert "by cli" in words(part(page, "state"))
    assert "7" in words(part(page, "progress"))
    assert "Changed 7 Held 0 Already right 0" in words(part(page, "progress"))
    assert buttons(page) == ["pause", "cancel"]
    assert f'data-stream="/migrations/runs/{run_id}/events"' in page.text
    assert 'data-announce="This run: running"' in page.text
    assert "started a run" in words(part(page, "events"))
    assert '<svg class="chart"' in part(page, "charts")


def wait_until_it_tells(server: Served, run_id: str) -> None:
    """Until its runner has said how far it is."""

    def told() -> bool:
        pulse = server.migrator.run_by_id(run_id).pulse
        return pulse is not None and pulse.phase == "migrating" and bool(pulse.done)

    wait_for(told, PATIENCE, "what its runner says")


def test_what_its_runner_says_is_shown(items: sa.Engine) -> None:
    with served(items) as server, running_elsewhere(items) as run_id:
        wait_until_it_tells(server, run_id)
        progress = words(part(screen(server, run_id), "progress"))
    assert "7 of 20 rows · 35 %" in progress
    assert "Phase migrating Batch size 1 row Workers 1" in progress


def test_an_ended_run(items: sa.Engine) -> None:
    with served(items) as server:
        page = screen(server, start(server, "/run/002-increment", batchSize=1, workers=1))
    assert "SUCCEEDED" in words(part(page, "state"))
    assert "Changed 19 Held 1 Already right 0 Vanished 0 Deferred 0" in words(part(page, "progress"))
    assert 'href="/migrations/m/002-increment/held"' in page.text
    assert "data-stream" not in page.text
    assert {"retry", "verify"} <= set(buttons(page))
    rates, durations = re.findall(r'role="img" aria-label="([^"]+)"', page.text)
    assert re.fullmatch(r"Rate of .* Newest .*, lowest .*, highest .*\.", rates)
    assert re.fullmatch(r"Duration of 20 batches\. Newest .*, lowest .*, highest .*\.", durations)
    assert page.text.count("<details") == 2
    assert "style=" not in page.text


def test_a_rollback(items: sa.Engine) -> None:
    with served(items) as server:
        before = start(server, "/run/001-mark")
        page = screen(server, start(server, "/rollback/001-mark"))
        assert "Rollback of 001-mark" in words(page)
        assert "ROLLED BACK" in words(part(page, "state"))
        older = screen(server, before)
    assert buttons(older) == []
    assert "A later run decides where the migration stands" in words(older)


def test_a_verification_says_how_it_ended(items: sa.Engine) -> None:
    with served(items, Counting) as server:
        start(server, "/run/004-counting")
        page = screen(server, start(server, "/verify/004-counting"))
    assert "Verification of 004-counting" in words(page)
    assert "later run" not in words(page)


@pytest.mark.databases("sqlite")
def test_its_buttons_lead_back_to_it(items: sa.Engine) -> None:
    with served(items) as server, server.browser() as browser, running_elsewhere(items) as run_id:
        page = press(browser, browser.get(f"/runs/{run_id}"), "pause")
        assert page.url.path == f"/migrations/runs/{run_id}"
        assert "The pause was asked for; the runner obeys within a batch." in words(page)
        assert "pause asked for by ada" in words(part(page, "state"))
        assert 'data-announce="This run: running, pause asked for"' in page.text
        assert buttons(page) == ["resume", "cancel"]
        page = press(browser, page, "resume")
        assert page.url.path == f"/migrations/runs/{run_id}"
        assert buttons(page) == ["pause", "cancel"]


@pytest.mark.databases("sqlite")
def test_a_retry_is_called_one_and_its_events_are_worded_as_in_the_audit(items: sa.Engine) -> None:
    with served(items) as server:
        start(server, "/run/002-increment", maxRate=10_000)
        (held,) = server.migrator.issues("002-increment")
        page = screen(server, start(server, "/retry/002-increment", key=held.id))
    assert "Retry of 002-increment" in words(page)
    said = words(part(page, "events"))
    assert re.search(
        r"completed it verified · 1 row held ada on .* started a retry was COMPLETED · 1 chosen row ada on", said
    )
    assert held.id not in part(page, "events")
    assert "door" not in said
    assert '<table class="cards events">' in part(page, "events")


@pytest.mark.databases("sqlite")
def test_what_starts_something_in_production_is_asked_first(items: sa.Engine) -> None:
    with served(items, environment="production") as server:
        page = screen(server, start(server, "/run/002-increment", confirm="production"))
    assert {"retry", "verify"} <= set(buttons(page))
    assert 'action="/migrations/m/002-increment/retry"' not in page.text
    assert 'href="/migrations/m/002-increment/start?verb=retry&amp;' in page.text
    assert 'action="/migrations/m/002-increment/verify"' in page.text  # changes nothing


@pytest.mark.databases("sqlite")
def test_a_dry_run_of_this_server_can_be_cancelled(items: sa.Engine) -> None:
    with served(items) as server, server.browser() as browser, server.client() as client, gated(1) as gate:
        run_id = client.post("/run/002-increment", params={"dryRun": True}).json()["run"]["id"]
        assert gate.reached.wait(PATIENCE)
        page = browser.get(f"/runs/{run_id}")
        assert "Dry run of 002-increment" in words(page)
        assert buttons(page) == ["cancel"]
        page = press(browser, page, "cancel")
        assert page.url.path == f"/migrations/runs/{run_id}"
        assert "The cancellation was asked for" in words(page)
        gate.opened.set()
        wait_until_ended(client, run_id)
        assert "cancel" not in buttons(browser.get(f"/runs/{run_id}"))


@pytest.mark.databases("sqlite")
def test_a_rehearsal_leads_to_what_it_rehearsed(items: sa.Engine) -> None:
    with served(items) as server:
        assert buttons(screen(server, start(server, "/run/001-mark", dryRun=True))) == ["run"]
        start(server, "/run/001-mark")
        page = screen(server, start(server, "/rollback/001-mark", dryRun=True))
        assert buttons(page) == ["rollback"]
        assert "Changes in the journal" in words(page)


@pytest.fixture(scope="module")
def telling(api: Served) -> Iterator[Served]:
    """A server whose migrations say much, with a failed run of 250 lines."""
    Telling.lines = 245
    engine = api.migrator._database.engine
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE tag (name VARCHAR(90) PRIMARY KEY, y INTEGER NOT NULL)"))
        connection.execute(sa.text("INSERT INTO tag VALUES (:name, 1)"), {"name": ODD})
        connection.execute(sa.text("INSERT INTO tag VALUES ('plain', 2)"))
    with served(engine, Telling, Counting, Tagging) as server:
        server.developers.names["ada-token"] = ODD
        yield server


@pytest.fixture(scope="module")
def failed(telling: Served) -> str:
    return start(telling, "/run/003-telling")


def test_nothing_that_others_wrote_acts(telling: Served, failed: str) -> None:
    page = screen(telling, failed, level="warning")
    assert_harmless(page)
    assert f"{ODD_SHOWN} and a second line" in words(part(page, "log"))
    state = words(part(page, "state"))
    assert f"by {ODD_SHOWN}" in state
    assert f"it broke: {ODD_SHOWN}" in state
    assert ODD_SHOWN in words(part(page, "events"))


def test_a_run_of_one_transaction_says_why_it_has_no_charts(telling: Served, failed: str) -> None:
    charts = words(part(screen(telling, failed), "charts"))
    assert "No batch was committed by this run" in charts
    done = screen(telling, start(telling, "/run/004-counting"))
    assert "7 rows" in words(part(done, "progress"))
    assert "Deferred" not in words(done)


def test_the_log_is_read_backwards_by_pages(telling: Served, failed: str) -> None:
    with telling.browser() as browser:
        seen: list[str] = []
        address = f"/migrations/runs/{failed}"
        while address:
            page = browser.get(telling.url + address)
            assert page.status_code == 200
            seen = re.findall(r"INFO (line \d+)", words(part(page, "log"))) + seen
            found = re.search(r'id="log-older" href="([^"#]+)', page.text)
            assert ("Newest lines" in words(page)) == ("before=" in address)
            address = found[1].replace("&amp;", "&") if found else ""
    assert seen == [f"line {number}" for number in range(245)]


def test_the_log_by_level(telling: Served, failed: str) -> None:
    errors = words(part(screen(telling, failed, level="error"), "log"))
    assert "failed: " in errors
    assert "WARNING" not in errors
    page = screen(telling, failed, level="warning")
    assert '<option value="warning" selected>' in page.text
    assert "line 3" not in words(page)
    nothing = screen(telling, start(telling, "/run/004-counting", dryRun=True), level="error")
    assert "No line of this level" in words(nothing)


def test_a_dry_run_shows_its_report(telling: Served) -> None:
    page = screen(telling, start(telling, "/run/005-tagging", dryRun=True, full=True))
    said = words(page)
    assert_harmless(page)
    assert "Rows to read 2 Examined 2 all of them Would change 1 Would be held 1" in said
    assert f"odd 1 {ODD_SHOWN}" in said
    assert "Not covered by a dry run" in said
    assert "plain y 2 3" in said
    assert "no charts" not in said


def test_what_is_not_there_is_a_page(api: Served) -> None:
    with api.browser() as browser:
        for path, status in (
            (f"/runs/{UNKNOWN}", 404),
            ("/runs/yesterday", 404),
            (f"/runs/{UNKNOWN}?level=loud", 422),
            (f"/runs/{UNKNOWN}?before=-1", 422),
            (f"/runs/{UNKNOWN}/events", 404),
        ):
            answer = browser.get(path)
            assert answer.status_code == status, path
            assert "Back to the overview" in answer.text
            assert "loud" not in answer.text
            assert ("behind the question mark" in answer.text) == (status == 422)


def test_it_is_for_developers_only(api: Served) -> None:
    for path in (f"/runs/{UNKNOWN}", f"/runs/{UNKNOWN}/events", "/events"):
        with api.browser("bob-token") as browser:
            assert browser.get(path).status_code == 403
        with api.browser(None) as browser:
            answer = browser.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in?next=%2Fmigrations%2F")


# What it costs

RUN_ID, COMPACTED, APART, LINES = str(uuid4()), 999_000, 1_000, 10_000


def leave_a_million_batches(engine: sa.Engine, server: Served) -> str:
    """Turn a finished run of the increment into one whose ledger is as a million batches leave it. Its id."""
    run_id = start(server, "/run/002-increment")
    ledger, log = tables.ledger, tables.log
    with engine.begin() as connection:
        place = connection.execute(sa.select(ledger).where(ledger.c.run_id == run_id)).mappings().first()
        assert place is not None
        connection.execute(sa.delete(ledger).where(ledger.c.run_id == run_id))
        sums = {"range": 1, "last_range": COMPACTED, "batches": COMPACTED, "rows_read": 1000 * COMPACTED}
        connection.execute(sa.insert(ledger), [{**place, **sums, "changed": 1000 * COMPACTED}])
        each = {"rows_read": 1000, "changed": 1000, "batches": 1, "seconds": 0.2}
        numbers = range(COMPACTED + 1, COMPACTED + APART + 1)
        rows = [{**place, **each, "range": n, "last_range": n, "attempt": str(uuid4())} for n in numbers]
        connection.execute(sa.insert(ledger), rows)
        line = {"run_id": run_id, "at": place["committed_at"], "level": "INFO", "message": "a batch"}
        connection.execute(sa.insert(log), [line] * LINES)
    return run_id


def test_a_million_batches_are_shown_by_five_questions_in_no_time(items: sa.Engine) -> None:
    with served(items) as server:
        run_id = leave_a_million_batches(items, server)
        with server.browser() as browser:
            took = []
            for _ in range(4):
                began = time.monotonic()
                page = browser.get(f"/runs/{run_id}")
                took.append(time.monotonic() - began)
            with questions() as sent:
                browser.get(f"/runs/{run_id}")
    assert "Changed 1,000,000,000 Held 1" in words(page)
    assert page.text.count('class="column"') == 200
    assert len(sent) <= 5, "\n\n".join(sent)
    assert min(took) < 0.3, took


def test_one_that_goes_is_shown_by_five_questions(items: sa.Engine) -> None:
    with served(items) as server, running_elsewhere(items) as run_id:
        wait_until_it_tells(server, run_id)
        screen(server, run_id)
        with questions() as sent:
            page = screen(server, run_id)
    sent = [each for each in sent if "UPDATE" not in each.upper()]  # its runner shows that it lives
    assert "Phase migrating" in words(part(page, "progress"))
    assert '<svg class="chart"' in part(page, "charts")
    assert len(sent) <= 5, "\n\n".join(sent)


def test_a_dry_run_is_shown_by_five_questions(telling: Served) -> None:
    run_id = start(telling, "/run/005-tagging", dryRun=True)
    with questions() as sent:
        screen(telling, run_id)
    assert len(sent) <= 5, "\n\n".join(sent)
