"""The scratch copies that a rehearsal works on: made once from the source, then handed out as often as asked for.

The source is only ever read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from sqlalchemy import Engine

from system_migration.errors import ConfigurationError
from system_migration.migration import Migration
from system_migration.rehearsal.watching import Tell, Watch
from system_migration.store.dialects import dialect_of

SAMPLED_ROWS = 1_000
"""How many rows of a table are copied unless somebody says otherwise."""


class Copies(Protocol):
    """Scratch databases on demand, all with the same rows. `not_covered` says, in sentences, what they lack."""

    not_covered: Sequence[str]

    def fresh(self) -> AbstractContextManager[Engine]:
        """A scratch database of its own, without tracking tables; removed at the end, also after an error or Ctrl-C."""
        ...


@contextmanager
def copied(
    engine: Engine,
    migration: type[Migration],
    *,
    rows: int | None = SAMPLED_ROWS,
    progress: Tell = lambda sentence: None,
    scratch: Engine | None = None,
) -> Iterator[Copies]:
    """Copies of the database of `engine` for rehearsing `migration`; everything is removed when the block ends.

    Of a table with more than `rows` rows (None: no limit) a sample is copied, with the rows of other tables that its
    foreign keys need. The copies are files for SQLite, else databases on the server of `scratch`, by default on the
    source's own. `progress` is told in words what is being done.

    The source is read in one snapshot and never written. A process that is killed leaves its scratch databases
    behind; the next rehearsal of the same database removes them when they are a day old. Raises `Refused` when the
    copies cannot be made, with the right or the room that is missing.
    """
    dialect, watch = dialect_of(engine), Watch(progress)
    if scratch is not None and dialect_of(scratch).product != dialect.product:
        raise ConfigurationError(
            f"The scratch server is {dialect_of(scratch).product}, the database is {dialect.product}. "
            "A rehearsal needs the same product: give --scratch the address of such a server."
        )
    with _of_product(engine, migration, rows, watch, scratch) as copies:
        yield copies


def _of_product(
    engine: Engine, migration: type[Migration], rows: int | None, watch: Watch, scratch: Engine | None
) -> AbstractContextManager[Copies]:
    match dialect_of(engine).product:  # imported here: each of them brings what only its own database needs
        case "SQLite":
            from system_migration.rehearsal.copying_sqlite import copied_sqlite

            if scratch is not None:
                raise ConfigurationError(
                    "Copies of a SQLite database are files in the temporary folder: set TMPDIR instead of --scratch."
                )
            return copied_sqlite(engine, migration, rows, watch)
        case "PostgreSQL":
            from system_migration.rehearsal.copying_postgresql import copied_postgresql

            return copied_postgresql(engine, migration, rows, watch, scratch or engine)
        case _:
            from system_migration.rehearsal.copying_mariadb import copied_mariadb

            return copied_mariadb(engine, migration, rows, watch, scratch or engine)
