"""Where migrations stand, for Prometheus: read from the tracking tables at each scrape, whichever process runs what."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from system_migration.migrator import Migrator
from system_migration.records import Followed, MigrationStatus
from system_migration.states import Status
from system_migration.web.openapi import Responses, problems

OF_EACH = ["migration"]
_TEXT = {"schema": {"type": "string"}}
_ANSWERS: Responses = {
    200: {
        "description": "Metrics, as text or as OpenMetrics",
        "content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
    },
    **problems(),
}


def add_metrics(router: APIRouter, migrator: Migrator) -> None:
    """Add the route, with a registry of its own: the metrics of the host's process are the host's to serve."""
    registry = CollectorRegistry()
    registry.register(Standing(migrator))

    @router.get("/metrics", summary="Where every migration stands, for Prometheus", responses=_ANSWERS)
    def metrics(request: Request) -> Response:
        try:
            encode, media_type = choose_encoder(request.headers.get("accept", ""))
        except TypeError:  # it stumbles over a version that is no number
            encode, media_type = choose_encoder("")
        return Response(encode(registry), media_type=media_type)


class Standing(Collector):
    """Three SELECTs a scrape: where each migration stands, its newest run, and how fast those are that run.

    And a look at Alembic's table while a migration that waits for a schema revision has yet to start.
    """

    def __init__(self, migrator: Migrator) -> None:
        self._migrator = migrator

    def describe(self) -> list[Metric]:
        """Nothing: asked at the start, when no database may be there yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now. Raises what `Migrator.status` raises."""
        found = self._migrator.status().migrations
        runs = self._migrator.follow([each.run_id for each in found if each.run_id is not None])
        yield from _statuses(found)
        yield from _rows(found)
        yield from _runners(found, datetime.now(UTC))
        yield from _runs(runs, datetime.now(UTC))
        going = [each.name for each in found if each.status is Status.RUNNING and not each.stale]
        rate = _gauge("rate_rows_per_second", "Rows a second that it committed in about the last minute")
        for name, rows in self._migrator.rates(going).items():
            rate.add_metric([name], rows)
        yield rate


def _gauge(name: str, text: str, labels: list[str] = OF_EACH) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"system_migration_{name}", text, labels=labels)


def _statuses(found: list[MigrationStatus]) -> Iterator[Metric]:
    count = _gauge("migrations", "Migrations in each status", ["status"])
    status = _gauge("status", "1 for the status in which a migration is", ["migration", "status"])
    verified = _gauge("verified", "1 where verification has proven the result")
    for each in Status:
        count.add_metric([each.value], sum(one.status is each for one in found))
        for one in found:
            status.add_metric([one.name, each.value], one.status is each)
    for one in found:
        verified.add_metric([one.name], one.verified)
    yield from (count, status, verified)


def _rows(found: list[MigrationStatus]) -> Iterator[Metric]:
    changed = CounterMetricFamily(
        "system_migration_rows_changed", "Rows that the current generation changed", labels=OF_EACH
    )
    held = _gauge("rows_held", "Rows that are held as issues")
    for each in found:
        undone = each.status is Status.ROLLED_BACK  # what it processed then was restored, and a generation begins
        changed.add_metric([each.name], 0 if undone else each.records_processed)
        held.add_metric([each.name], each.issues)
    yield from (changed, held)


def _runners(found: list[MigrationStatus], now: datetime) -> Iterator[Metric]:
    """Of what runs: whether its runner is gone, and when it was last heard of."""
    stale = _gauge("stale", "1 where a migration is RUNNING and its runner is gone")
    age = _gauge("lease_age_seconds", "Seconds since the runner of a RUNNING migration was last heard of")
    for each in found:
        stale.add_metric([each.name], each.stale)
        if each.status is Status.RUNNING and each.pulse is not None:
            age.add_metric([each.name], max(0.0, (now - each.pulse.at).total_seconds()))
    yield from (stale, age)


def _runs(runs: list[Followed], now: datetime) -> Iterator[Metric]:
    begun = _gauge("last_run_timestamp_seconds", "When the newest run began")
    took = _gauge("run_duration_seconds", "How long the newest run took, or takes so far")
    for each in runs:
        run = each.run
        begun.add_metric([run.migration], run.started_at.timestamp())
        took.add_metric([run.migration], max(0.0, ((run.finished_at or now) - run.started_at).total_seconds()))
    yield from (begun, took)
