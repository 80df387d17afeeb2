"""Spans and metrics of runs, as the SDK of OpenTelemetry keeps them in memory."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import StatusCode
from sqlalchemy import Engine

from system_migration import (
    Background,
    Migration,
    MigrationContext,
    MigrationResult,
    Migrator,
    Registry,
    Row,
    RowIssue,
    RunOptions,
    telemetry,
)
from system_migration.errors import Interrupted, LeaseLost, MigrationFailed, Refused
from system_migration.facts import BatchCommitted, Fact, WhichRun
from system_migration.migration import SilentProgress
from system_migration.states import RunKind
from tests.db.test_workbench import Fill, Increment, execute, make_numbers, migrator, stored_status

pytestmark = pytest.mark.databases("sqlite")
PATIENCE = 20.0
BY_TWO = RunOptions(batch_size=2, workers=1)
NAME = Increment.name


@dataclass
class Telemetered:
    """What was exported."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        found = data.resource_metrics[0].scope_metrics[0] if data is not None else None
        return {metric.name: list(metric.data.data_points) for metric in (found.metrics if found else ())}

    def units(self) -> dict[str, str | None]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return {metric.name: metric.unit for metric in data.resource_metrics[0].scope_metrics[0].metrics}


def set_up(monkeypatch: pytest.MonkeyPatch, tracers: TracerProvider, meters: MeterProvider) -> None:
    """As a host does it, but for this test alone: what is set once for a process cannot be taken back."""
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracers)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: meters)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Telemetered]:
    made = Telemetered()
    tracers, meters = TracerProvider(), MeterProvider([made.reader])
    tracers.add_span_processor(SimpleSpanProcessor(made.exporter))
    set_up(monkeypatch, tracers, meters)
    yield made
    meters.shutdown()
    tracers.shutdown()


class Picky(Increment):
    max_issues = 1

    def transform(self, row: Row) -> dict[str, Any]:
        if row.y == 20:
            raise RowIssue("unlucky", "twenty stays as it is")
        return {"y": row.y + 1}


class Strict(Picky):
    max_issues = 0


def run(engine: Engine, one: Migrator) -> None:
    one.run(options=BY_TWO)
    assert one.flush(PATIENCE)


def of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_run_is_a_span_with_its_batches_in_it(engine: Engine, told: Telemetered) -> None:
    make_numbers(engine, 5)
    one = migrator(engine, Picky)
    run(engine, one)
    (span,) = told.spans("migration.run")
    assert of(span) == {
        "system_migration.migration": NAME,
        "system_migration.run.id": one.history(NAME)[0].id,
        "system_migration.run.kind": "run",
        "deployment.environment.name": "test",
        "system_migration.generation": 1,
        "system_migration.run.taken_over": False,
        "system_migration.run.outcome": "succeeded",
        "system_migration.rows.processed": 4,
        "system_migration.rows.held": 1,
    }
    assert span.status.status_code is StatusCode.UNSET
    batches = told.spans("migration.batch")
    assert [of(batch)["system_migration.rows.read"] for batch in batches] == [2, 2, 1]
    assert [of(batch)["system_migration.rows.held"] for batch in batches] == [1, 0, 0]
    assert all(batch.parent is not None and batch.parent.span_id == span.context.span_id for batch in batches)
    assert all(span.start_time <= batch.end_time <= span.end_time for batch in batches)  # type: ignore[operator]
    assert all(batch.start_time < batch.end_time for batch in batches)  # type: ignore[operator]


def test_a_run_joins_what_its_starter_is_in(engine: Engine, told: Telemetered) -> None:
    make_numbers(engine, 2)
    with trace.get_tracer_provider().get_tracer("host").start_as_current_span("POST /migration/run") as request:
        run(engine, migrator(engine, Picky))
    (span,) = told.spans("migration.run")
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id


def test_a_run_in_the_background_joins_the_request_that_started_it(engine: Engine, told: Telemetered) -> None:
    make_numbers(engine, 2)
    one = migrator(engine, Picky)
    with trace.get_tracer_provider().get_tracer("host").start_as_current_span("request") as request:
        Background(one).start(lambda: run(engine, one)).result(PATIENCE)
    (span,) = told.spans("migration.run")
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id


def test_a_failure_is_the_class_of_ours_and_no_text(engine: Engine, told: Telemetered) -> None:
    make_numbers(engine, 4)
    one = migrator(engine, Strict)
    with pytest.raises(MigrationFailed):
        run(engine, one)
    assert one.flush(PATIENCE)
    (span,) = told.spans("migration.run")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "MigrationFailed")
    assert of(span)["error.type"] == "MigrationFailed"
    assert of(span)["system_migration.run.outcome"] == "failed"
    assert "rows held" not in str(of(span))
    assert span.events == ()


