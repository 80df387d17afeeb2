"""Waiting for something to become true, such as that a session on the server waits for another."""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy as sa

from tests.crash.harness import PATIENCE

_ROW_WAITS = {
    "postgresql": "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    # Not innodb_trx: asked more often than every 0.1 s, it goes on showing what it showed first.
    "mysql": "SELECT 1 FROM information_schema.global_status"
    " WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS' AND variable_value > 0",
}
_SCHEMA_WAITS = {
    "postgresql": _ROW_WAITS["postgresql"],
    "mysql": "SELECT 1 FROM information_schema.processlist"
    " WHERE db = DATABASE() AND state = 'Waiting for table metadata lock'",
}


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again; it is an error if it never comes true."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.01)


def somebody_waits_for_a_lock(engine: sa.Engine) -> bool:
    """Whether a session waits for rows that another one has locked."""
    return _is_true(engine, _ROW_WAITS)


def somebody_waits_for_the_schema(engine: sa.Engine) -> bool:
    """Whether a schema change waits for a session that uses the table."""
    return _is_true(engine, _SCHEMA_WAITS)


def _is_true(engine: sa.Engine, questions: dict[str, str]) -> bool:
    with engine.connect() as connection:
        return connection.execute(sa.text(questions[engine.dialect.name])).first() is not None
