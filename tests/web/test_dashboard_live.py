"""The event streams of the screens: cheap for any number of listeners, silent without, and never told the past."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

import httpx
import pytest
import sqlalchemy as sa

from system_migration.store import tables
from system_migration.web.dashboard import watching
from system_migration.web.following import Poller
from system_migration.web.serving import Serving
from tests.support.host import wait_for
from tests.web.serving import PATIENCE, Message, Served, messages, served
from tests.web.test_dashboard_run import start
from tests.web.test_following import counted, running_elsewhere

pytestmark = pytest.mark.databases("sqlite", "postgresql")
LISTENERS = 50


def test_any_number_of_overviews_costs_one_question_a_tick(items: sa.Engine) -> None:
    limits = httpx.Limits(max_connections=LISTENERS + 5)
    with served(items) as server, server.browser(limits=limits) as browser, ExitStack() as stack:
        server.migrator.skip("001-mark", "so that there is something to ask for")
        streams = [messages(stack.enter_context(browser.stream("GET", "/events"))) for _ in range(LISTENERS)]
        for stream in streams:
            assert next(stream).kind == "state"
        with counted(server.migrator) as sent:
            began = time.monotonic()
            wait_for(lambda: time.monotonic() > began + 2.5 * watching.TICK_SECONDS, PATIENCE, "a few ticks")
            ticks = (time.monotonic() - began) / watching.TICK_SECONDS
        assert 1 <= len(sent) <= ticks + 1


def test_a_change_is_told_to_every_overview(items: sa.Engine) -> None:
    with served(items) as server, server.browser() as browser, ExitStack() as stack:
        streams = [messages(stack.enter_context(browser.stream("GET", "/events"))) for _ in range(3)]
        assert [next(streams[0]).kind, next(streams[0]).kind] == ["state", "state"]  # as it comes, and the first look
        for stream in streams[1:]:
            assert next(stream).kind == "state"
        server.migrator.skip("001-mark", "not here")
        for stream in streams:
            message = next(stream)
            assert (message.kind, message.data) == ("state", {})


@pytest.mark.databases("sqlite")
def test_nothing_is_asked_while_no_overview_is_open(items: sa.Engine) -> None:
    with served(items) as server, server.browser() as browser:
        with browser.stream("GET", "/events") as response:
            assert response.headers["x-accel-buffering"] == "no"  # or a proxy keeps the messages until there are many
            assert next(messages(response)).kind == "state"
        expect_silence(server, 2.5 * watching.TICK_SECONDS)
        with browser.stream("GET", "/events") as response:
            found = messages(response)
            assert next(found).kind == "state"
            server.migrator.skip("001-mark", "not here")
            assert next(found).kind == "state"


def expect_silence(server: Served, seconds: float) -> None:
    """Nothing is asked for so long; before that, what was under way may end."""
    with counted(server.migrator) as sent:
        seen, since = 0, time.monotonic()

        def silent() -> bool:
            nonlocal seen, since
            if len(sent) != seen:
                seen, since = len(sent), time.monotonic()
            return time.monotonic() > since + seconds

        wait_for(silent, PATIENCE, "silence")


@pytest.mark.databases("sqlite")
def test_streams_end_when_the_server_stops(items: sa.Engine) -> None:
    with served(items) as server, server.browser() as browser, running_elsewhere(items) as run_id, ExitStack() as stack:
        paths = "/events", f"/runs/{run_id}/events"
        streams = [messages(stack.enter_context(browser.stream("GET", path))) for path in paths]
        for stream in streams:
            assert next(stream).kind == "state"
        poller_of(server).close()  # what a signal to the server does first
        for stream in streams:
            assert all(message.kind == "state" for message in stream)


def poller_of(server: Served) -> Poller:
    """The poller that the doors of this server share."""
    (found,) = [each.poller for each in Serving._all.values() if each.migrator is server.migrator]
    return found


@pytest.mark.databases("sqlite")
def test_a_database_that_goes_away_is_one_line_in_the_log(items: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    with served(items) as server, server.browser() as browser, browser.stream("GET", "/events") as response:
        stream = messages(response)
        assert [next(stream).kind, next(stream).kind] == ["state", "state"]
        asked = 0

        def broken() -> None:
            nonlocal asked
            asked += 1
            raise OSError("away")

        status, server.migrator.status = server.migrator.status, broken  # type: ignore[method-assign, assignment]
        wait_for(lambda: asked >= 3, PATIENCE, "three looks")
        server.migrator.status = status  # type: ignore[method-assign]
        server.migrator.skip("001-mark", "not here")
        assert next(stream).kind == "state"
    said = [record.getMessage() for record in caplog.records if record.name == "system_migration.web"]
    assert said == ["watching statuses: OSError"]


def test_a_screen_is_not_told_what_it_shows_already(items: sa.Engine) -> None:
    with served(items) as server, server.browser() as browser, running_elsewhere(items) as run_id:
        with browser.stream("GET", f"/runs/{run_id}/events") as response:
            first = next(messages(response))
        assert first.kind == "state"
        with browser.stream("GET", f"/runs/{run_id}/events", headers={"Last-Event-ID": "0.0"}) as response:
            assert next(messages(response)).kind in ("log", "event")


def test_who_is_dismissed_reads_nothing_in_a_stream_that_is_open(items: sa.Engine) -> None:
    with served(items) as server, server.browser() as browser, running_elsewhere(items) as run_id:
        past = {"Last-Event-ID": "0.0"}
        with browser.stream("GET", f"/runs/{run_id}/events", headers=past) as response:
            stream = messages(response)
            told = [next(stream)]
            server.developers.dismiss("ada-token")
            add_lines(items, run_id, 3)
            while sum(message.kind == "log" for message in told) < 3 or told[-1].kind != "state":
                told.append(next(stream))
        assert browser.get(f"/runs/{run_id}").status_code == 403
    assert {"event", "log", "state"} == {message.kind for message in told}
    assert [message.data for message in told] == [{}] * len(told)


def test_the_end_is_told_once(items: sa.Engine) -> None:
    with served(items) as server, server.browser() as browser:
        path = f"/runs/{start(server, '/run/001-mark')}/events"
        with browser.stream("GET", path) as response:
            told = list(messages(response))
        assert [message.kind for message in told] == ["end"]
        assert browser.get(path, headers={"Last-Event-ID": told[0].id}).status_code == 204


@pytest.mark.databases("sqlite")
def test_ten_thousand_lines_leave_no_trace_in_the_server(items: sa.Engine) -> None:
    """What is kept for listeners are the lines of one tick, whatever has gone through the stream."""
    with served(items) as server, server.browser() as browser, running_elsewhere(items) as run_id:
        with browser.stream("GET", f"/runs/{run_id}/events") as response:
            stream = messages(response)
            assert next(stream).kind == "state"
            seen = 0
            for _ in range(5):
                add_lines(items, run_id, 2_000)
                seen += len(lines_of(stream, 2_000))
            assert seen == 10_000
            kept = kept_entries(server)
        assert kept <= 2_000
        wait_for(lambda: kept_entries(server) == 0, PATIENCE, "the stream to be forgotten")


def add_lines(engine: sa.Engine, run_id: str, count: int) -> None:
    with engine.begin() as connection:
        at = connection.execute(sa.select(tables.run.c.started_at).where(tables.run.c.id == run_id)).scalar_one()
        line = {"run_id": run_id, "at": at, "level": "INFO", "message": "x" * 200}
        connection.execute(sa.insert(tables.log), [line] * count)


def lines_of(stream: Iterator[Message], count: int) -> list[Message]:
    """The next so many lines of the log."""
    return list(islice((message for message in stream if message.kind == "log"), count))


def kept_entries(server: Served) -> int:
    """How many lines and events the poller of the server keeps for its listeners."""
    pages = [page for channel in poller_of(server)._channels.values() for page in channel.pages.values()]
    return sum(len(page.result()) for page in pages if page.done())