def test_a_clean_stop_is_no_error_and_its_takeover_says_that_it_is_one(engine: Engine, told: Telemetered) -> None:
    make_numbers(engine, 4)
    first = migrator(engine, Increment)

    class Stops(Increment):
        def transform(self, row: Row) -> dict[str, Any]:
            first.request_stop(15)
            return {"y": row.y + 1}

    first.registry = Registry([Stops])
    with pytest.raises(Interrupted):
        run(engine, first)
    assert first.flush(PATIENCE)
    second = migrator(engine, Stops)
    second.run(options=RunOptions(accept_code_change=True))
    assert second.flush(PATIENCE)
    stopped, taken_over = told.spans("migration.run")
    assert stopped.status.status_code is StatusCode.UNSET
    assert [of(span)["system_migration.run.outcome"] for span in (stopped, taken_over)] == ["interrupted", "succeeded"]
    assert [of(span)["system_migration.run.taken_over"] for span in (stopped, taken_over)] == [False, True]
    assert of(stopped)["system_migration.run.id"] == of(taken_over)["system_migration.run.id"]


def test_a_run_that_another_runner_took_over_ends_here_as_superseded(engine: Engine, told: Telemetered) -> None:
    class Overtaken(Increment):
        def transform(self, row: Row) -> dict[str, Any]:
            execute(engine, "UPDATE system_migration_run SET fence = fence + 1")
            return {"y": row.y + 1}

    make_numbers(engine, 4)
    one = migrator(engine, Overtaken)
    with pytest.raises(LeaseLost):
        run(engine, one)
    assert one.flush(PATIENCE)
    (span,) = told.spans("migration.run")
    assert (of(span)["system_migration.run.outcome"], of(span)["error.type"]) == ("superseded", "LeaseLost")
    assert told.spans("migration.batch") == []


def test_a_run_that_is_superseded_as_it_fails_ends_here_too(engine: Engine, told: Telemetered) -> None:
    class Overtaken(Migration):
        name = "001-overtaken"

        def up(self, context: MigrationContext) -> MigrationResult:
            raise ValueError("while another runner takes over")

    class Meanwhile(SilentProgress):
        def phase(self, migration: str, phase: str) -> None:
            execute(engine, "UPDATE system_migration_run SET fence = fence + 1")

    one = migrator(engine, Overtaken, progress=Meanwhile())
    with pytest.raises(LeaseLost):
        one.run()
    assert one.flush(PATIENCE)
    (span,) = told.spans("migration.run")
    assert (of(span)["system_migration.run.outcome"], of(span)["error.type"]) == ("superseded", "LeaseLost")


def test_the_rate_is_that_of_the_last_minute() -> None:
    which = WhichRun(NAME, "test", "r", RunKind.RUN, 1, "ada", "here")
    began = datetime(2026, 11, 24, 12, tzinfo=UTC)
    going = telemetry._Going(trace.INVALID_SPAN)
    for second in range(1, 200):
        rows = 1_000 if second < 100 else 10  # a fast first half, of which nothing is left
        at = began + timedelta(seconds=second)
        rate = going.rate(BatchCommitted(which, at, rows, rows, 0, 0, 1.0))
        assert rate == pytest.approx(1_000 if second < 100 else rate)
    assert rate == pytest.approx(10)
    assert len(going.batches) == 61


def test_a_start_that_is_refused_is_a_span_that_says_so(engine: Engine, told: Telemetered) -> None:
    class Refuses(Increment):
        def preflight(self, context: Any) -> None:
            raise Refused("not today.")

    make_numbers(engine, 4)
    one = migrator(engine, Refuses)
    with pytest.raises(Refused):
        run(engine, one)
    assert one.flush(PATIENCE)
    (span,) = told.spans("migration.run")
    assert (of(span)["system_migration.run.outcome"], of(span)["error.type"]) == ("refused", "Refused")


def test_dry_runs_verifications_and_rollbacks_are_spans_of_their_kind(engine: Engine, told: Telemetered) -> None:
    class Undoable(Picky):
        rollbackable = True
        journal = True

    make_numbers(engine, 4)
    one = migrator(engine, Undoable)
    one.run()
    one.verify()
    one.rollback(NAME)
    one.dry_run(NAME)
    assert one.flush(PATIENCE)
    kinds = [of(span)["system_migration.run.kind"] for span in told.spans("migration.run")]
    assert kinds == ["run", "verify", "rollback", "dry-run"]
    assert {of(span)["system_migration.run.outcome"] for span in told.spans("migration.run")} == {"succeeded"}
    assert [of(batch)["system_migration.run.kind"] for batch in told.spans("migration.batch")] == ["run", "rollback"]


