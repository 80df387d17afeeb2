"""Errors of the databases at every statement and at COMMIT: no batch is ever there by half, and no retry is endless.

The errors are the drivers' own, raised where the driver would: in place of a statement, on the run's connections.
"""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, event
from sqlalchemy.engine.default import DefaultDialect

from system_migration.store import tables
from system_migration.store.dialects.base import WRITES
from tests.crash.harness import Job
from tests.crash.subjects import InPlace, Items, fill_items
from tests.support.torture import scale

INJECTIONS = scale(40, 400)
ROWS = 60
SHARE = 0.04
"""Of the statements that fail. A batch has some ten, so that it rarely fails more than twice in a row."""


def of_sqlite(name: str) -> Callable[[], Exception]:
    def make() -> Exception:
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorname = name
        return error

    return make


def of_postgresql(code: str) -> Callable[[], Exception]:
    return lambda: psycopg.errors.lookup(code)("injected")


def of_mariadb(number: int) -> Callable[[], Exception]:
    return lambda: pymysql.err.OperationalError(number, "injected")


ERRORS = {
    "sqlite": [of_sqlite("SQLITE_BUSY"), of_sqlite("SQLITE_BUSY_SNAPSHOT")],
    "postgresql": [of_postgresql(code) for code in ("55P03", "57014", "40P01", "40001")],
    "mariadb": [of_mariadb(number) for number in (1205, 1213, 1020)],
}


class Injector:
    """Raises errors in place of the statements of write transactions, and of their COMMIT; never of a heartbeat's."""

    def __init__(self, kind: str, dice: random.Random) -> None:
        self._errors, self._dice = ERRORS[kind], dice
        self.injected, self.at_commit, self.active = 0, 0, False

    def statement(self, cursor: Any, sql: str, parameters: Any, context: Any) -> None:
        if context.root_connection.get_execution_options().get(WRITES):
            self._strike()

    def statement_without_parameters(self, cursor: Any, sql: str, context: Any) -> None:
        self.statement(cursor, sql, None, context)

    def commit(self, dialect: DefaultDialect, connection: Any) -> None:
        before = self.injected
        try:
            self._strike()
        finally:
            self.at_commit += self.injected - before
        connection.commit()

    def _strike(self) -> None:
        beats = threading.current_thread().name.startswith("lease ")
        if self.active and not beats and self._dice.random() < SHARE:
            self.injected += 1
            raise self._dice.choice(self._errors)()


@contextmanager
def injecting(injector: Injector, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On every engine, as long as the block runs. SQLAlchemy takes the errors for the driver's own."""
    event.listen(Engine, "do_execute", injector.statement)
    event.listen(Engine, "do_execute_no_params", injector.statement_without_parameters)
    with monkeypatch.context() as patch:
        patch.setattr(DefaultDialect, "do_commit", lambda dialect, connection: injector.commit(dialect, connection))
        yield
    event.remove(Engine, "do_execute", injector.statement)
    event.remove(Engine, "do_execute_no_params", injector.statement_without_parameters)


def check_ledger(items: Items) -> None:
    """What the ledger says was changed is what was changed."""
    with items.engine.connect() as connection:
        changed = connection.execute(sa.select(sa.func.coalesce(sa.func.sum(tables.ledger.c.changed), 0))).scalar_one()
    raised = sum(1 for key, y in items.values().items() if y != 10 * key)
    assert int(changed) == raised


def test_errors_at_any_statement(items: Items, monkeypatch: pytest.MonkeyPatch, publish: Callable[[str], None]) -> None:
    seed = random.randrange(10**6)
    kind = {"mysql": "mariadb"}.get(items.engine.dialect.name, items.engine.dialect.name)
    injector = Injector(kind, random.Random(seed))
    monkeypatch.setattr(InPlace, "before_transform", lambda *_: setattr(injector, "active", True))
    rounds = 0
    while injector.injected < INJECTIONS:
        rounds += 1
        injector.active = False
        with items.engine.begin() as connection:
            tables.metadata.drop_all(connection)
            fill_items(connection, {key: 10 * key for key in range(1, ROWS + 1)})
        Job(items.url, InPlace).init()
        with injecting(injector, monkeypatch):
            (report,) = Job(items.url, InPlace).run()
        assert items.values() == {key: 10 * key + 1 for key in range(1, ROWS + 1)}, f"seed {seed}"
        assert (items.status(), report.verified, items.runs()) == ("COMPLETED", True, 1)
        check_ledger(items)
        assert rounds < INJECTIONS
    assert injector.at_commit > 0
    figures = f"{injector.injected} in {rounds} runs, {injector.at_commit} of them at COMMIT, seed {seed}"
    publish(f"injected errors on {kind}: {figures}: 0 partial batches")
