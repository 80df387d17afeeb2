"""Tables of every shape, walked to the end though the first runner dies: no row is missed, and none is done twice."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine
from sqlalchemy.dialects import mysql

from system_migration import BatchMigration, Row
from system_migration.batching import keys, loop
from system_migration.errors import MigrationSystemError
from tests.crash.harness import Child, Ending, Gate, Job, after_commit_of_a_batch, engine_for, expire_lease
from tests.crash.shapes import BATCH, SHAPES, Shape
from tests.crash.subjects import Flagged, Items, forget_runs, item, kind_of

pytestmark = pytest.mark.filterwarnings("ignore:Dialect sqlite.* does .*not.* support Decimal")


class Shaped(BatchMigration):
    """In place, on whatever key the table has."""

    name = "001-shaped"
    table = "item"
    reads = ("y",)
    writes = ("y",)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"y": row.y + 1}


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = engine_for(database_url)
    yield made
    made.dispose()


def outcome(engine: Engine, shape: Shape) -> Counter[str]:
    """How many rows are there, how many were missed, how many done twice."""
    table = shape.table()
    with engine.connect() as connection:
        done = connection.execute(sa.select(table.c.y - table.c.origin)).scalars().all()
    return +Counter(rows=len(done), missed=sum(times < 1 for times in done), twice=sum(times > 1 for times in done))


def die_and_succeed(engine: Engine, job: Job, shape: Shape) -> int:
    """A runner dies after its first batch, a successor ends the run; how many rows there were."""
    with engine.begin() as connection:
        forget_runs(connection)
        expected = shape.make(connection)
    engine.dispose()
    if job.start_and_kill(after_commit_of_a_batch).killed_at is not None:
        with engine.begin() as connection:
            expire_lease(connection)
        job.run()
    return expected


@pytest.fixture
def job(database_url: str) -> Job:
    made = Job(database_url, Shaped, batch_size=BATCH, workers=2)
    made.init()
    return made


def test_no_row_of_any_shape_is_missed_or_done_twice(engine: Engine, job: Job, publish: Callable[[str], None]) -> None:
    totals, problems = Counter[str](), []
    for shape in SHAPES:
        expected = die_and_succeed(engine, job, shape)
        found = outcome(engine, shape)
        totals += found
        if found != Counter(rows=expected):
            problems.append(f"{shape.name}: {dict(found)} of {expected} rows")
    counts = f"{totals['rows']} rows, {totals['missed']} missed, {totals['twice']} twice"
    publish(f"table shapes {kind_of(engine)}: {len(SHAPES)} shapes, {counts}")
    assert problems == []


def test_with_bounds_that_were_not_kept_exactly_rows_are_done_twice(
    engine: Engine, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "decode", lambda _: (0,))
    with suppress(MigrationSystemError):
        die_and_succeed(engine, job, SHAPES[0])
    found = outcome(engine, SHAPES[0])
    assert found["missed"] + found["twice"] > 0


# Rows that become visible behind the walk


def commit_late(items: Items, transactions: int, gate: Gate, patch: Callable[[], None] = lambda: None) -> Ending:
    """A run that has read its last row, when transactions commit that took their keys before it began."""

    def arrange() -> None:
        patch()
        Flagged.before_transform = staticmethod(gate.stop)

    with ExitStack() as stack:
        late = [stack.enter_context(items.engine.connect()) for _ in range(transactions)]
        for number, connection in enumerate(late):
            connection.execute(item.insert().values(id=1000 + number, origin=number, y=number))
        items.change(item.insert().values(id=9999, origin=0, y=0))
        child = stack.enter_context(Job(items.url, Flagged, batch_size=100, workers=2).start(arrange))
        child.wait_for(gate)
        for connection in late:
            connection.commit()
        gate.open()
        return child.wait()


@pytest.fixture
def flagged(database_url: str) -> Iterator[Items]:
    """Items in a table that has the flag already: `prepare` would wait for the open transactions."""
    found = Items(database_url)
    found.change(sa.text("ALTER TABLE item ADD COLUMN done SMALLINT NOT NULL DEFAULT 0"))
    yield found
    found.close()


def untouched(items: Items) -> int:
    with items.engine.connect() as connection:
        return connection.execute(
            sa.select(sa.func.count()).select_from(item).where(item.c.y == item.c.origin)
        ).scalar_one()


@pytest.mark.databases("postgresql", "mariadb")  # SQLite has one writer at a time
def test_rows_that_are_committed_behind_the_walk_are_found_by_the_sweep(
    flagged: Items, gate: Gate, publish: Callable[[str], None], scale: Callable[[int, int], int]
) -> None:
    transactions = scale(40, 150)
    ending = commit_late(flagged, transactions, gate)
    missed = untouched(flagged)
    publish(f"late commits {flagged.kind}: {transactions} transactions, {missed} missed")
    assert ending.error is None, ending.message
    assert missed == 0
    assert flagged.status() == "COMPLETED"


@pytest.mark.databases("postgresql", "mariadb")
def test_with_a_single_pass_rows_that_are_committed_behind_the_walk_are_missed(flagged: Items, gate: Gate) -> None:
    def walk_once() -> None:
        loop.PASSES = 0

    assert commit_late(flagged, 3, gate, walk_once).error == "Paused"  # the library knows
    assert untouched(flagged) == 3


# Rows of two megabytes

MEGABYTE = 1 << 20
HUGE_ROWS = 50
MOST_MEMORY = 64 * MEGABYTE


class Huge(BatchMigration):
    """Reads all of a body to write its length."""

    name = "001-huge"
    table = "huge"
    reads = ("body",)
    writes = ("size",)

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.size.is_(None)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"size": len(row.body)}


huge = sa.Table(
    "huge",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("body", sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql")),
    sa.Column("size", sa.Integer),
)


def test_huge_rows_fit_into_bounded_memory(engine: Engine, database_url: str, publish: Callable[[str], None]) -> None:
    with engine.begin() as connection:
        huge.create(connection)
        for number in range(HUGE_ROWS):
            connection.execute(huge.insert().values(id=number, body="x" * (2 * MEGABYTE)))
    engine.dispose()

    def measure(_: Child) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        Job(database_url, Huge, batch_size=None, workers=2).run()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024

    with Child(measure) as child:
        ending = child.wait()
    assert ending.error is None, ending.message
    publish(f"huge rows {kind_of(engine)}: {HUGE_ROWS} rows of 2 MB in {ending.value / MEGABYTE:.0f} MB of memory")
    assert ending.value < MOST_MEMORY
