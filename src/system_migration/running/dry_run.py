"""Dry run: the real preflight and the real transform, on a sample or on all rows, with nothing written but the report.

It does not take the migration's lease, and never touches the state of the real run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from system_migration import undoing
from system_migration.batch_migration import BatchMigration
from system_migration.batching import keys, writes
from system_migration.batching.executors import Pool, Transformer
from system_migration.batching.keys import Key
from system_migration.batching.target import Target
from system_migration.batching.transform import Held, Outcome
from system_migration.batching.writes import RawRow
from system_migration.errors import Interrupted, Refused
from system_migration.migration import Migration
from system_migration.records import ChangedSample, DryRunReport, HeldSample, RunOptions, empty_report
from system_migration.running import imperative, journalling, rights, table_guards
from system_migration.running.batches import worker_count
from system_migration.running.claim import check_code
from system_migration.running.clustering import cluster
from system_migration.running.contexts import batch_context, call, describe, heed_stop, plain_context
from system_migration.running.preflight import unexpected_rows
from system_migration.running.run_log import RunLog
from system_migration.running.schema_wait import demand_schema
from system_migration.running.workspace import Workspace
from system_migration.schema_changes import SchemaChanges
from system_migration.states import RunKind, Status
from system_migration.store import ledger
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt

SAMPLE_ROWS = 1_000
SAMPLE_SECONDS = 6.0
_SHOWN_SAMPLES = 3
_SHOWN_KEYS = 10
_MASK = "***"
_LONGEST_VALUE = 60

_WRITES_NOT_COVERED = (
    "the writes themselves: constraints, triggers and the time that writing takes",
    "rows that the application changes or adds during the real run",
    "verification",
    "what the migration does through connections of its own, or outside of the database",
)


@dataclass
class _Findings:
    """What the examined rows came to."""

    examined: int = 0
    changed: int = 0
    unchanged: int = 0
    held: dict[Key, str] = field(default_factory=dict)
    samples: list[ChangedSample] = field(default_factory=list)
    seconds: float = 0.0
    journal_bytes: int = 0

    def journal_estimate(self, target: Target, rows: int) -> int | None:
        """The journal of `rows` rows, of which as many change as among those that were examined."""
        if not target.journalled:
            return None
        return self.journal_bytes * rows // self.examined if self.examined else 0

    @property
    def rate(self) -> float | None:
        return self.examined / self.seconds if self.seconds and self.examined else None


@dataclass
class DryRun:
    """A dry run of one migration."""

    workspace: Workspace
    migration: type[Migration]
    options: RunOptions
    log: RunLog
    row: MigrationRow | None
    full: bool = False
    _cluster: Pool | None = None

    def report(self) -> DryRunReport:
        """Run it. A refusal and an error of the migration are part of the report; only a stop signal raises."""
        instance = self.migration()
        try:
            with rights.needed(self.workspace.database.dialect):
                with self.workspace.database.read() as connection:
                    demand_schema(connection, self.migration, self.workspace.schema)
            with (
                cluster(self.workspace, self.migration, self.options, self.log) as self._cluster,
                rights.needed(self.workspace.database.dialect),
            ):
                return self._of_batches(instance) if isinstance(instance, BatchMigration) else self._of_up(instance)
        except Refused as refusal:
            return self._empty(refusal=str(refusal))
        except Interrupted:
            raise
        except Exception as error:
            return self._empty(error=describe(error, self.workspace.database.dialect, self.migration))

    def _empty(self, **values: Any) -> DryRunReport:
        known = {"workers": worker_count(self.options), "rollback": undoing.declaration(self.migration)}
        return empty_report(self.migration.name, **known | values)

    def _of_batches(self, instance: BatchMigration) -> DryRunReport:
        self.workspace.progress.phase(self.migration.name, "preflight")
        with self.workspace.database.read() as connection:
            survey = table_guards.survey(connection, self.workspace.database.dialect, instance, self.options)
            schema, target = survey.schema, survey.target
            if survey.findings.problems:
                return self._empty(refusal=" ".join(survey.findings.problems), warnings=survey.findings.warnings)
            context = batch_context(
                self.workspace, connection, self.log, self.options, target, self._pins(), dry_run=True
            )
            refusal = self._refusal(instance, target, context)
            left = self._left(connection, target)
            rows = connection.execute(target.count(*left)).scalar_one()
            self.workspace.progress.phase(self.migration.name, "dry run")
            findings = self._examine(connection, instance, target, left, rows) if refusal is None else _Findings()
        held = context.foreseen | findings.held
        complete = findings.examined == rows
        return self._empty(
            refusal=refusal,
            rows=rows,
            examined=findings.examined,
            complete=complete,
            would_change=findings.changed,
            would_hold=len(held),
            unchanged=findings.unchanged,
            held=_by_code(held),
            samples=findings.samples,
            rows_per_second=findings.rate,
            estimated_seconds=rows / findings.rate if findings.rate else None,
            journal_bytes=findings.journal_estimate(target, rows),
            schema_changes=schema.planned,
            not_covered=self._not_covered(schema, rows, findings),
            warnings=survey.findings.warnings,
        )

    def _pins(self) -> dict[str, str]:
        return dict(self.row.pins) if self.row else {}

    def _left(self, connection: Connection, target: Target) -> tuple[Key | None, Key | None]:
        """The keys between which a run would still work: without `pending` the ledger knows what is done."""
        if self.row is None or target.pending is not None:
            return None, None
        # Of the attempt, only what names the generation matters to the ledger.
        place = Attempt("", self.row.environment, self.row.name, self.row.generation, RunKind.DRY_RUN, 0)
        bound = keys.decode(self.row.upper_bound) if self.row.upper_bound else None
        return ledger.missing(connection, place, 1)[-1].lower, bound

    def _refusal(self, instance: BatchMigration, target: Target, context: Any) -> str | None:
        try:
            if self.row is not None and self.row.status is not Status.COMPLETED:
                check_code(context.connection, self.migration, self.row, self.options)
            journalling.check(context.connection, instance, target)
            call(instance.preflight, context)
        except Refused as refusal:
            return str(refusal)
        return unexpected_rows(context.connection, instance, target, self.row)

    def _not_covered(self, schema: SchemaChanges, rows: int, findings: _Findings) -> list[str]:
        gaps = list(_WRITES_NOT_COVERED)
        if findings.examined < rows:
            gaps.insert(0, f"transform on the other {rows - findings.examined:,} rows (--full covers them)")
        gaps += [f"the schema change: {change}" for change in schema.planned]
        return gaps

    def _examine(
        self,
        connection: Connection,
        instance: BatchMigration,
        target: Target,
        left: tuple[Key | None, Key | None],
        total: int,
    ) -> _Findings:
        """Transform the rows in key order, all of them or as many as the sample's bounds allow."""
        findings, (lower, upper), size = _Findings(), left, 20
        wanted = total if self.full else min(total, SAMPLE_ROWS)
        transformer = Transformer(type(instance), worker_count(self.options), self.options.processes, self._cluster)
        try:
            while findings.examined < wanted and (self.full or findings.seconds < SAMPLE_SECONDS):
                heed_stop(self.workspace)
                began = self.workspace.clock.monotonic()
                limit = min(size, wanted - findings.examined)
                rows = target.fetch(connection, target.batch(lower, upper, limit, preview=True))
                if not rows:
                    break
                self._note(findings, instance, target, rows, _outcomes(transformer, target, rows))
                findings.seconds += self.workspace.clock.monotonic() - began
                lower, size = target.key_of(rows[-1]), min(SAMPLE_ROWS, size * 2 if findings.seconds < 1 else size)
                self.workspace.progress.rows(findings.examined, wanted, len(findings.held))
        finally:
            transformer.close()
        return findings

    def _note(
        self,
        findings: _Findings,
        instance: BatchMigration,
        target: Target,
        rows: Sequence[RawRow],
        outcomes: Sequence[Outcome],
    ) -> None:
        findings.examined += len(rows)
        for row, outcome in zip(rows, outcomes, strict=True):
            key, before = target.key_of(row), target.values_of(row)
            if isinstance(outcome, Held):
                findings.held[key] = outcome.code
                continue
            after = {name: outcome.get(name, before[name]) for name in target.writes}
            if not writes.same(tuple(before[name] for name in after), tuple(after.values())):
                findings.changed += 1
                if target.journalled:
                    findings.journal_bytes += journalling.bytes_of_change(row, target, after)
                if len(findings.samples) < _SHOWN_SAMPLES:
                    findings.samples.append(_sample(instance, key, before, after))
            elif target.pending is not None:
                findings.held[key] = writes.STILL_PENDING
            else:
                findings.unchanged += 1

    def _of_up(self, instance: Migration) -> DryRunReport:
        self.workspace.progress.phase(self.migration.name, "dry run")
        with self.workspace.database.read() as connection:
            context = plain_context(self.workspace, connection, self.log, self.options, dry_run=True)
            call(instance.preflight, context)
        if not instance.transactional:
            return self._empty(not_covered=["up(): it runs outside of a transaction, so it could not be undone"])
        trial = imperative.rehearse(self.workspace, instance, self.options, self.log)
        return self._empty(
            would_change=trial.result.records_processed,
            complete=not trial.refused_ddl,
            schema_changes=trial.planned,
            not_covered=[
                "verification",
                "effects outside of the database, such as mail or calls to other services",
                *(f"the schema change: {change}" for change in trial.refused_ddl),
            ],
            metadata=dict(trial.result.metadata),
        )


