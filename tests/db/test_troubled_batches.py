"""Batches that the server cannot take as they are: smaller ones are tried, and a late COMMIT of the whole is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, make_url
from sqlalchemy.exc import OperationalError

from system_migration import RunOptions, Status
from system_migration.batching.commit import commit_batch
from system_migration.batching.settling import LOSSES
from system_migration.store.patience import Patience
from tests.db.test_batches import covered
from tests.db.test_workbench import Fill, Increment, execute, make_numbers, migrator, rows_of
from tests.support.databases import application_engine

FOUR = RunOptions(batch_size=4, workers=1)
ENOUGH = LOSSES + 3
"""So many connections end before the server of a test relents, so that a run without the defence comes to an end."""


def ledger_rows(engine: Engine) -> int:
    ((count,),) = rows_of(engine, "SELECT COUNT(*) FROM system_migration_ledger")
    return int(count)


# --- connections lost again and again with one batch -----------------------------------------------------------------

HANGS_UP = f"""
CREATE SEQUENCE losses;
CREATE FUNCTION hang_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM changed) > 2 AND nextval('losses') <= {ENOUGH} THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
        PERFORM pg_sleep(30);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER hang_up AFTER UPDATE ON number REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION hang_up();
"""
"""A server that ends the session when one statement changes more than two rows."""


@pytest.mark.databases("postgresql")
def test_a_batch_that_ends_its_connection_again_and_again_is_halved(engine: Engine) -> None:
    make_numbers(engine, 4)
    execute(engine, HANGS_UP)
    (report,) = migrator(engine, Increment).run(options=FOUR)
    assert (report.status, report.records_processed) == (Status.COMPLETED, 4)
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id + 1") == [(4,)]
    assert rows_of(engine, "SELECT last_value FROM losses") == [(LOSSES,)]
    assert ledger_rows(engine) == 2
    assert len(covered(engine, "001-increment")) == 1


# --- a COMMIT that arrives late --------------------------------------------------------------------------------------

LOST = {
    "postgresql": psycopg.OperationalError("server closed the connection unexpectedly"),
    "mysql": pymysql.OperationalError(2013, "Lost connection to MySQL server during query"),
}


@pytest.mark.databases("postgresql", "mariadb")
def test_a_commit_of_the_whole_that_arrives_when_its_halves_are_tried_is_theirs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has the whole batch and its COMMIT, and comes to it after the connection was given up for lost."""
    make_numbers(engine, 4)
    late: list[Callable[[], Any]] = []

    def commit(*given: Any) -> Any:
        if len(given[3].rows) == 4:
            late.append(lambda: commit_batch(*given))
            raise OperationalError("COMMIT", None, LOST[engine.dialect.name], connection_invalidated=True)
        if late:
            late[-1]()
            late.clear()
        return commit_batch(*given)

    monkeypatch.setattr("system_migration.batching.settling.commit_batch", commit)
    (report,) = migrator(engine, Increment).run(options=FOUR)
    assert (report.status, report.records_processed) == (Status.COMPLETED, 4)
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id + 1") == [(4,)]
    assert ledger_rows(engine) == 1


# --- pages that take longer than the server lets a statement take ----------------------------------------------------

SLOW = """
CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_query() LIKE '%LIMIT%' THEN PERFORM pg_sleep(0.1); END IF;
    RETURN true;
END $$
"""
"""Only a page of rows has a LIMIT."""


class FillSlowly(Fill):
    """Finding each of its rows takes a tenth of a second."""

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.z.is_(None) & sa.func.slow()


@pytest.fixture
def impatient(engine: Engine) -> Iterator[Engine]:
    """An engine whose statements may take 0.6 seconds, and whose tables are read by their index, row by row."""
    limits = ("statement_timeout=600", "enable_seqscan=off", "enable_sort=off", "enable_bitmapscan=off", "jit=off")
    options = " ".join(f"-c {limit}" for limit in limits)
    made = application_engine(make_url(engine.url).update_query_dict({"options": options}))
    yield made
    made.dispose()


@pytest.mark.databases("postgresql")
def test_a_page_that_takes_too_long_is_read_in_smaller_ones(
    engine: Engine, impatient: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("system_migration.batching.reading._PAGE", Patience(in_the_way=0.0, away=0.0))
    make_numbers(engine, 8)
    execute(engine, SLOW)
    migrator(engine, FillSlowly).init()
    (report,) = migrator(impatient, FillSlowly).run(options=RunOptions(batch_size=8, workers=1))
    assert (report.status, report.records_processed) == (Status.COMPLETED, 8)
    assert ledger_rows(engine) > 1