def test_what_is_not_sampled_has_no_batches_and_is_counted_all_the_same(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, begun = Telemetered(), []

    class Notes(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            begun.append(span.name)

    class NoRuns(Sampler):
        def should_sample(self, parent: Any, trace_id: int, name: str, *_: Any, **__: Any) -> SamplingResult:
            return SamplingResult(Decision.DROP if name == "migration.run" else Decision.RECORD_AND_SAMPLE)

        def get_description(self) -> str:
            return "all but runs"

    tracers, meters = TracerProvider(sampler=NoRuns()), MeterProvider([made.reader])
    tracers.add_span_processor(Notes())
    set_up(monkeypatch, tracers, meters)
    make_numbers(engine, 4)
    run(engine, migrator(engine, Picky))
    assert begun == []
    assert sum(point.value for point in made.points()["system_migration.rows.changed"]) == 3
    meters.shutdown()


def test_the_metrics_of_a_run(engine: Engine, told: Telemetered) -> None:
    make_numbers(engine, 5)
    run(engine, migrator(engine, Picky))
    points = told.points()
    everywhere = {
        "system_migration.migration": NAME,
        "system_migration.run.kind": "run",
        "deployment.environment.name": "test",
    }
    (changed,) = points["system_migration.rows.changed"]
    (held,) = points["system_migration.rows.held"]
    assert (changed.value, held.value, dict(changed.attributes)) == (4, 1, everywhere)
    assert "system_migration.rows.vanished" not in points
    (seconds,) = points["system_migration.batch.duration"]
    assert (seconds.count, seconds.sum > 0) == (3, True)
    (runs,) = points["system_migration.runs"]
    assert (runs.value, dict(runs.attributes)) == (1, everywhere | {"system_migration.run.outcome": "succeeded"})
    (rate,) = points["system_migration.run.rate"]
    assert rate.value == 0  # it has ended


def test_the_units_are_ucum(engine: Engine, told: Telemetered) -> None:
    make_numbers(engine, 5)
    run(engine, migrator(engine, Picky))
    assert told.units() == {
        "system_migration.rows.changed": "{row}",
        "system_migration.rows.held": "{row}",
        "system_migration.batch.duration": "s",
        "system_migration.run.rate": "{row}/s",
        "system_migration.runs": "{run}",
    }


def test_an_exporter_that_breaks_costs_a_warning_and_no_run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaks(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise ValueError("a secret of the exporter's")

    tracers, meters = TracerProvider(), MeterProvider([InMemoryMetricReader()])
    tracers.add_span_processor(Breaks())
    set_up(monkeypatch, tracers, meters)
    make_numbers(engine, 4)
    one = migrator(engine, Picky)
    run(engine, one)
    assert stored_status(engine, NAME) == "COMPLETED"
    warned = [each.message for each in one.logs(NAME, level="warning")]
    assert warned == ["OpenTelemetry raised ValueError."]
    meters.shutdown()


def test_runs_that_begin_at_once_are_told_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    both, told = threading.Barrier(2), list[Fact]()

    def found() -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)  # until the other one looks too, which it must not
        return told.append

    monkeypatch.setattr(telemetry, "telemetry", found)
    make_numbers(engine, 4)
    one = migrator(engine, Increment, Fill)
    looks = [threading.Thread(target=one.dry_run, args=(each.name,)) for each in (Increment, Fill)]
    for look in looks:
        look.start()
    for look in looks:
        look.join(PATIENCE)
    assert one.flush(PATIENCE)
    assert sorted((type(fact).__name__, fact.run.migration) for fact in told) == [
        (kind, name) for kind in ("Began", "Ended") for name in sorted((Increment.name, Fill.name))
    ]


def test_a_process_that_just_ends_tells_the_end_before_the_sdk_is_shut_down() -> None:
    """The host sets the SDK up after it has imported us, so that Python would call the SDK's last word first."""
    program = (
        "import threading; from system_migration import telemetry, telling\n"
        "from opentelemetry import trace; from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter\n"
        "exporter = ConsoleSpanExporter(formatter=lambda span: span.name + chr(10))\n"
        "provider = TracerProvider(); provider.add_span_processor(BatchSpanProcessor(exporter))\n"
        "trace.set_tracer_provider(provider)\n"
        "listener, may = telemetry.telemetry(), threading.Event()\n"
        "one = telling.Teller('x', lambda fact: fact, lambda fact: (may.wait(20), listener(fact)), print)\n"
        "from tests.unit.test_telling import BEGAN, ENDED\n"
        "one.tell(BEGAN); one.tell(ENDED)\n"
        "flush = telling.flush_all\n"
        "telling.flush_all = lambda *given: (may.set(), flush(*given))  # slow until it is waited for\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["migration.run"], done.stderr


# --- where nobody has set it up --------------------------------------------------------------------------------------


def test_the_api_alone_is_told_nothing() -> None:
    assert telemetry.telemetry() is None


def test_a_run_does_not_import_what_the_host_has_not(tmp_path: Any) -> None:
    database = f"sqlite:///{tmp_path / 'one.sqlite'}"
    engine = sa.create_engine(database)
    make_numbers(engine, 4)
    engine.dispose()
    program = (
        "import sys; from system_migration import *; from system_migration import Migrator, Registry, Settings\n"
        "class One(BatchMigration):\n"
        "    name, table, reads, writes = '001-one', 'number', ('y',), ('y',)\n"
        "    def transform(self, row): return {'y': row.y + 1}\n"
        f"with Migrator(connect({database!r}), Registry([One]), Settings(environment='test')) as one: one.run()\n"
        "print(*(name for name in sys.modules if name.partition('.')[0] in ('opentelemetry', 'prometheus_client')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
