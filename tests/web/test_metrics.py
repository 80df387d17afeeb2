"""What Prometheus is told: read from the tables at each scrape, so the same from whichever process is asked."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import prometheus_client
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from system_migration import Migrator, Registry, RunOptions, Settings, Status
from system_migration.migration import SilentProgress
from system_migration.store.database import Database
from system_migration.web import create_router
from system_migration.web.metrics import Standing, _runners
from tests.unit.cli.stub import PULSE, STATUS
from tests.web.serving import Increment, Mark, Served, gated, make_items, served

Samples = dict[str, dict[tuple[str, ...], float]]
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
UNITS = ("_seconds", "_rows_per_second", "_total")
"""What Prometheus's own rules ask for: base units as suffixes, `_total` of counters alone."""


def scrape(api: Served, accept: str = "") -> tuple[str, str]:
    with api.client() as client:
        answer = client.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    return answer.headers["content-type"], answer.text


def read(text: str, parser: Any = plain) -> Samples:
    found: Samples = {}
    for family in parser(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An API of two migrations, of which the first is done, the second failed half-way."""
    engine = sa.create_engine(f"sqlite:///{tmp_path_factory.mktemp('metrics') / 'm.sqlite'}")
    make_items(engine)
    with served(engine, Mark, Strict) as api:
        with api.client() as client:
            client.post("/run", params={"wait": 30, "maxIssues": 0})
        yield api
    engine.dispose()


class Strict(Increment):
    max_issues = 0


def test_where_the_migrations_stand(done: Served) -> None:
    found = read(scrape(done)[1])
    standing = found["system_migration_status"]
    assert len(standing) == 2 * len(Status)
    assert {labels for labels, value in standing.items() if value == 1} == {
        ("001-mark", "COMPLETED"),
        ("002-increment", "FAILED"),
    }
    assert found["system_migration_migrations"] == {(each.value,): 0 for each in Status} | {
        ("COMPLETED",): 1,
        ("FAILED",): 1,
    }
    assert found["system_migration_rows_changed_total"] == {("001-mark",): 20, ("002-increment",): 19}
    assert found["system_migration_rows_held"] == {("001-mark",): 0, ("002-increment",): 1}
    assert found["system_migration_stale"] == {("001-mark",): 0, ("002-increment",): 0}
    assert found["system_migration_verified"] == {("001-mark",): 0, ("002-increment",): 0}
    for value in found["system_migration_last_run_timestamp_seconds"].values():
        assert abs(time.time() - value) < 600
    assert all(0 <= value < 60 for value in found["system_migration_run_duration_seconds"].values())
    assert found.get("system_migration_lease_age_seconds", {}) == {}


def test_both_formats_say_the_same_as_they_are_asked_for(done: Served) -> None:
    kind, text = scrape(done)
    other_kind, other = scrape(done, OPENMETRICS)
    assert kind.startswith("text/plain; version=0.0.4")
    assert other_kind.startswith("application/openmetrics-text; version=1.0.0")
    assert other.endswith("# EOF\n")
    assert read(text) == read(other, openmetrics)


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=abc", "text/plain;version=x", "*/*", "%"])
def test_an_odd_wish_is_answered_in_plain_text(done: Served, accept: str) -> None:
    assert scrape(done, accept)[0].startswith("text/plain")


def test_names_and_texts_are_as_prometheus_lints_them(done: Served) -> None:
    for family in plain(scrape(done)[1]):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert re.fullmatch(r"system_migration(_[a-z]+)+", name)
        assert family.documentation
        assert name.endswith("_total") == (family.type == "counter")
        assert not re.search(r"_(count|sum|bucket|info|minutes|milliseconds|ms|gauge|counter)(_|$)", name)
        assert ("second" in name) == name.endswith(UNITS[:2])


def test_what_the_host_counts_itself_is_not_in_it(done: Served) -> None:
    assert "python_info" in prometheus_client.generate_latest().decode()
    assert set(read(scrape(done)[1])) == {name for name in read(scrape(done)[1]) if name.startswith("system_migration")}


def test_a_scrape_takes_no_parameter(done: Served) -> None:
    with done.client() as client:
        assert client.get("/metrics", params={"name[]": "x"}).status_code == 422


def test_a_run_that_goes_on_is_seen_at_work_and_with_its_rate(items: sa.Engine) -> None:
    with served(items, Increment) as api, gated(row=8), api.client() as client:
        client.post("/run", params={"batchSize": 2, "workers": 1})
        seen = _until(api, lambda found: found["system_migration_rows_changed_total"][("002-increment",)] >= 6)
        assert seen["system_migration_status"][("002-increment", "RUNNING")] == 1
        assert seen["system_migration_stale"] == {("002-increment",): 0}
        assert seen["system_migration_rate_rows_per_second"][("002-increment",)] > 0
        assert seen["system_migration_run_duration_seconds"][("002-increment",)] >= 0


@pytest.mark.databases("sqlite")
def test_rows_changed_only_grow_in_a_generation_and_begin_at_nothing(items: sa.Engine) -> None:
    class Undone(Increment):
        rollbackable = journal = True

    seen: list[float] = []

    class Scrapes(SilentProgress):
        def rows(self, done: int, total: int | None, held: int) -> None:
            seen.extend(each.value for each in changed(one).samples)

    def changed(migrator: Migrator) -> Metric:
        return next(each for each in Standing(migrator).collect() if each.name == "system_migration_rows_changed")

    with Migrator(items, Registry([Undone]), Settings(environment="staging"), progress=Scrapes()) as one:
        one.run()
        one.rollback(Undone.name)
        assert [each.value for each in changed(one).samples] == [0]
        seen.clear()
        one.run(Undone.name, options=RunOptions(batch_size=5, workers=1))
    assert (seen[0], seen[-1]) == (0, 19)
    assert seen == sorted(seen)


def test_a_runner_that_is_not_heard_of_shows_by_its_age_and_one_that_is_gone_as_stale() -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    pulse = replace(PULSE, at=now - timedelta(seconds=25))
    going = replace(STATUS, name="001-x", status=Status.RUNNING, pulse=pulse)
    gone = replace(going, name="002-x", stale=True)
    ahead = replace(going, name="003-x", pulse=replace(PULSE, at=now + timedelta(seconds=5)))  # by the other's clock
    stale, age = _runners([going, gone, ahead, replace(STATUS, name="004-x", pulse=pulse)], now)
    assert {one.labels["migration"]: one.value for one in stale.samples} == {
        "001-x": 0, "002-x": 1, "003-x": 0, "004-x": 0,
    }  # fmt: skip
    assert {one.labels["migration"]: one.value for one in age.samples} == {"001-x": 25, "002-x": 25, "003-x": 0}


def _until(api: Served, holds: Any) -> Samples:
    end = time.monotonic() + 20
    while True:
        found = read(scrape(api)[1])
        if holds(found):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.01)


def test_a_database_in_which_nothing_was_ever_written_is_all_pending(items: sa.Engine) -> None:
    with served(items, Mark) as api:
        found = read(scrape(api)[1])
    assert found["system_migration_status"][("001-mark", "PENDING")] == 1
    assert not sa.inspect(items).has_table("system_migration_meta")


@pytest.mark.databases("sqlite")
def test_a_scrape_is_three_selects_however_many_migrations_there_are(items: sa.Engine) -> None:
    many = [type(f"One{n}", (Mark,), {"name": f"{n:03}-mark"}) for n in range(1, 9)]
    with Migrator(items, Registry(many), Settings(environment="staging")) as migrator:
        migrator.run(options=RunOptions())
        database: Database = migrator._database
        said: list[str] = []
        sa.event.listen(database.engine, "before_cursor_execute", lambda *given: said.append(str(given[2])))
        metrics = list(Standing(migrator).collect())
    assert len(metrics) == 10
    assert len([each for each in said if each.lstrip().upper().startswith("SELECT")]) <= 3
    assert not [each for each in said if each.lstrip().upper().startswith(("UPDATE", "INSERT", "DELETE"))]


def test_two_routers_in_one_process_do_not_meet(items: sa.Engine) -> None:
    app = FastAPI()
    with Migrator(items, Registry([Mark]), Settings(environment="staging")) as migrator:
        for prefix in ("/one", "/two"):
            app.include_router(create_router(migrator, require_developer=lambda: "ada"), prefix=prefix)
