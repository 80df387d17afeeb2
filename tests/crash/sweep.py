"""One kill after another, at every moment of a run, each followed by a successor and a look at every row."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Table, func, inspect, select

from system_migration import BatchMigration, Migration
from system_migration.store import leases, tables
from tests.crash.harness import COMMITTED, Job, Moment, engine_for, expire_lease
from tests.crash.subjects import Imperative, fill_items, forget_runs, item
from tests.support.torture import SEED, scale

STRIDE = scale(7, 1)
"""With `--long` kill at every moment, else at every seventh."""
ENDS = 3
"""After so many runs in a row that ended before they were to be killed, there is nothing more to kill: with several
threads one run has more moments than another."""


@dataclass
class Figures:
    """What a sweep counted. A problem names the moment of the kill after which it appeared."""

    kills: list[Moment] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    stuck: int = 0
    only_verified: int = 0
    problems: list[str] = field(default_factory=list)

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __str__(self) -> str:
        damage = f"{self.lost} lost, {self.doubled} doubled, {self.stuck} stuck"
        return f"{len(self.kills)} kill points, {damage}"


class Sweep:
    """A sweep over one migration of the items, on a database of its own. The seed chooses the items."""

    def __init__(
        self, url: str, migration: type[Migration], batch_size: int = 3, workers: int = 1, stride: int = STRIDE
    ) -> None:
        numbers = random.Random(f"{SEED} {migration.name} {workers}")
        most = 2 * workers * batch_size  # two batches for each worker, the last of them not full
        keys = numbers.sample(range(1, 1000), numbers.randint(most - batch_size + 1, most))
        self.initial = {key: numbers.randrange(1000) for key in sorted(keys)}
        self._changes_schema = issubclass(migration, BatchMigration) and migration.defines("prepare")
        self.figures = Figures()
        self._engine = engine_for(url)
        self._job = Job(url, migration, batch_size=batch_size, workers=workers)
        self._stride = stride

    def from_nothing(self) -> Figures:
        """Both parts: a first start, then a whole run."""
        self.first_start()
        return self.whole_run()

    def first_start(self) -> Figures:
        """On an empty database, at every moment until the tracking tables stand and the database is bound."""

        def empty(connection: Connection) -> None:
            tables.metadata.drop_all(connection)
            fill_items(connection, self.initial)

        number, bound = 1, False
        while not bound:
            moment = self._kill(number, empty)
            bound = moment is None or (moment.kind == COMMITTED and moment.has_sent(f"INSERT INTO {tables.meta.name}"))
            number += 1
        return self.figures

    def whole_run(self) -> Figures:
        """On a database that has the tracking tables, at every moment until runs end before they are killed."""

        def rewind(connection: Connection) -> None:
            forget_runs(connection)
            fill_items(connection, self.initial, anew=self._changes_schema)

        self._job.init()
        with self._engine.begin() as connection:
            fill_items(connection, self.initial)
        gc.freeze()  # or a child copies, page by page, what its collector merely counts
        number, unkilled = 1, 0
        while unkilled < ENDS:
            unkilled = unkilled + 1 if self._kill(number, rewind) is None else 0
            number += self._stride
        return self.figures

    def _kill(self, number: int, reset: Callable[[Connection], None]) -> Moment | None:
        """Kill a run at moment `number` and let a successor end it. None when the run ended before."""
        with self._engine.begin() as connection:
            reset(connection)
        self._engine.dispose()  # nothing of the parent's may be open while a child is forked
        ending = self._job.start_and_kill(lambda moment: moment.number == number)
        assert ending.error is None, f"the run that was to be killed at {number} failed: {ending.message}"
        place = "undisturbed" if ending.killed_at is None else str(ending.killed_at)
        if ending.killed_at is not None:
            self.figures.kills.append(ending.killed_at)
            self._succeed(place)
        with self._engine.connect() as connection:
            self._examine(connection, place)
        return ending.killed_at

    def _succeed(self, place: str) -> None:
        with self._engine.begin() as connection:
            if inspect(connection).has_table(tables.lease.name):
                expire_lease(connection)
            self.look_at_the_dead(connection)
        try:
            self._job.run()
        except Exception as error:  # whatever it is, the run is stuck
            self.figures.problems.append(f"{place}: the successor ended with {type(error).__name__}: {error}")

    def _examine(self, connection: Connection, place: str) -> None:
        found = {row.id: row.y for row in connection.execute(select(item.c.id, item.c.y))}
        self.figures.lost += sum(found.get(key, y) <= y for key, y in self.initial.items())
        self.figures.doubled += sum(found.get(key, y) > y + 1 for key, y in self.initial.items())
        if found != {key: y + 1 for key, y in self.initial.items()}:
            self.figures.problems.append(f"{place}: {self.initial} became {found}")
        stuck = list(self._unfinished(connection))
        self.figures.stuck += bool(stuck)
        problems = [*stuck, *self.other_problems(connection)]
        self.figures.problems += [f"{place}: {problem}" for problem in problems]

    def _unfinished(self, connection: Connection) -> Iterator[str]:
        """What says that the migration did not end as it should."""
        row = connection.execute(select(tables.migration)).one_or_none()
        if row is None or row.status != "COMPLETED" or row.error is not None or not row.verified:
            yield f"the migration is {row}"
        if connection.execute(select(tables.run.c.id).where(tables.run.c.outcome.is_(None))).first():
            yield "a run has no outcome"
        if holder := connection.execute(select(tables.lease.c.held_by).where(leases.alive())).scalar():
            yield f"{holder} holds the lease"

    def look_at_the_dead(self, connection: Connection) -> None:
        """After a kill, before the successor."""

    def other_problems(self, connection: Connection) -> Iterator[str]:
        """What else is not as it should be after a successor: here, the ledger and the held rows."""
        ledger = tables.ledger.c
        sums = (func.sum(each) for each in (ledger.changed, ledger.rows_read, ledger.held, ledger.deferred))
        totals = tuple(int(total or 0) for total in connection.execute(select(*sums)).one())
        if totals != (len(self.initial), len(self.initial), 0, 0):
            yield f"the ledger's totals (changed, read, held, deferred) are {totals}"
        spans = [
            tuple(row) for row in connection.execute(select(ledger.range, ledger.last_range).order_by(ledger.range))
        ]
        ends = [max(span) for span in spans]
        if [first for first, _ in spans] != [1, *(end + 1 for end in ends[:-1])]:
            yield f"the ledger has the ranges {spans}"
        if held := _rows(connection, tables.issue):
            yield f"{held} rows are held"
        processed = connection.execute(select(tables.migration.c.records_processed)).scalar()
        if processed != len(self.initial):
            yield f"the record says {processed} rows"


class ImperativeSweep(Sweep):
    """A sweep over an imperative migration, which says in `witness` what of it was called."""

    def __init__(self, url: str, migration: type[Imperative], witness: Path) -> None:
        super().__init__(url, migration, stride=scale(3, 1))  # such a run is short
        migration.witness = self._witness = witness
        self._dead: Row[Any] | None = None

    def look_at_the_dead(self, connection: Connection) -> None:
        row = tables.migration.c
        self._dead = connection.execute(select(row.applied, row.status)).one_or_none()
        self._witness.unlink(missing_ok=True)

    def other_problems(self, connection: Connection) -> Iterator[str]:
        calls = self._witness.read_text().split() if self._witness.exists() else []
        if self._dead is not None and self._dead.applied:
            expected = [] if self._dead.status == "COMPLETED" else ["verify"]
            self.figures.only_verified += bool(expected)
            if calls != expected:
                yield f"up was applied, and the successor called {calls}"
        elif calls.count("up") > 1 or calls.count("verify") != 1:
            yield f"the successor called {calls}"
        self._dead = None
        self._witness.unlink(missing_ok=True)


def _rows(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())
