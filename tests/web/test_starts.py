"""Starts over HTTP: in the background, one at a time, confirmed in production, and once for each Idempotency-Key."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, ClassVar

import httpx
import pytest
import sqlalchemy as sa

from system_migration import (
    BatchMigration,
    Migration,
    MigrationContext,
    MigrationResult,
    Migrator,
    Registry,
    Row,
    RowIssue,
    RunOptions,
    Settings,
)
from system_migration.background import Background
from system_migration.batching import target
from system_migration.errors import ChangedMeanwhile, Refused
from system_migration.running import requests
from system_migration.store import tables
from system_migration.web import routes_start
from system_migration.web.starts import Starts, Wanted
from tests.support.host import wait_for
from tests.web.serving import (
    ONCE,
    PATIENCE,
    UNTOUCHED,
    Increment,
    Mark,
    Served,
    changes,
    gated,
    make_items,
    served,
    wait_until_ended,
)

pytestmark = pytest.mark.databases("sqlite", "postgresql")
ONE_BY_ONE = {"batchSize": 1, "workers": 1}


@pytest.fixture
def server(items: sa.Engine) -> Iterator[Served]:
    with served(items) as server:
        yield server


@pytest.fixture
def client(server: Served) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def runs(client: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/runs", params=query).json()["runs"]
    return found


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].removeprefix("urn:system-migration:")


def test_a_start_answers_with_its_run_at_once_and_goes_on_in_the_background(
    items: sa.Engine, client: httpx.Client
) -> None:
    with gated() as gate:
        answer = client.post("/run/002-increment", params=ONE_BY_ONE)
        assert answer.status_code == 202
        run = answer.json()["run"]
        assert answer.headers["location"] == f"/migration/runs/{run['id']}"
        assert (run["migration"], run["kind"], run["outcome"], run["executedBy"]) == (
            "002-increment",
            "run",
            None,
            "ada",
        )
        assert gate.reached.wait(PATIENCE)
        going = client.get(f"/runs/{run['id']}").json()
        assert (going["state"], going["progress"]["changed"]) == ("running", 7)
    assert wait_until_ended(client, run["id"])["state"] == "succeeded"
    assert changes(items) == ONCE


def test_whoever_waits_is_answered_with_the_result(items: sa.Engine, client: httpx.Client) -> None:
    answer = client.post("/run", params={"wait": 30})
    assert answer.status_code == 200
    reports = answer.json()["reports"]
    assert [(each["name"], each["status"], each["recordsProcessed"]) for each in reports] == [
        ("001-mark", "COMPLETED", 20),
        ("002-increment", "COMPLETED", 19),
    ]
    assert answer.json()["error"] is None
    assert changes(items) == ONCE
    nothing = client.post("/run")
    assert (nothing.status_code, nothing.json()["run"], nothing.json()["reports"]) == (200, None, [])


def test_whoever_does_not_wait_long_enough_is_answered_as_without(client: httpx.Client) -> None:
    with gated():
        assert client.post("/run/002-increment", params={"wait": 0.1}).status_code == 202


@pytest.mark.databases("sqlite")
def test_any_number_may_wait_and_leave_the_api_answering(server: Served, client: httpx.Client) -> None:
    key, waiting = {"Idempotency-Key": "deploy-1"}, 50  # more than there are threads for handlers

    def wait(_: int) -> httpx.Response:
        with server.client() as mine:
            return mine.post("/run/002-increment", params={"wait": 30}, headers=key)

    with ThreadPoolExecutor(waiting) as pool:
        with gated() as gate:
            answers = pool.map(wait, range(waiting))
            assert gate.reached.wait(PATIENCE)
            wait_for(lambda: server.developers.asked >= waiting, PATIENCE, "all who wait")
            for _ in range(10):
                assert client.get("/status").status_code == 200
        assert {(each.status_code, each.json()["run"]["outcome"]) for each in answers} == {(200, "succeeded")}
    assert len(runs(client)) == 1


def test_a_run_that_fails_is_a_result_too(engine: sa.Engine) -> None:
    class Failing(Migration):
        name = "001-failing"

        def up(self, context: MigrationContext) -> MigrationResult:
            return MigrationResult(success=False, error="it did not work")

    with served(engine, Failing) as server, server.client() as client:
        answer = client.post("/run", params={"wait": 30})
    assert answer.status_code == 200
    assert answer.json()["run"]["outcome"] == "failed"
    assert answer.json()["error"]["type"] == "urn:system-migration:failed"
    assert "it did not work" in answer.json()["error"]["detail"]


@pytest.mark.databases("sqlite")
def test_a_migration_that_exits_is_answered_as_any_other_failure(engine: sa.Engine) -> None:
    class Quitting(Migration):
        name = "001-quitting"

        def preflight(self, context: MigrationContext) -> None:
            raise SystemExit(3)

        def up(self, context: MigrationContext) -> MigrationResult:
            return MigrationResult()

    with served(engine, Quitting) as server, server.client() as client:
        answer = client.post("/run", params={"wait": 30})
        assert problem(answer) == (500, "failed")
        assert "SystemExit" in answer.json()["detail"]
        assert client.get("/status").status_code == 200


@pytest.mark.databases("sqlite")
def test_a_preflight_that_takes_long_is_not_waited_for(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = threading.Event()

    class Slow(Migration):
        name = "001-slow"

        def preflight(self, context: MigrationContext) -> None:
            assert opened.wait(PATIENCE)

        def up(self, context: MigrationContext) -> MigrationResult:
            return MigrationResult()

    monkeypatch.setattr(routes_start, "BEGIN_SECONDS", 0.05)
    with served(engine, Slow) as server, server.client() as client:
        answer = client.post("/run")
        opened.set()
        assert (answer.status_code, answer.json()["run"]) == (202, None)
        assert answer.headers["location"] == "/migration/runs"
        assert client.get("/status").status_code == 200


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    "query",
    [
        *("dryrun=true", "dryRun=banana", "batchSize=0", "batchSize=-5", "batchSize=1e9", "batchSize=1000000000"),
        *("batchSize=", "workers=0", "workers=65", "maxRate=0", "maxRate=nan", "maxRate=inf", "maxIssues=-1"),
        *("wait=61", "wait=-1", "dryRun=true&dryRun=false", "batch_size=5", "fromKey=1", "name=x"),
    ],
)
def test_what_is_not_understood_starts_nothing(api: Served, query: str) -> None:
    with api.client() as client:
        answer = client.post(f"/run?{query}")
        assert problem(answer) == (422, "invalid-request")
        assert "banana" not in answer.text
        assert runs(client) == []


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("path", ["/run", "/run/001-mark"])
@pytest.mark.parametrize("query", ["full=true", "full=true&dryRun=false"])
def test_to_examine_all_rows_never_becomes_a_real_run(api: Served, path: str, query: str) -> None:
    with api.client() as client:
        answer = client.post(f"{path}?{query}")
        assert problem(answer) == (422, "invalid-request")
        assert answer.json()["errors"] == [{"where": "query", "message": "full=true goes only with dryRun=true"}]
        assert runs(client) == []


def test_a_second_start_is_refused_with_the_run_that_is_going(client: httpx.Client) -> None:
    with gated() as gate:
        run = client.post("/run/002-increment").json()["run"]
        assert gate.reached.wait(PATIENCE)
        for path in ("/run", "/run/002-increment", "/run/001-mark", "/verify/001-mark"):
            answer = client.post(path)
            assert problem(answer) == (409, "run-going")
            assert answer.json()["run"]["id"] == run["id"]
    assert wait_until_ended(client, run["id"])["state"] == "succeeded"
    assert len(runs(client)) == 1


def test_a_start_is_refused_with_the_run_that_another_process_makes(items: sa.Engine, client: httpx.Client) -> None:
    with Migrator(items, Registry([Increment]), Settings(environment="staging"), executed_by="cli") as other:
        with gated() as gate:
            running = threading.Thread(target=other.run, kwargs={"options": RunOptions(batch_size=1, workers=1)})
            running.start()
            assert gate.reached.wait(PATIENCE)
            answer = client.post("/run/002-increment")
            assert problem(answer) == (409, "run-going")
            assert answer.json()["run"]["executedBy"] == "cli"
        running.join(PATIENCE)
    assert changes(items) == ONCE


@pytest.mark.databases("sqlite")
def test_production_wants_its_name(items: sa.Engine) -> None:
    with served(items, environment="production") as server, server.client() as client:
        for path in ("/run", "/run/001-mark", "/rollback/001-mark", "/retry/002-increment"):
            for query in ({}, {"confirm": "staging"}):
                answer = client.post(path, params=query)
                assert problem(answer) == (409, "not-confirmed")
        assert "confirm=production" in client.post("/run").json()["detail"]
        assert runs(client) == []
        assert client.post("/run", params={"dryRun": True, "wait": 30}).status_code == 200
        assert changes(items) == UNTOUCHED
        assert client.post("/run", params={"confirm": "production", "wait": 30}).status_code == 200
    assert changes(items) == ONCE


@pytest.mark.databases("sqlite")
def test_the_name_of_another_environment_starts_nothing(client: httpx.Client) -> None:
    assert problem(client.post("/run", params={"confirm": "production"})) == (409, "not-confirmed")
    assert runs(client) == []


def test_what_cannot_be_rolled_back_stays(items: sa.Engine, client: httpx.Client) -> None:
    client.post("/run", params={"wait": 30})
    before = client.get("/status").json()
    answer = client.post("/rollback/002-increment")
    assert problem(answer) == (409, "refused")
    assert "cannot be rolled back" in answer.json()["detail"]
    assert client.get("/status").json() == before
    assert changes(items) == ONCE


def test_what_can_be_rolled_back_is(client: httpx.Client) -> None:
    client.post("/run/001-mark", params={"wait": 30})
    rehearsed = client.post("/rollback/001-mark", params={"dryRun": True, "wait": 30})
    assert rehearsed.json()["run"]["kind"] == "dry-run"
    answer = client.post("/rollback/001-mark", params={"wait": 30})
    assert (answer.status_code, answer.json()["reports"][0]["status"]) == (200, "ROLLED_BACK")
    assert answer.json()["run"]["executedBy"] == "ada"


def test_a_dry_run_can_be_looked_up_with_its_report(items: sa.Engine, client: httpx.Client) -> None:
    answer = client.post("/run/002-increment", params={"dryRun": True, "full": True, "wait": 30})
    assert answer.status_code == 200
    found = client.get(answer.headers["location"].removeprefix("/migration")).json()
    assert (found["run"]["kind"], found["state"]) == ("dry-run", "succeeded")
    assert (found["report"]["wouldChange"], found["report"]["wouldHold"]) == (19, 1)
    assert changes(items) == UNTOUCHED


def test_a_dry_run_is_stale_when_its_process_gives_no_sign_of_life(items: sa.Engine, client: httpx.Client) -> None:
    lease = tables.lease
    with gated() as gate:
        run = client.post("/run/002-increment", params={"dryRun": True, "full": True}).json()["run"]["id"]
        assert gate.reached.wait(PATIENCE)
        assert client.get(f"/runs/{run}").json()["state"] == "running"
        with items.begin() as connection:  # as it would look some time after a kill
            long_ago = {"expires_at": datetime(2020, 1, 1, tzinfo=UTC), "takeover_at": datetime(2020, 1, 1, tzinfo=UTC)}
            connection.execute(sa.update(lease).where(lease.c.name == run).values(**long_ago))
        assert client.get(f"/runs/{run}").json()["state"] == "stale"
    assert wait_until_ended(client, run)["state"] == "succeeded"

    def forgotten() -> bool:
        with items.connect() as connection:
            return connection.execute(sa.select(lease.c.name)).all() == []

    wait_for(forgotten, PATIENCE, "the end of its sign of life")


@pytest.mark.databases("sqlite")
def test_a_dry_run_of_a_part_is_refused(client: httpx.Client) -> None:
    answer = client.post("/run/002-increment", params={"dryRun": True, "fromKey": "5"})
    assert problem(answer) == (409, "refused")
    assert runs(client) == []


def test_a_range_that_cannot_be_is_refused(items: sa.Engine, client: httpx.Client) -> None:
    answer = client.post("/run/002-increment", params={"fromKey": "five"})
    assert problem(answer) == (409, "refused")
    assert changes(items) == UNTOUCHED


class Noted(BatchMigration):
    """One that can work on a part of the keys."""

    name = "003-note"
    table = "item"
    reads = ("y",)
    writes = ("note",)

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.note.is_(None)

    def transform(self, row: Row) -> dict[str, Any]:
        return {"note": "noted"}


@pytest.mark.parametrize("parameter", ["fromKey", "toKey"])
@pytest.mark.parametrize("key", ["five", "1.5"])
def test_a_key_that_no_row_can_have_is_what_the_client_sent_and_no_fault_of_the_server(
    items: sa.Engine, parameter: str, key: str
) -> None:
    with served(items, Noted) as server, server.client() as client:
        answer = client.post("/run/003-note", params={parameter: key, "wait": 30})
        assert problem(answer) == (422, "invalid-request")
        sentence = f"`{parameter}` cannot be read as a key of table 'item': a value of type int is expected."
        assert answer.json()["detail"] == sentence
        assert client.get("/status").json()["migrations"][0]["status"] == "PENDING"


def test_a_key_starts_once_while_it_goes_when_it_has_ended_and_after_a_restart(items: sa.Engine) -> None:
    key = {"Idempotency-Key": "deploy-1"}
    with served(items) as server, server.client() as client:
        with gated() as gate:
            first = client.post("/run/002-increment", params=ONE_BY_ONE, headers=key)
            again = client.post("/run/002-increment", params=ONE_BY_ONE, headers=key)
            assert gate.reached.wait(PATIENCE)
        assert (first.status_code, again.status_code) == (202, 202)
        assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
        run_id = first.json()["run"]["id"]
        wait_until_ended(client, run_id)
        ended = client.post("/run/002-increment", params=ONE_BY_ONE, headers=key)
        other = client.post("/run/002-increment", params={"batchSize": 2}, headers=key)
        elsewhere = client.post("/verify/002-increment", headers=key)
    with served(items) as server, server.client() as client:
        later = client.post("/run/002-increment", params=ONE_BY_ONE, headers=key)
        assert problem(client.post("/run/002-increment", headers=key)) == (422, "idempotency-key-reused")
        assert len(runs(client)) == 1
    assert {each.json()["run"]["id"] for each in (first, again, ended, later)} == {run_id}
    assert (later.status_code, later.json()["run"]["outcome"]) == (200, "succeeded")
    assert problem(other) == problem(elsewhere) == (422, "idempotency-key-reused")
    assert changes(items) == ONCE


def test_a_key_belongs_to_who_sent_it(server: Served, client: httpx.Client) -> None:
    key = {"Idempotency-Key": "deploy-1"}
    with server.client("eve-token") as eve:
        first = client.post("/verify/001-mark", headers=key)
        assert first.status_code == 409  # refused, so nothing is kept for the key
        client.post("/run/001-mark", params={"wait": 30}, headers=key)
        other = eve.post("/verify/001-mark", params={"wait": 30}, headers=key)
    assert (other.status_code, other.json()["run"]["executedBy"]) == (200, "eve")


def test_a_start_that_was_refused_keeps_no_key(engine: sa.Engine) -> None:
    ready = threading.Event()

    class Picky(Migration):
        name = "001-picky"

        def preflight(self, context: MigrationContext) -> None:
            if not ready.is_set():
                raise Refused("Not yet.")

        def up(self, context: MigrationContext) -> MigrationResult:
            return MigrationResult()

    key = {"Idempotency-Key": "deploy-1"}
    with served(engine, Picky) as server, server.client() as client:
        for _ in range(2):
            assert problem(client.post("/run", headers=key)) == (409, "refused")
        ready.set()
        assert client.post("/run", params={"wait": 30}, headers=key).json()["run"]["outcome"] == "succeeded"
        assert [run["outcome"] for run in runs(client)] == ["succeeded", "refused", "refused"]


def test_a_run_that_has_ended_and_is_just_letting_go_is_waited_for(items: sa.Engine) -> None:
    refused, gone = threading.Event(), threading.Event()

    class Lingering(Background):
        """Its work ends on the record before it ends."""

        def start(self, work: Callable[[], Any], run_id: Callable[[], str | None] | None = None) -> Future[Any]:
            def linger() -> Any:
                result = work()
                assert gone.wait(PATIENCE)
                return result

            try:
                return super().start(linger, run_id)
            except Refused:
                refused.set()
                raise

    with served(items, make_background=Lingering) as server, server.client() as client:
        wait_until_ended(client, client.post("/run/001-mark").json()["run"]["id"])
        with ThreadPoolExecutor() as pool:
            second = pool.submit(client.post, "/run/002-increment")
            assert refused.wait(PATIENCE)
            gone.set()
            assert second.result().status_code == 202


@pytest.mark.parametrize(
    ("path", "first", "other"),
    [
        ("/run/002-increment", {"dryRun": True}, {"dryRun": True, "full": True}),
        ("/run/002-increment", {"dryRun": True, "workers": 1}, {"dryRun": True, "workers": 2}),
        ("/rollback/001-mark", {"dryRun": True}, {"dryRun": True, "verbose": True}),
    ],
)
def test_a_key_of_a_dry_run_is_no_other_ones_after_others_either(
    server: Served, client: httpx.Client, path: str, first: dict[str, Any], other: dict[str, Any]
) -> None:
    key = {"Idempotency-Key": "look-1"}
    kept = client.post(path, params=first | {"wait": 30}, headers=key).json()["run"]["id"]
    client.post("/run/001-mark", params={"wait": 30})  # it is no longer the latest that this process remembers
    assert problem(client.post(path, params=other, headers=key)) == (422, "idempotency-key-reused")
    assert client.post(path, params=first, headers=key).json()["run"]["id"] == kept


def test_a_resume_that_took_a_pause_back_is_known_again(items: sa.Engine, client: httpx.Client) -> None:
    key = {"Idempotency-Key": "resume-1"}
    with gated() as gate:
        run = client.post("/run/002-increment", params=ONE_BY_ONE).json()["run"]["id"]
        assert gate.reached.wait(PATIENCE)
        client.post(f"/runs/{run}/pause")
        assert client.post(f"/runs/{run}/resume", params=ONE_BY_ONE, headers=key).status_code == 200
        bury(items, run)
        again = client.post(f"/runs/{run}/resume", params=ONE_BY_ONE, headers=key)
        other = client.post(f"/runs/{run}/resume", headers=key)
    assert (again.status_code, again.json()["run"]["id"], again.headers["idempotent-replayed"]) == (202, run, "true")
    assert problem(other) == (422, "idempotency-key-reused")
    wait_until_ended(client, run)


def bury(engine: sa.Engine, run_id: str) -> None:
    """Put so much on the record that whoever looks only at what is newest does not find what was there."""
    begun = {"door": "rest", "request": "another", "named": True}
    event = {"environment": "staging", "name": "002-increment", "run_id": run_id, "at": datetime.now(UTC)}
    event |= {"action": "takeover", "actor": "eve", "host": "here", "detail": json.dumps(begun)}
    with engine.begin() as connection:
        connection.execute(sa.insert(tables.event), [event] * 300)


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("key", ["", "x" * 256, "two words"])
def test_a_key_that_is_none_is_refused(api: Served, key: str) -> None:
    with api.client() as client:
        assert client.post("/run", headers={"Idempotency-Key": key}).status_code == 422
        assert runs(client) == []


def test_the_same_key_in_two_processes_at_once_answers_with_one_run(items: sa.Engine) -> None:
    key = {"Idempotency-Key": "deploy-1"}
    with served(items) as one, served(items) as two, one.client() as first, two.client() as second:
        with gated() as gate:
            run = first.post("/run/002-increment", headers=key).json()["run"]
            assert gate.reached.wait(PATIENCE)
            replayed = second.post("/run/002-increment", headers=key)
        assert (replayed.status_code, replayed.json()["run"]["id"]) == (202, run["id"])
        wait_until_ended(first, run["id"])
    assert changes(items) == ONCE


def test_a_run_is_paused_resumed_and_cancelled(
    items: sa.Engine, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "EVERY_SECONDS", 0.0)  # so that the run need not be slower than its runner's look
    with gated() as gate:
        run = client.post("/run/002-increment", params=ONE_BY_ONE).json()["run"]
        assert gate.reached.wait(PATIENCE)
        asked = client.post(f"/runs/{run['id']}/pause")
        assert asked.status_code == 202
        assert client.get(f"/runs/{run['id']}").json()["requestedBy"] == "ada"
    assert wait_until_ended(client, run["id"])["state"] == "paused"
    with gated(row=15) as gate:
        resumed = client.post(f"/runs/{run['id']}/resume", params=ONE_BY_ONE)
        assert resumed.status_code == 202
        second = resumed.json()["run"]["id"]
        assert second != run["id"]
        assert problem(client.post(f"/runs/{run['id']}/pause")) == (409, "refused")  # no longer the latest
        assert gate.reached.wait(PATIENCE)
        assert client.post(f"/runs/{second}/cancel").status_code == 202
    assert wait_until_ended(client, second)["state"] == "failed"
    assert problem(client.post(f"/runs/{second}/resume")) == (409, "refused")
    assert client.post("/run", params={"wait": 30}).json()["reports"][0]["name"] == "001-mark"
    assert changes(items) != ONCE
    client.post("/run/002-increment", params={"wait": 30})
    assert changes(items) == ONCE


def test_a_pause_that_was_not_obeyed_yet_is_taken_back_where_the_run_goes_on(
    items: sa.Engine, server: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "EVERY_SECONDS", 0.0)  # so that a pause which is still asked for would be obeyed
    with gated() as gate:
        run = client.post("/run/002-increment", params=ONE_BY_ONE).json()["run"]
        assert gate.reached.wait(PATIENCE)
        assert problem(client.post(f"/runs/{run['id']}/resume")) == (409, "run-going")  # nothing to take back yet
        client.post(f"/runs/{run['id']}/pause")
        with server.client("eve-token") as eve:
            answer = eve.post(f"/runs/{run['id']}/resume")
        assert (answer.status_code, answer.json()["run"]["id"], answer.json()["reports"]) == (200, run["id"], [])
        assert client.get(f"/runs/{run['id']}").json()["request"] is None
        assert problem(client.post("/run/002-increment")) == (409, "run-going")  # and its run is still known
    assert wait_until_ended(client, run["id"])["state"] == "succeeded"
    told = [(each.action, each.actor) for each in server.migrator.show("002-increment").events]
    assert ("pause_withdrawn", "eve") in told
    assert changes(items) == ONCE


def test_a_dry_run_and_a_verification_are_cancelled_and_make_room(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_items(engine, rows=60)  # more than are read at once
    monkeypatch.setattr(target, "SCAN_ROWS", 10)
    with served(engine) as server, server.client() as client:

        def cancel(path: str, query: dict[str, Any]) -> dict[str, Any]:
            with gated() as gate:
                run = client.post(path, params=query).json()["run"]
                assert gate.reached.wait(PATIENCE)
                answer = client.post(f"/runs/{run['id']}/cancel")
                assert (answer.status_code, answer.json()["name"]) == (202, "002-increment")
            ended: dict[str, Any] = wait_until_ended(client, run["id"])["run"]
            return ended

        rehearsed = cancel("/run/002-increment", {"dryRun": True, "full": True})
        assert set(changes(engine).values()) == {0}
        assert client.post("/run/002-increment", params={"wait": 30}).json()["run"]["outcome"] == "succeeded"
        monkeypatch.setattr(Increment, "check", lambda self, row: row.origin != 8 or bool(self.transform(row)))
        verified = cancel("/verify/002-increment", {})
        for run in (rehearsed, verified):
            assert (run["outcome"], run["error"].split(" before")[0]) == ("failed", "Cancelled by ada")
        assert problem(client.post(f"/runs/{rehearsed['id']}/cancel")) == (409, "refused")  # it goes on no more
        events = [each for each in server.migrator.show("002-increment").events if each.action == "cancelled"]
        assert [(each.actor, each.detail["kind"]) for each in events] == [("ada", "verify"), ("ada", "dry-run")]


def test_decisions_are_recorded_in_the_name_of_who_made_them(items: sa.Engine, client: httpx.Client) -> None:
    assert client.post("/skip/001-mark", params={"reason": "not here"}).json()["status"] == "SKIPPED"
    assert client.post("/reset/001-mark", params={"reason": "after all"}).json()["status"] == "PENDING"
    with Migrator(items, Registry([Mark, Increment]), Settings(environment="staging")) as looking:
        events = [(each.action, each.actor, each.detail) for each in looking.show("001-mark").events]
    assert events == [("reset", "ada", {"reason": "after all"}), ("skipped", "ada", {"reason": "not here"})]


def test_held_rows_are_paged_found_by_key_and_retried(items: sa.Engine, client: httpx.Client) -> None:
    client.post("/run/002-increment", params={"wait": 30})
    page = client.get("/issues/002-increment", params={"limit": 1}).json()
    assert [(each["key"], each["code"]) for each in page["issues"]] == [(13, "unlucky")]
    assert client.get("/issues/002-increment", params={"limit": 1, "after": page["next"]}).json()["issues"] == []
    assert client.get("/issues/002-increment", params={"key": "13"}).json()["issues"] == page["issues"]
    assert client.get("/issues/002-increment", params={"key": "12"}).json()["issues"] == []
    assert problem(client.get("/issues/002-increment", params={"key": "thirteen"})) == (422, "invalid-request")
    answer = client.post("/retry/002-increment", params={"wait": 30})
    assert (answer.status_code, answer.json()["reports"][0]["issues"]) == (200, 1)
    assert changes(items) == ONCE


def test_a_start_by_what_is_true_no_longer_comes_to_nothing(items: sa.Engine) -> None:
    with Migrator(items, Registry([Increment]), Settings(environment="staging")) as migrator:
        (seen,) = migrator.status().migrations
        migrator.acting_as("ada").run("002-increment")
        background = Background(migrator)
        job = Starts(migrator, background).begin(Wanted("run", "002-increment", seen=seen.revision), "eve")
        error = job.done.exception(PATIENCE)
        background.stop()
    assert isinstance(error, ChangedMeanwhile)
    assert str(error).startswith("Migration 002-increment is COMPLETED now: the run of ada completed it at ")
    assert (job.begun.result(PATIENCE), changes(items)) == (None, ONCE)


class Doubting(Increment):
    """Holds whatever is odd, until the doubts are over."""

    max_issues = 20
    doubts: ClassVar[bool] = True

    def transform(self, row: Row) -> dict[str, Any]:
        if self.doubts and row.origin % 2:
            raise RowIssue("odd", "whatever it is")
        return {"y": row.y + 1}


def test_held_rows_are_chosen_by_their_keys(items: sa.Engine) -> None:
    key, Doubting.doubts = {"Idempotency-Key": "retry-1"}, True
    with served(items, Doubting) as server, server.client() as client:
        client.post("/run/002-increment", params={"wait": 30})
        Doubting.doubts = False
        refused = client.post("/retry/002-increment?key=1&key=2&key=4")
        assert problem(refused) == (409, "refused")
        assert "was to retry 3 rows, of which 2 are not held. Nothing was tried" in refused.json()["detail"]
        unreadable = client.post("/retry/002-increment?key=1&key=seven")
        assert problem(unreadable) == (422, "invalid-request")
        assert "seven" not in unreadable.text
        assert problem(client.post("/retry/002-increment?wait=1&wait=2")) == (422, "invalid-request")
        assert problem(client.post("/retry/002-increment?" + "&".join(["key=1"] * 1001))) == (422, "invalid-request")
        answer = client.post("/retry/002-increment?key=1&key=7&wait=30", headers=key)
        again = client.post("/retry/002-increment?key=1&key=7", headers=key)
        assert problem(client.post("/retry/002-increment?key=1", headers=key)) == (422, "idempotency-key-reused")
    assert (answer.status_code, answer.json()["reports"][0]["issues"]) == (200, 8)
    assert again.json()["run"]["id"] == answer.json()["run"]["id"]
    odd = dict.fromkeys({*range(1, 21, 2)} - {1, 7}, 0)
    assert changes(items) == dict.fromkeys(range(1, 21), 1) | odd


def test_runs_are_paged_newest_first(items: sa.Engine, client: httpx.Client) -> None:
    made = [client.post("/run/001-mark", params={"wait": 30, "dryRun": True}).json()["run"]["id"] for _ in range(3)]
    made.append(client.post("/run/002-increment", params={"wait": 30, "dryRun": True}).json()["run"]["id"])
    first = client.get("/runs", params={"limit": 2}).json()
    second = client.get("/runs", params={"limit": 2, "before": first["next"]}).json()
    assert [each["id"] for each in first["runs"] + second["runs"]] == made[::-1]
    assert [each["id"] for each in runs(client, migration="001-mark")] == made[2::-1]
    assert client.get("/runs", params={"migration": "nope"}).status_code == 404
