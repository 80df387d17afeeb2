"""Setting up the batch loop for one run: schema, table, limits; and judging what it left."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from system_migration.batch_migration import BatchMigration
from system_migration.batching import keys
from system_migration.batching.loop import BatchLoop, Tally
from system_migration.batching.sizing import BatchSize
from system_migration.batching.target import Target, resolve
from system_migration.batching.transform import Transformer
from system_migration.errors import MigrationFailed
from system_migration.lease import HeldLease
from system_migration.records import RunOptions
from system_migration.running import journalling
from system_migration.running.run_log import RunLog
from system_migration.running.workspace import Workspace
from system_migration.schema_changes import SchemaChanges
from system_migration.store import issues, ledger, runs
from system_migration.store.ledger import Entry
from system_migration.store.runs import Attempt

EMPTY_TABLE = ""
"""The upper bound of a generation that began on an empty table."""


@dataclass
class BatchRun:
    """A batch migration at work under one attempt."""

    workspace: Workspace
    migration: BatchMigration
    attempt: Attempt
    lease: HeldLease
    options: RunOptions
    log: RunLog
    upper_bound: str | None
    allowed_issues: int | None
    again: bool

    def work(self) -> Tally:
        """Prepare the schema and work until nothing is left. Raises `MigrationFailed` when too many rows are held."""
        self.prepare()
        with self.workspace.database.read() as connection:
            target = resolve(connection, self.migration)
            done = ledger.totals(connection, self.attempt)
            last_pass = ledger.last_pass(connection, self.attempt)
            left = connection.execute(target.count()).scalar_one()
            held = issues.count(connection, self.attempt.environment, self.attempt.name, self.attempt.generation)
        journalling.begin(self.workspace, self.migration, target, self.attempt, self.log, left)
        tally = Tally(done.changed, done.unchanged, held, done.vanished, done.deferred)
        total = left + (tally.done if target.pending is not None else 0)
        self.workspace.progress.phase(self.attempt.name, "migrating")
        self.workspace.progress.rows(tally.done, total, tally.held)
        transformer = Transformer(type(self.migration), worker_count(self.options))
        try:
            loop = self._loop(target, transformer, tally, total)
            loop.run_passes(last_pass + 1 if self.again or last_pass == 0 else last_pass)
        finally:
            transformer.close()
        self._judge(tally)
        return tally

    def prepare(self) -> None:
        """Run `prepare`. With transactional DDL dying half-way leaves nothing; else each step finds itself done."""
        self.workspace.progress.phase(self.attempt.name, "preparing")
        database, dialect = self.workspace.database, self.workspace.database.dialect

        def change(connection: Connection) -> SchemaChanges:
            schema = SchemaChanges(connection)
            self.migration.prepare(schema)
            runs.check_fence(connection, dialect, self.attempt)
            return schema

        def change_one_by_one(connection: Connection) -> SchemaChanges:
            runs.check_fence(connection, dialect, self.attempt)
            return change(connection)

        waiting = self.workspace.progress.waiting
        if dialect.transactional_ddl:
            schema = database.transact(change, waiting)
        else:
            schema = database.ask(change_one_by_one, waiting)  # each step finds itself done, so it may be repeated
        for planned in schema.planned:
            self.log.info("schema: %s", planned)

    def _loop(self, target: Target, transformer: Transformer, tally: Tally, total: int) -> BatchLoop:
        return BatchLoop(
            database=self.workspace.database,
            target=target,
            run=self.attempt,
            lease=self.lease,
            transformer=transformer,
            progress=self.workspace.progress,
            clock=self.workspace.clock,
            size=BatchSize.starting(self.options.batch_size),
            tally=tally,
            total=total,
            upper_bound=keys.decode(self.upper_bound) if self.upper_bound else None,
            max_rate=self.options.max_rate,
            stop_after_issues=self.options.stop_after_issues or self.migration.stop_after_issues,
            stop_signal=self.workspace.stop_signal,
            after_batch=self._after_batch,
        )

    def _after_batch(self, entry: Entry) -> None:
        if not self.options.verbose:
            return
        self.log.info(
            "pass %d batch %d: %d rows, %d changed, %d held, %d changed meanwhile, %d vanished",
            *(entry.pass_number, entry.range_number, entry.rows_read, entry.changed),
            *(entry.held, len(entry.deferred), entry.vanished),
        )
        with suppress(DBAPIError):  # a log line is not worth a run
            self.workspace.database.transact(lambda connection: self.log.store(connection, self.attempt.id))

    def _judge(self, tally: Tally) -> None:
        allowed = self.allowed_issues
        if allowed is None:
            allowed = self.migration.allowed_issues(tally.done)
        if tally.held > allowed:
            name = self.attempt.name
            raise MigrationFailed(
                name,
                f"rows held: {tally.held:,}, allowed: {allowed:,}. See `migration issues {name}`; to accept them, "
                f"run it again with --max-issues {tally.held}.",
            )


def worker_count(options: RunOptions) -> int:
    """As many workers as the operator wants, else as this process has cores."""
    if options.workers:
        return options.workers
    usable = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(usable(0)) if usable else os.cpu_count() or 1
