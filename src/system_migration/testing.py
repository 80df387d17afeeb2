"""The pytest plugin: a fixture that puts a migration through everything that a night can bring.

    def test_normalize_phones(rehearse):
        rehearse(NormalizePhones, tables=account, rows=[{"id": 1, "phone": "+49 30 123456"}, ...])

Installed with the library, it does nothing until a test asks for `rehearse`, and imports nothing before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from system_migration.migration import Migration
    from system_migration.rehearsal.copies import Copies
    from system_migration.rehearsal.filled import Rows, Tables
    from system_migration.rehearsal.report import Rehearsal

OPTION, VARIABLE = "--rehearse-database", "REHEARSE_DATABASE_URL"


class Rehearse:
    """What the fixture `rehearse` is: called with a migration, it fails the test at the first broken promise."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self._folder, self._url, self._calls = folder, url, 0

    def __call__(
        self,
        migration: type[Migration],
        *,
        rows: Rows = (),
        tables: Tables | None = None,
        engine: Engine | None = None,
        database_url: str | None = None,
    ) -> Rehearsal:
        """Rehearse `migration` on scratch databases that hold `rows`, and return the report.

        `rows` are those of its table; or, by table name, those of several; or a function that is given a connection
        and fills the database. `tables` are the tables to create: a SQLAlchemy table, several, or a MetaData; the
        migration's own need not be given if it is declared as one. A dozen rows, each different, are enough.

        The scratch databases are SQLite files, or with a `database_url` (or `--rehearse-database`, or
        REHEARSE_DATABASE_URL) databases on that server, made and dropped. With an `engine` they are copies of its
        database, which is only read. Fails the test with the report's text.
        """
        __tracebackhide__ = True
        from system_migration.rehearsal.rehearsing import registry_for, rehearse

        with self._copies(migration, rows, tables, engine, database_url or self._url) as copies:
            found = rehearse(registry_for(migration), migration.name, copies)
        if not found.ok:
            pytest.fail(found.text(), pytrace=False)
        return found

    @contextmanager
    def _copies(
        self, migration: type[Migration], rows: Rows, tables: Tables | None, engine: Engine | None, url: str | None
    ) -> Iterator[Copies]:
        from system_migration.rehearsal.copies import copied
        from system_migration.rehearsal.filled import FilledDatabases, FilledFiles, filling

        if engine is not None:
            with copied(engine, migration) as copies:
                yield copies
            return
        fill = filling(migration, rows, tables)
        yield FilledDatabases(url, fill) if url else FilledFiles(self._next_folder(), fill)

    def _next_folder(self) -> Path:
        self._calls += 1
        folder = self._folder / f"rehearsal-{self._calls}"
        folder.mkdir()
        return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("system-migration").addoption(
        OPTION,
        metavar="URL",
        help=f"let `rehearse` make its scratch databases on this server (default: {VARIABLE}, else SQLite files)",
    )


@pytest.fixture
def rehearse(request: pytest.FixtureRequest, tmp_path: Path) -> Rehearse:
    """`rehearse(MyMigration, tables=..., rows=[...])` fails the test at the first promise that it breaks."""
    return Rehearse(tmp_path, request.config.getoption(OPTION) or os.environ.get(VARIABLE) or None)


__all__ = ["Rehearse"]
