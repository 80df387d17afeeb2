"""Bulk writers, one strategy for each database: what writes fastest differs by more than ten times between them."""

from __future__ import annotations

from sqlalchemy import Dialect

from system_migration.store.writers.base import BadValue, Missed, Shape, Writer, Written
from system_migration.store.writers.mariadb import MariaDBWriter
from system_migration.store.writers.postgresql import PostgreSQLWriter
from system_migration.store.writers.sqlite import SQLiteWriter

__all__ = ["BadValue", "Missed", "Shape", "Writer", "Written", "writer_for"]

_WRITERS: dict[str, type[Writer]] = {
    "postgresql": PostgreSQLWriter,
    "mysql": MariaDBWriter,
    "mariadb": MariaDBWriter,
    "sqlite": SQLiteWriter,
}


def writer_for(dialect: Dialect, shape: Shape) -> Writer:
    """The writer for a table of this shape on the database that SQLAlchemy calls `dialect`."""
    return _WRITERS[dialect.name](shape, dialect)
