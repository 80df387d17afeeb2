"""The pytest plugin: a fixture that puts a migration through everything that a night can bring.

    def test_normalize_phones(rehearse):
        rehearse(NormalizePhones, tables=account, rows=[{"id": 1, "phone": "+49 30 123456"}, ...])

Installed with the library, it does nothing until a test asks for `rehearse`, and imports nothing before.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from system_migration.migration import Migration
    from system_migration.rehearsal.filled import Rows, Tables
    from system_migration.rehearsal.report import Rehearsal


class Rehearse:
    """What the fixture is: called with a migration, it fails the test at the first broken promise."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._calls = folder, 0

    def __call__(
        self,
        migration: type[Migration],
        *,
        rows: Rows = (),
        tables: Tables | None = None,
    ) -> Rehearsal:
        """Rehearse `migration` on scratch databases that hold `rows`, and return the report.

        `rows` are those of its table; or, by table name, those of several; or a function that is given a connection
        and fills the database. `tables` are the tables to create: a SQLAlchemy table, several, or a MetaData; the
        migration's own need not be named if it is declared as a SQLAlchemy table. A dozen rows, different from each
        other, are enough. Fails the test with the report's text.
        """
        __tracebackhide__ = True
        from system_migration.rehearsal.filled import FilledFiles, filling
        from system_migration.rehearsal.rehearsing import registry_for, rehearse

        self._calls += 1
        folder = self._folder / f"rehearsal-{self._calls}"
        folder.mkdir()
        copies = FilledFiles(folder, filling(migration, rows, tables))
        found = rehearse(registry_for(migration), migration.name, copies)
        if not found.ok:
            pytest.fail(found.text(), pytrace=False)
        return found


@pytest.fixture
def rehearse(tmp_path: Path) -> Rehearse:
    """`rehearse(MyMigration, tables=..., rows=[...])`: see `system_migration.testing.Rehearse`."""
    return Rehearse(tmp_path)


__all__ = ["Rehearse", "rehearse"]
