"""Spans and metrics of runs, for a process whose host has set up OpenTelemetry.

OpenTelemetry is not imported here before the host has done so, and nothing is told where it has set up no SDK. The
attributes are named as OpenTelemetry's conventions ask: ours under our own name, `error.type` and
`deployment.environment.name` as they stand there.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from system_migration import facts
from system_migration.facts import BatchCommitted, Began, Ended, Fact, Waits, WhichRun

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import Span, TracerProvider
    from opentelemetry.util.types import AttributeValue

RUN_SPAN, BATCH_SPAN = "migration.run", "migration.batch"
_API = "opentelemetry.trace", "opentelemetry.metrics"
_WINDOW_SECONDS = 60.0
_NO_FAILURE = {facts.SUCCEEDED, facts.PAUSED, facts.INTERRUPTED}


def telemetry() -> Telemetry | None:
    """What tells OpenTelemetry; None where nobody has set up an SDK in this process."""
    if not any(name in sys.modules for name in _API):
        return None
    from opentelemetry import metrics, trace

    providers = trace.get_tracer_provider(), metrics.get_meter_provider()
    if all(type(provider).__module__.startswith(_API) for provider in providers):
        return None  # the stand-ins of the API, which keep nothing
    return Telemetry(*providers)


@dataclass
class _Going:
    """A run that is under way: its span, and the batches of the last minute with the sum of their rows.

    Summed as they come and go: thousands of small ones would else be added up at each of them.
    """

    span: Span
    batches: deque[BatchCommitted] = field(default_factory=deque)
    rows: int = 0

    def rate(self, batch: BatchCommitted) -> float:
        """Rows a second in the last minute, this batch with it."""
        self.batches.append(batch)
        self.rows += batch.rows
        while (batch.at - self.batches[0].at).total_seconds() > _WINDOW_SECONDS:
            self.rows -= self.batches.popleft().rows
        first = self.batches[0]
        seconds = (batch.at - first.at).total_seconds() + first.seconds
        return self.rows / max(seconds, 0.001)


class Telemetry:
    """Told of what happens, one fact after the other, it makes spans and counts. The SDK samples and exports.

    A run's span begins in the context in which the run did: a run that was started over HTTP joins its request.
    """

    def __init__(self, tracers: TracerProvider, meters: MeterProvider) -> None:
        self._tracer = tracers.get_tracer("system_migration")
        self._counts = _Instruments(meters.get_meter("system_migration"))
        self._going: dict[str, _Going] = {}

    def __call__(self, fact: Fact) -> None:
        """Tell OpenTelemetry of one fact."""
        match fact:
            case Began():
                self._begin(fact)
            case BatchCommitted():
                self._batch(fact)
            case Waits():
                if (going := self._going.get(fact.run.run_id)) is not None:
                    attributes = {"system_migration.wait.reason": fact.reason}
                    going.span.add_event("migration.waits", attributes, _nanoseconds(fact.at))
            case Ended():
                self._end(fact)

    def _begin(self, began: Began) -> _Going:
        attributes = _attributes(began.run) | {
            "system_migration.run.id": began.run.run_id,
            "system_migration.generation": began.run.generation,
            "system_migration.run.taken_over": began.taken_over,
        }
        span = self._tracer.start_span(RUN_SPAN, attributes=attributes, start_time=_nanoseconds(began.at))
        going = self._going[began.run.run_id] = _Going(span)
        return going

    def _batch(self, batch: BatchCommitted) -> None:
        self._counts.batch(batch)
        going = self._going.get(batch.run.run_id)
        if going is None:
            return
        self._counts.rate.set(going.rate(batch), _attributes(batch.run))
        if not going.span.is_recording():
            return  # not sampled, so neither are its batches
        from opentelemetry.trace import set_span_in_context

        end = _nanoseconds(batch.at)
        rows = {"read": batch.rows, "changed": batch.changed, "held": batch.held, "vanished": batch.vanished}
        self._tracer.start_span(
            BATCH_SPAN,
            set_span_in_context(going.span),
            attributes=_attributes(batch.run) | {f"system_migration.rows.{name}": of for name, of in rows.items()},
            start_time=end - int(batch.seconds * 1e9),
        ).end(end)

    def _end(self, ended: Ended) -> None:
        from opentelemetry.trace import Status, StatusCode

        # A start that was refused never began.
        going = self._going.get(ended.run.run_id) or self._begin(Began(ended.run, ended.at, taken_over=False))
        del self._going[ended.run.run_id]
        outcome: dict[str, AttributeValue] = {"system_migration.run.outcome": ended.outcome}
        rows: dict[str, AttributeValue] = {
            "system_migration.rows.processed": ended.rows,
            "system_migration.rows.held": ended.held,
        }
        error = None if ended.outcome in _NO_FAILURE else ended.error_type or "MigrationFailed"
        failure: dict[str, AttributeValue] = {} if error is None else {"error.type": error}
        going.span.set_attributes(outcome | rows | failure)
        if error is not None:
            going.span.set_status(Status(StatusCode.ERROR, error))
        going.span.end(_nanoseconds(ended.at))
        self._counts.runs.add(1, _attributes(ended.run) | outcome | failure)
        if going.batches:
            self._counts.rate.set(0.0, _attributes(ended.run))


class _Instruments:
    """What is counted and measured."""

    def __init__(self, meter: Meter) -> None:
        rows = ("changed", "held", "vanished")
        self._rows = {
            name: meter.create_counter(f"system_migration.rows.{name}", "{row}", f"Rows that batches {verb}")
            for name, verb in zip(rows, ("changed", "held as issues", "found gone"), strict=True)
        }
        self._seconds = meter.create_histogram(
            "system_migration.batch.duration", "s", "How long a batch was transformed and written"
        )
        self.rate = meter.create_gauge("system_migration.run.rate", "{row}/s", "Rows a second in about a minute")
        self.runs = meter.create_counter("system_migration.runs", "{run}", "Attempts that ended, by outcome")

    def batch(self, batch: BatchCommitted) -> None:
        """Count a batch."""
        attributes = _attributes(batch.run)
        for name, counter in self._rows.items():
            if rows := getattr(batch, name):
                counter.add(rows, attributes)
        self._seconds.record(batch.seconds, attributes)


def _attributes(run: WhichRun) -> dict[str, AttributeValue]:
    """Those of few values, which a metric may have too."""
    return {
        "system_migration.migration": run.migration,
        "system_migration.run.kind": str(run.kind),
        "deployment.environment.name": run.environment,
    }


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1e6) * 1_000
