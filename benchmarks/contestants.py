"""Who makes the change: one UPDATE, we ourselves, and SQLAlchemy as people use it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from benchmarks.harness import Phases, Timing
from benchmarks.workload import Change
from system_migration import BatchMigration, Migrator, Registry, Row, RunOptions, Settings, connect

BATCH = 5_000
ONE_UPDATE = "one UPDATE"


@dataclass(frozen=True)
class Arena:
    """A database with the table `item`, freshly filled, and the change to make to it."""

    kind: str
    url: str
    change: Change


@dataclass(frozen=True)
class Contestant:
    """One way to make the change. The fast ones run several rounds, of which the best counts.

    `goal` is the least speed beside one UPDATE of the same run; `run` says how long it took, or raises.
    """

    name: str
    run: Callable[[Arena], Timing]
    rounds: int = 3
    goal: float | None = None


def one_update(arena: Arena) -> Timing:
    """The change as the database does it best: one statement, all rows, one transaction."""
    return _timed_update(arena, arena.change.in_sql)


def one_update_by_function(arena: Arena) -> Timing:
    """One statement, with the migration's own `transform` as a function of the connection (SQLite)."""
    return _timed_update(arena, lambda t: sa.func.changed(t.c.v))


def _timed_update(arena: Arena, new: Callable[[sa.FromClause], sa.ColumnElement[Any]]) -> Timing:
    engine, item = connect(arena.url), arena.change.table()
    with engine.connect() as connection:
        if arena.kind == "sqlite":
            driver: Any = connection.connection.driver_connection
            driver.create_function("changed", 1, _function(arena.change.migration()))
        began = time.monotonic()
        connection.execute(item.update().values(v=new(item)))
        connection.commit()
        seconds = time.monotonic() - began
    engine.dispose()
    return Timing(seconds)


def _function(migration: BatchMigration) -> Callable[[Any], Any]:
    positions = {"v": 0}
    return lambda value: migration.transform(Row(positions, (value,)))["v"]


def ours(migration: type[BatchMigration], **options: Any) -> Callable[[Arena], Timing]:
    """A run of the library, with guard, ledger and fence as always."""
    return lambda arena: run_migration(arena.url, migration, RunOptions(**options))


def run_migration(
    url: str, migration: type[BatchMigration], options: RunOptions, phases: Phases | None = None
) -> Timing:
    """Run one migration on a database that has seen none; the work is the phase between preparing and verifying."""
    engine, phases = connect(url), phases or Phases()
    try:
        with Migrator(engine, Registry([migration]), Settings(environment="benchmark"), progress=phases) as migrator:
            began = time.monotonic()
            migrator.run(options=options)
            return Timing(phases.migrating, time.monotonic() - began)
    finally:
        engine.dispose()


def sqlalchemy_executemany(arena: Arena) -> Timing:
    """Read a batch, change it, write it with one `execute` of many parameters; no lock, no guard."""
    engine, item = connect(arena.url), arena.change.table()
    write = item.update().where(item.c.id == sa.bindparam("key")).values(v=sa.bindparam("new"))
    read = sa.select(item).order_by(item.c.id).limit(BATCH)
    began, last = time.monotonic(), 0
    while True:
        with engine.begin() as connection:
            rows = connection.execute(read.where(item.c.id > last)).all()
            if not rows:
                break
            connection.execute(write, [{"key": key, "new": arena.change.changed(v)} for key, v in rows])
            last = rows[-1].id
    seconds = time.monotonic() - began
    engine.dispose()
    return Timing(seconds)