def _outcomes(transformer: Transformer, target: Target, rows: Sequence[RawRow]) -> Sequence[Outcome]:
    """What `transform` makes of the rows, or what the database makes of `assign`, which it has computed with them."""
    if target.assigned is None:
        return transformer.run(target.reads, [tuple(row[target.key_width : target.reads_end]) for row in rows])
    names = list(target.assigned)
    return [dict(zip(names, row[-len(names) :], strict=True)) for row in rows]


def _by_code(held: dict[Key, str]) -> list[HeldSample]:
    codes = sorted(set(held.values()))
    return [_held_sample(code, [key for key, found in held.items() if found == code]) for code in codes]


def _held_sample(code: str, found: list[Key]) -> HeldSample:
    return HeldSample(code, len(found), [keys.shown(key) for key in found[:_SHOWN_KEYS]])


def _sample(instance: BatchMigration, key: Key, before: dict[str, Any], after: dict[str, Any]) -> ChangedSample:
    def shown(values: dict[str, Any]) -> dict[str, Any]:
        return {name: _MASK if name in instance.sensitive else _short(value) for name, value in values.items()}

    return ChangedSample(keys.shown(key), shown(before), shown(after))


def _short(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = f"{len(value)} bytes" if isinstance(value, bytes | memoryview) else str(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
