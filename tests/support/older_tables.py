"""A database as an older version of the tracking tables left it: one migration finished, one half-done and left.

Of the numbers 10 to 80, 10, 20, 50 and 60 are incremented: batches 1 and 3 are committed, batch 2 and the end are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine, text

from system_migration.store import tables
from system_migration.store.database import Database
from system_migration.store.times import now

_DATA = Path(__file__).parents[1] / "data"
_FILES = {"mysql": "mariadb", "mariadb": "mariadb", "postgresql": "postgresql", "sqlite": "sqlite"}


def make_older(engine: Engine, version: int, *, environment: str = "test") -> None:
    """Make the tables and rows of a version, bound to this database."""
    product = _FILES[engine.dialect.name]
    database = Database(engine)
    with database.write() as connection:
        for statement in (*_statements(version, product), *_statements(version, "rows")):
            if product == "mariadb":
                statement = statement.replace('"range"', "`range`").replace('"key"', "`key`")
            connection.exec_driver_sql(statement)
        marks = database.dialect.fingerprint(connection, tables.meta.name)
        binding = {"schema_version": version, "environment": environment, "place": marks.place, "body": marks.body}
        connection.execute(tables.meta.insert().values(id=1, bound_at=now(), **binding))
        connection.execute(text("UPDATE number SET y = y + 1 WHERE id IN (10, 20, 50, 60)"))
    database.close()


def _statements(version: int, name: str) -> Iterator[str]:
    for statement in (_DATA / f"tracking-version-{version}" / f"{name}.sql").read_text(encoding="utf-8").split(";\n"):
        if statement.strip():
            yield statement.strip()
