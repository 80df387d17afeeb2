"""The screen of a run whose process is killed: it says so as soon as the lease is over, and what to do next."""

from __future__ import annotations

import time

import pytest

from tests.crash.harness import ENVIRONMENT, Gate, Job
from tests.crash.subjects import InPlace, Items
from tests.crash.test_takeover import stop_in_transform
from tests.crash.waiting import wait_until
from tests.web.screens import buttons, part, words
from tests.web.serving import messages, served

LEASE_SECONDS = 1.2


@pytest.mark.databases("sqlite", "postgresql")
def test_a_killed_runner_is_seen_within_seconds_with_the_next_step(items: Items, gate: Gate) -> None:
    with served(items.engine, InPlace, environment=ENVIRONMENT) as server, server.browser() as browser:
        with Job(items.url, InPlace, lease_seconds=LEASE_SECONDS).start(stop_in_transform(gate)) as runner:
            runner.wait_for(gate)
            (run,) = server.migrator.history()
            wait_until(lambda: server.migrator.run_by_id(run.id).pulse is not None)
            before = browser.get(f"/runs/{run.id}")
            assert "RUNNING" in words(part(before, "state"))
            assert "0 of 6 rows · 0 %" in words(part(before, "progress"))
            assert buttons(before) == ["pause", "cancel"]
            with browser.stream("GET", f"/runs/{run.id}/events") as stream:
                news = (message for message in messages(stream) if message.kind == "state")
                next(news)
                runner.kill()
                killed = time.monotonic()
                assert any("STALE" in words(part(browser.get(f"/runs/{run.id}"), "state")) for _ in news)
                assert time.monotonic() - killed < LEASE_SECONDS + 3
        page = browser.get(f"/runs/{run.id}")
        state = words(part(page, "state"))
        assert "STALE" in state
        assert "Its runner is gone." in state
        assert "it was last heard of at" in state
        assert "Next: continue it." in state
        assert buttons(page)[0] == "run"
        assert "Continue the run" in state
        assert 'data-announce="This run: stale"' in page.text
        assert "data-stream" in page.text  # somebody else may take over, and is followed then
        form = browser.get(f"/m/{run.migration}/start?verb=run&run={run.id}&dryRun=false")
        assert form.status_code == 200
