"""Event streams: one poller for all of them, nothing asked while nobody listens, nothing lost after a break."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from system_migration import Migrator, Registry, RunOptions, Settings
from system_migration.errors import Paused
from system_migration.web import following
from system_migration.web.following import Cursor, Poller, parse_cursor
from system_migration.web.refusals import InvalidRequest
from tests.support.host import wait_for
from tests.web.serving import ONCE, PATIENCE, Increment, changes, follow, gated, messages, served

pytestmark = pytest.mark.databases("sqlite", "postgresql")
LISTENERS = 100


@contextmanager
def running_elsewhere(engine: sa.Engine) -> Iterator[str]:
    """A run by somebody else that stands at the gate; it ends with the block. The value is its id."""
    with Migrator(engine, Registry([Increment]), Settings(environment="staging"), executed_by="cli") as other:
        with gated() as gate:

            def work() -> None:
                with suppress(Paused):
                    other.run(options=RunOptions(batch_size=1, workers=1))

            thread = threading.Thread(target=work)
            thread.start()
            assert gate.reached.wait(PATIENCE)
            yield other.history()[0].id
        thread.join(PATIENCE)
        assert not thread.is_alive()


@contextmanager
def counted(migrator: Migrator) -> Iterator[list[str]]:
    """The statements that a migrator sends."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    engine = migrator._database.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


def test_a_stream_tells_a_run_of_another_process_to_its_end(items: sa.Engine) -> None:
    with served(items) as server, server.client() as client, ExitStack() as stack:
        run_id = stack.enter_context(running_elsewhere(items))
        with client.stream("GET", f"/runs/{run_id}/events") as response:
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert response.headers["cache-control"] == "no-store"
            told = []
            for message in messages(response):
                told.append(message)
                if message.kind == "state" and message.data["progress"]["changed"] == 7:
                    stack.close()  # the gate opens
    kinds = [message.kind for message in told]
    assert kinds[0] == "event"
    assert kinds[-1] == "end"
    assert [m.data["action"] for m in told if m.kind == "event"] == ["run_started", "completed"]
    assert next(m.data["message"] for m in told if m.kind == "log").startswith("run started by cli on ")
    assert told[-1].data["state"] == "succeeded"
    assert told[-1].data["progress"] | {"rowsRead": 0} == {
        "rowsRead": 0,
        "changed": 19,
        "unchanged": 0,
        "held": 1,
        "vanished": 0,
        "deferred": 0,
    }
    assert changes(items) == ONCE


def test_a_stream_tells_what_the_runner_says(items: sa.Engine) -> None:
    with served(items) as server, server.client() as client, running_elsewhere(items) as run_id:
        with client.stream("GET", f"/runs/{run_id}/events") as response:
            states = (message.data for message in messages(response) if message.kind == "state")
            pulse = next(state["pulse"] for state in states if state["pulse"] is not None)
        assert client.get(f"/runs/{run_id}").json()["pulse"].keys() == pulse.keys()
    said = {"phase": "migrating", "done": 7, "total": 20, "waiting": None, "batchSize": 1, "workers": 1}
    said |= {"cluster": None}
    assert pulse == {"at": pulse["at"], **said}


def test_a_stream_goes_on_where_it_broke_off(items: sa.Engine) -> None:
    with served(items) as server, server.client() as client:
        run_id = client.post("/run/002-increment", params={"wait": 30}).json()["run"]["id"]
        whole = follow(client, run_id)
        for place, message in enumerate(whole[:-1]):
            assert follow(client, run_id, message.id) == whole[place + 1 :]
        seen_the_end = client.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": whole[-1].id})
        assert seen_the_end.status_code == 204
        wrong = client.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": "yesterday"})
        assert wrong.status_code == 422


