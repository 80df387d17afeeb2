"""Setting up the batch loop for one run: schema, table, limits; and judging what it left."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from system_migration.batch_migration import BatchMigration
from system_migration.batching import keys
from system_migration.batching.crew import usable_cores
from system_migration.batching.executors import Pool, Transformer
from system_migration.batching.garbage import seldom_collected
from system_migration.batching.limits import ChangeLimit
from system_migration.batching.loop import BatchLoop, Finished
from system_migration.batching.ranges import ordinal
from system_migration.batching.reading import Reader
from system_migration.batching.resolution import resolve
from system_migration.batching.settling import Settler
from system_migration.batching.sizing import BatchSize
from system_migration.batching.target import Target
from system_migration.batching.throttle import RateLimit
from system_migration.errors import MigrationFailed
from system_migration.lease import HeldLease
from system_migration.records import RunOptions
from system_migration.running import journalling
from system_migration.running.contexts import heed_stop
from system_migration.running.run_log import RunLog
from system_migration.running.throttling import health_check
from system_migration.running.workspace import Workspace
from system_migration.schema_changes import SchemaChanges
from system_migration.store import issues, ledger, runs
from system_migration.store.ledger import Entry, Totals
from system_migration.store.runs import Attempt

_T = TypeVar("_T")
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
    max_changed: int | None
    again: bool
    cluster: Pool | None = None

    def work(self) -> Finished:
        """Prepare the schema and work until nothing is left."""
        self.prepare()
        target, done, last_pass, left, heaviest, held = self._ask(self._survey)
        journalling.begin(self.workspace, self.migration, target, self.attempt, self.log, left)
        finished = Finished(done.changed, done.unchanged, held, done.vanished, done.deferred)
        total = left + (finished.rows if target.pending is not None else 0)
        self.workspace.progress.phase(self.attempt.name, "migrating")
        self.workspace.progress.rows(finished.rows, total, finished.held)
        transformer = Transformer(
            type(self.migration), worker_count(self.options), self.options.processes, self.cluster
        )
        try:
            loop = self._loop(target, transformer, finished, total, heaviest)
            with loop.at_work(), seldom_collected():
                self._walk(loop, last_pass)
        finally:
            transformer.close()
        return finished

    def _survey(self, connection: Connection) -> tuple[Target, Totals, int, int, int, int]:
        """The table; what is done of it, in how many passes; rows left, the weight of the heaviest; rows left held."""
        attempt = self.attempt
        target = self._part(resolve(connection, self.migration))
        left, heaviest = connection.execute(target.heaviest()).one()
        return (
            target,
            ledger.totals(connection, attempt),
            ledger.last_pass(connection, attempt),
            left,
            int(heaviest or 0),
            self._staying_held(connection),
        )

    def _staying_held(self, connection: Connection) -> int:
        """Rows that are held and not tried again: those of a retry are counted anew, if they are held again."""
        place = self.attempt.environment, self.attempt.name, self.attempt.generation
        held = issues.count(connection, *place)
        if not self.attempt.held_only:
            return held
        chosen = self._chosen(connection)
        return 0 if chosen is None else held - len(chosen)

    def _chosen(self, connection: Connection) -> Collection[str] | None:
        """The digests of those held rows to which a retry keeps; None for all of them."""
        if self.options.keys is None:
            return None
        place = self.attempt.environment, self.attempt.name, self.attempt.generation
        return set(issues.chosen(connection, *place, self.options.keys).values())

    def _ask(self, question: Callable[[Connection], _T]) -> _T:
        return self.workspace.database.ask(question, self.workspace.progress.waiting)

    def _part(self, target: Target) -> Target:
        """The rows that the operator keeps the run to."""
        ends = self.attempt.from_key, self.attempt.to_key
        return target.from_to(*(None if text is None else keys.decode(text) for text in ends))

    def _walk(self, loop: BatchLoop, last_pass: int) -> None:
        next_pass = last_pass + 1 if self.again or last_pass == 0 else last_pass
        if self.attempt.held_only:
            loop.retry_held(last_pass + 1, self._ask(self._chosen))
        elif self.attempt.is_windowed:
            loop.walk_once(next_pass)
        else:
            loop.run_passes(next_pass)

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

    def _loop(
        self, target: Target, transformer: Transformer, finished: Finished, total: int, heaviest: int
    ) -> BatchLoop:
        workspace, options = self.workspace, self.options
        settler = Settler(
            database=workspace.database,
            target=target,
            run=self.attempt,
            transformer=transformer,
            clock=workspace.clock,
            progress=workspace.progress,
            heed=self._heed,
            limit=ChangeLimit(self.attempt.name, self.max_changed, finished.changed),
        )
        return BatchLoop(
            database=workspace.database,
            target=target,
            run=self.attempt,
            settler=settler,
            reader=Reader(workspace.database, target, workspace.progress, heaviest),
            progress=workspace.progress,
            clock=workspace.clock,
            heed=self._heed_and_hold(),
            size=BatchSize.starting(options.batch_size),
            rate=RateLimit(options.max_rate),
            finished=finished,
            workers=options.workers if options.workers or options.max_rate is None else 1,
            total=total,
            upper_bound=keys.decode(self.upper_bound) if self.upper_bound else None,
            stop_after_issues=self._stop_after_issues(finished),
            after_batch=self._after_batch,
            notice=self._notice,
            sized=workspace.progress.sized,
            committed=workspace.progress.committed,
        )

    def _stop_after_issues(self, finished: Finished) -> int | None:
        """At how many held rows to stop. Those that a retry leaves alone are not its findings."""
        limit = self.options.stop_after_issues or self.migration.stop_after_issues
        return limit + finished.held if limit is not None and self.attempt.held_only else limit

    def _heed(self) -> None:
        """Whatever may end or hold the run: a lost lease, a signal."""
        self.lease.check()
        heed_stop(self.workspace)

    def _heed_and_hold(self) -> Callable[[], None]:
        """As `_heed`, and what the migration says of the database's health may hold the run: one thread's matter."""
        hold = health_check(self.workspace, self.migration, self.options, self.log, self._heed)

        def heed_and_hold() -> None:
            self._heed()
            hold()

        return heed_and_hold

    def _notice(self, text: str) -> None:
        self.log.warning("%s", text)
        self.workspace.progress.remark(text)

    def _after_batch(self, entry: Entry) -> None:
        if not self.options.verbose:
            return
        self.log.info(
            "pass %d batch %d: %d rows, %d changed, %d held, %d changed meanwhile, %d vanished",
            *(entry.pass_number, ordinal(entry.numbers.first), entry.rows_read, entry.changed),
            *(entry.held, len(entry.deferred), entry.vanished),
        )
        with suppress(DBAPIError):  # a log line is not worth a run
            self.workspace.database.transact(lambda connection: self.log.store(connection, self.attempt.id))

    def judge(self, finished: Finished) -> None:
        """Raise `MigrationFailed` when more rows are held than may be."""
        allowed = self.allowed_issues
        if allowed is None:
            allowed = self.migration.allowed_issues(finished.rows)
        if finished.held > allowed:
            name = self.attempt.name
            raise MigrationFailed(
                name,
                f"rows held: {finished.held:,}, allowed: {allowed:,}. See `migration issues {name}`; to accept them, "
                f"run it again with --max-issues {finished.held}.",
            )


def worker_count(options: RunOptions) -> int:
    """How many threads transform: as many as the operator wants writers, else as this process has cores."""
    return options.workers or usable_cores()
