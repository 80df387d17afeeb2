"""What a copy for one migration has: small tables whole, its own large one sampled, of others what is needed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, literal, select

from system_migration.batch_migration import BatchMigration
from system_migration.batching.resolution import resolve
from system_migration.errors import Refused
from system_migration.migration import Migration
from system_migration.rehearsal.sampling import Ask, Sample
from system_migration.rehearsal.selection import MOST_TIMES_ROWS, Selection, complete
from system_migration.rehearsal.tables import SourceTable, TableName, Tables, columns_of, shown
from system_migration.rehearsal.watching import Watch
from system_migration.schema_changes import SchemaChanges
from system_migration.wording import counted


class Choice:
    """Chooses rows for `migration`, of which at most `rows` (None: all) of a table are taken as they come.

    `connection` and `ask` look at the source. `notes` are sentences about what was left out.
    """

    def __init__(self, connection: Connection, ask: Ask, tables: Tables, migration: type[Migration]) -> None:
        self.connection, self.ask, self.tables, self.migration = connection, ask, tables, migration
        self.notes: list[str] = []

    def choose(self, rows: int | None, watch: Watch) -> Selection:
        """The rows to copy. Raises `Refused` when the migration's table is not there, or needs too much."""
        own = self._own()
        if rows is None:
            return Selection(whole=set(self.tables))
        selection, large = Selection(), []
        for name, table in self.tables.items():
            watch.heed()
            if self._is_small(table, rows):
                selection.whole.add(name)
            else:
                large.append(table)
                selection.keys[name] = {}
        sampled = [table for table in large if table.name == own or own is None]
        for table in sampled:
            watch.tell(f"choosing {rows:,} rows of {shown(table.name)}")
            selection.add(table.name, self._sample(table, rows))
        chosen = {name: len(keys) for name, keys in selection.keys.items()}
        complete(self.ask, self.tables, selection, MOST_TIMES_ROWS * rows, watch)
        self.notes += [_left_out(table, chosen[table.name], len(selection.keys[table.name])) for table in large]
        return selection

    def _own(self) -> TableName | None:
        """The table that the migration works on; None for one that may work on any."""
        if not issubclass(self.migration, BatchMigration):
            return None
        declared = self.migration.table
        schema, wanted = (None, declared) if isinstance(declared, str) else (declared.schema, declared.name)
        for name in ((schema, wanted), (None, wanted)):
            if name in self.tables:
                return name
        same = [name for name in self.tables if name[1].lower() == wanted.lower()]
        if len(same) == 1:
            return same[0]
        raise Refused(
            f"Table {wanted!r} of migration {self.migration.name} is not among the tables that can be copied. "
            "Check the database and the migration's table, and that this role may read it."
        )

    def _is_small(self, table: SourceTable, rows: int) -> bool:
        if table.about is not None and table.about > 1_000 * rows:
            return False
        some = select(literal(1)).select_from(table.clause).limit(rows + 1).subquery()
        return int(self.ask(select(func.count()).select_from(some))[0][0]) <= rows

    def _sample(self, table: SourceTable, rows: int) -> Sequence[tuple[object, ...]]:
        if not table.key:
            return []
        sample = self._sample_of_own(rows) if issubclass(self.migration, BatchMigration) else None
        if sample is None:
            source = table.clause
            sample = Sample(self.ask, source, tuple(columns_of(source, table.key)), rows)
        keys = sample.keys()
        self.notes += [f"{note} ({shown(table.name)})" for note in sample.notes]
        return keys

    def _sample_of_own(self, rows: int) -> Sample:
        migration = self.migration()
        assert isinstance(migration, BatchMigration)
        schema = SchemaChanges(self.connection, perform=False)
        migration.prepare(schema)
        target = resolve(self.connection, migration, schema.columns_of(migration.table_name))
        return Sample(self.ask, target.table, target.key, rows, target.pending)


def _left_out(table: SourceTable, chosen: int, taken: int) -> str:
    """What a copy has of a large table, in a sentence."""
    of = f" of about {counted(table.about, 'row')}" if table.about and table.about > taken else " rows"
    needed = f"{taken - chosen:,} that foreign keys need"
    parts = [f"{chosen:,} chosen"] * bool(chosen) + [needed] * (taken > chosen or not chosen)
    return f"{shown(table.name)} was copied in part, {taken:,}{of}: {', '.join(parts)}"