def test_a_hundred_streams_cost_one_question_a_tick_and_leave_the_api_answering(items: sa.Engine) -> None:
    with served(items) as server, ExitStack() as stack, httpx.Client(timeout=PATIENCE) as client:
        headers = {"Authorization": "Bearer ada-token"}
        run_id = stack.enter_context(running_elsewhere(items))
        url = f"{server.url}/migration/runs/{run_id}/events"
        limits = httpx.Limits(max_connections=LISTENERS + 10)
        many = stack.enter_context(httpx.Client(timeout=PATIENCE, headers=headers, limits=limits))
        streams = [messages(stack.enter_context(many.stream("GET", url))) for _ in range(LISTENERS)]
        for stream in streams:
            while next(stream).kind != "state":
                pass
        assert client.get(f"{server.url}/migration/status", headers=headers).status_code == 200
        with counted(server.migrator) as sent:
            began = time.monotonic()
            for _ in range(20):
                assert client.get(f"{server.url}/migration/list", headers=headers).status_code == 200
            wait_for(lambda: time.monotonic() > began + 2.5 * following.TICK_SECONDS, PATIENCE, "a few ticks")
            ticks = (time.monotonic() - began) / following.TICK_SECONDS
        questions = [each for each in sent if "system_migration_ledger" in each]
        assert 1 <= len(questions) <= ticks + 1
        assert sent == questions
        with counted(server.migrator) as sent:
            assert client.post(f"{server.url}/migration/runs/{run_id}/pause", headers=headers).status_code == 202
            for stream in streams:
                assert next(each for each in stream if each.kind == "event").data["action"] == "pause_asked"
        read = [each for each in sent if "system_migration_event.id > " in each]
        assert len(read) == 1  # for all of them


@pytest.mark.databases("sqlite")
def test_nothing_is_asked_while_nobody_listens(items: sa.Engine) -> None:
    with served(items) as server, server.client() as client, running_elsewhere(items) as run_id:
        with counted(server.migrator) as sent:
            with client.stream("GET", f"/runs/{run_id}/events") as response:
                assert next(messages(response)).kind == "event"
            assert sent
            silence = 3 * following.TICK_SECONDS
            last = time.monotonic()

            def silent() -> bool:
                nonlocal last
                if sent:
                    last = time.monotonic()
                    sent.clear()
                return time.monotonic() - last > silence

            wait_for(silent, PATIENCE, "a few ticks without a statement")


@pytest.mark.databases("sqlite")
def test_a_silent_stream_says_that_it_is_there(items: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "HEARTBEAT_SECONDS", 0.05)
    with served(items) as server, server.client() as client, running_elsewhere(items) as run_id:
        with client.stream("GET", f"/runs/{run_id}/events") as response:
            assert next(line for line in response.iter_lines() if line.startswith(":")) == ": still here"


@pytest.mark.databases("sqlite")
def test_a_stream_ends_after_a_while_so_that_rights_are_looked_at_again(
    items: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "STREAM_SECONDS", 0.2)
    with served(items) as server, running_elsewhere(items) as run_id:
        with server.client("eve-token") as client:
            broken = follow(client, run_id)
            assert {message.kind for message in broken} == {"event", "state"}  # it ended before the run did
            server.developers.dismiss("eve-token")
            again = client.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": broken[-1].id})
            assert again.status_code == 403


@pytest.mark.databases("sqlite")
def test_a_database_that_is_away_ends_no_stream(items: sa.Engine) -> None:
    """The poller is asked here without a server, so that its database can be taken away."""

    async def listen(migrator: Migrator, run_id: str) -> list[bytes]:
        poller = Poller(migrator, tick=0.01)
        view = migrator.run_by_id(run_id)
        failures = 0

        def follow(ids: Any) -> Any:
            nonlocal failures
            failures += 1
            if failures < 5:
                raise sa.exc.OperationalError("SELECT", {}, Exception("away"))
            if Increment.gate is not None:
                Increment.gate.opened.set()
            return type(migrator).follow(migrator, ids)

        migrator.follow = follow  # type: ignore[method-assign]
        return [message async for message in poller.stream(view, Cursor())]

    with Migrator(items, Registry([Increment]), Settings(environment="staging")) as migrator:
        with running_elsewhere(items) as run_id:
            told = asyncio.run(listen(migrator, run_id))
    assert b"event: end" in told[-1]


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("text", "cursor"),
    [(None, Cursor()), ("", Cursor()), ("3.14", Cursor(3, 14)), ("3.14.end", Cursor(3, 14, end=True))],
)
def test_a_cursor_is_read_as_it_is_written(text: str | None, cursor: Cursor) -> None:
    assert parse_cursor(text) == cursor
    assert parse_cursor(str(cursor)) == cursor


@pytest.mark.parametrize("text", ["1", "1.", "a.b", "-1.2", "1.2.3", "1.2.end\n", "9" * 19 + ".1", "１.2"])
def test_what_never_was_a_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_cursor(text)
