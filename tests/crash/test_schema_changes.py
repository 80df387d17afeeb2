"""A runner dies before, in and after each schema change of `prepare`: the next one finds its way. And nobody waits."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

from system_migration import BatchMigration, Row
from tests.crash import controls
from tests.crash.harness import STATEMENT, Ending, Gate, Job, Moment, OnMoment
from tests.crash.subjects import Items, item
from tests.crash.waiting import somebody_waits_for_the_schema, wait_until

STEPS = (
    "CREATE TABLE summary",
    "ALTER TABLE item ADD",
    "CREATE INDEX ix_item_new",
    "DROP INDEX",
    "ALTER TABLE item DROP",
)
BEFORE, IN, AFTER = "before", "in", "after"


class Reshapes(BatchMigration):
    """One schema change of each kind, then every row once."""

    name = "001-reshapes"
    table = "item"
    reads = ("origin", "y")
    writes = ("y", "done")

    def prepare(self, schema: Any) -> None:
        schema.create_table("summary", sa.Column("id", sa.Integer, primary_key=True))
        schema.add_column("item", sa.Column("done", sa.SmallInteger, nullable=False, server_default=sa.text("0")))
        schema.create_index("ix_item_new", "item", ["done"])
        schema.drop_index("ix_item_old", "item")
        schema.drop_column("item", "old")

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"y": row.y + 1, "done": 1}

    def check(self, row: Row) -> bool:
        return bool(row.y == row.origin + 1 and row.done == 1)


def begin_anew(items: Items) -> None:
    """The table as it was before the migration, and no trace of a run."""
    items.begin_anew()
    items.change(sa.text("DROP TABLE IF EXISTS summary"))
    items.change(sa.text("ALTER TABLE item ADD COLUMN old INTEGER"))
    items.change(sa.text("CREATE INDEX ix_item_old ON item (origin)"))


def is_about_to(step: str, moment: Moment) -> bool:
    return moment.kind == STATEMENT and moment.transaction[-1].lstrip().startswith(step)


def has_done(step: str, moment: Moment) -> bool:
    done = moment.transaction[:-1] if moment.kind == STATEMENT else moment.transaction
    return any(statement.lstrip().startswith(step) for statement in done)


# How a runner dies


def die(items: Items, job: Job, step: str, when: str, arrange: Callable[[], None] = lambda: None) -> None:
    """A runner is killed there; it is an error if it comes through."""
    if when == IN:
        die_in[items.kind](items, job, step)
        return
    reached = is_about_to if when == BEFORE else has_done
    ending = job.start_and_kill(lambda moment: reached(step, moment), arrange)
    assert ending.killed_at is not None, ending


def die_in_sqlite(items: Items, job: Job, step: str) -> None:
    """By its own hand, in the middle of the statement's work."""

    def arrange() -> None:
        def statement(connection: Connection, _cursor: Any, sql: str, *_: Any) -> None:
            if sql.lstrip().startswith(step):
                driver: Any = connection.connection.dbapi_connection
                driver.set_progress_handler(lambda: os.kill(os.getpid(), signal.SIGKILL), 5)

        event.listen(Engine, "before_cursor_execute", statement)

    with job.start(arrange) as child:
        assert child.wait().error == "Silence"


PAUSE = """
CREATE FUNCTION pause() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  IF ltrim(current_query(), E'\\n ') LIKE '{step}%' THEN PERFORM pg_advisory_xact_lock(1); END IF;
END $$
"""


def die_in_postgresql(items: Items, job: Job, step: str) -> None:
    """At the end of the server's work on it, where a trigger waits for a lock that we hold."""
    items.change(sa.text("DROP FUNCTION IF EXISTS pause"))
    items.change(sa.text(PAUSE.format(step=step)))
    items.change(sa.text("CREATE EVENT TRIGGER pausing ON ddl_command_end EXECUTE FUNCTION pause()"))
    with items.engine.connect() as ours:
        ours.execute(sa.text("SELECT pg_advisory_xact_lock(1)"))
        with job.start() as child:
            wait_until(lambda: somebody_waits_for_the_schema(items.engine))
            child.kill()
    items.change(sa.text("DROP EVENT TRIGGER pausing"))


def die_in_mariadb(items: Items, job: Job, step: str) -> None:
    """While the server waits with it for our transaction; it does the work when its client is long gone."""
    with Gate() as gate, job.start(on_moment=stop_before(step, gate)) as child:
        child.wait_for(gate)
        with items.engine.begin() as ours:
            ours.execute(sa.select(item.c.id)).all()
            gate.open()
            wait_until(lambda: somebody_waits_for_the_schema(items.engine))
            child.kill()


def stop_before(step: str, gate: Gate) -> OnMoment:
    return lambda moment: gate.stop() if is_about_to(step, moment) else None


die_in: Mapping[str, Callable[[Items, Job, str], None]] = {
    "sqlite": die_in_sqlite,
    "postgresql": die_in_postgresql,
    "mariadb": die_in_mariadb,
}


def points(kind: str) -> list[tuple[str, str]]:
    """Every step, and where a runner dies. On MariaDB no transaction can make the creation of a table wait."""
    every = [(step, when) for step in STEPS for when in (BEFORE, IN, AFTER)]
    return [point for point in every if point != (STEPS[0], IN) or kind != "mariadb"]


def succeed(items: Items, job: Job, arrange: Callable[[], None] = lambda: None) -> Ending:
    """Another runner takes over, and ends the run."""
    items.expire_lease()
    with job.start(arrange) as successor:
        return successor.wait()


def wrong(items: Items, ending: Ending) -> str | None:
    """What is not as it should be in the end."""
    shape = (items.tables() >= {"summary"}, "old" in items.columns(), sorted(map(str, items.indexes("item"))))
    if ending.error is not None:
        return ending.message
    if (items.values(), items.status(), shape) != (items.migrated, "COMPLETED", (True, False, ["ix_item_new"])):
        return f"{items.values()}, {items.status()}, {shape}"
    return None


def test_killed_at_a_schema_change_a_run_is_resumed_to_its_end(
    items: Items, publish: Callable[[str], None], scale: Callable[[int, int], int]
) -> None:
    """Once, and with --long twice: the successor dies at the same place."""
    kind, kills, problems = items.kind, 0, []
    job = Job(items.url, Reshapes)
    begin_anew(items)
    job.run()  # so that the children inherit what is compiled
    for deaths in range(1, scale(1, 2) + 1):
        for step, when in points(kind):
            begin_anew(items)
            die(items, job, step, when)
            kills += 1
            if deaths == 2 and when == BEFORE:
                items.expire_lease()
                die(items, job, step, when)
                kills += 1
            if problem := wrong(items, succeed(items, job)):
                problems.append(f"{when} {step}: {problem}")
    stuck = len(problems)
    exists = sum("exist" in problem or "Duplicate" in problem for problem in problems)
    publish(f"schema changes {kind}: {kills} kill points, {stuck} stuck, {exists} 'already exists'")
    assert problems == []


def test_without_a_look_into_the_catalogue_a_change_is_made_twice(items: Items) -> None:
    """Where each change is committed by itself, as on MariaDB always."""
    begin_anew(items)
    job = Job(items.url, Reshapes)
    die(items, job, STEPS[0], AFTER, controls.without_transactional_ddl)
    ending = succeed(items, job, controls.without_catalogue)
    assert "exists" in ending.message


# A bystander, while `prepare` waits for an open transaction

LOCK = 1
"""How many seconds a schema change waits at a time."""


def longest_wait(items: Items, lock_seconds: float) -> tuple[float, Ending]:
    """The longest time that a reader waited. Raises DBAPIError when it is more than `LOCK` + 0.5, in whole seconds."""
    limit = {"postgresql": "SET SESSION lock_timeout = '2s'", "mysql": "SET SESSION lock_wait_timeout = 2"}
    job = Job(items.url, Reshapes)
    with Gate() as gate:
        with job.start(lambda: controls.with_lock_seconds(lock_seconds), stop_before(STEPS[1], gate)) as child:
            child.wait_for(gate)
            with items.engine.connect() as ours, items.engine.connect() as reader:
                reader.exec_driver_sql(limit[items.engine.dialect.name])
                reader.commit()
                ours.execute(sa.select(item.c.id)).all()
                gate.open()
                wait_until(lambda: somebody_waits_for_the_schema(items.engine))
                longest = max(reads(reader, 3 * LOCK))
            return longest, child.wait()


def reads(reader: Connection, seconds: float) -> Iterator[float]:
    """How long each read took, one after the other for so long."""
    until = time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        reader.execute(sa.select(item.c.id)).all()
        reader.rollback()
        yield time.monotonic() - began


@pytest.mark.databases("postgresql", "mariadb")  # on SQLite a reader never waits for who waits
def test_a_reader_waits_little_while_a_schema_change_waits(items: Items, publish: Callable[[str], None]) -> None:
    begin_anew(items)
    longest, ending = longest_wait(items, LOCK)
    publish(f"reader beside a schema change {items.kind}: {longest:.2f} s of {LOCK + 0.5} s")
    assert longest <= LOCK + 0.5
    assert wrong(items, ending) is None


@pytest.mark.databases("postgresql", "mariadb")
def test_without_a_lock_timeout_a_reader_waits_as_long_as_the_schema_change(items: Items) -> None:
    begin_anew(items)
    with pytest.raises(DBAPIError, match=r"(?i)lock (wait )?timeout"):
        longest_wait(items, 3600)
