"""The table and the migrations that the crash tests work on: `y = y + 1` for every item, exactly once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa

from system_migration import BatchMigration, Migration, MigrationContext, MigrationResult, Row
from system_migration.store import chain, tables
from system_migration.store.times import now
from tests.crash.harness import expire_lease
from tests.support.databases import application_engine

metadata = sa.MetaData()
item = sa.Table(
    "item",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("origin", sa.Integer, nullable=False),
    sa.Column("y", sa.Integer, nullable=False),
)
"""`origin` is what `y` was when the test began; nothing ever writes it."""


class InPlace(BatchMigration):
    """Without `pending`: only the ledger knows which rows are done."""

    name = "001-in-place"
    table = "item"
    reads = ("origin", "y")
    writes = ("y",)
    before_transform: ClassVar[Callable[[], None]] = staticmethod(lambda: None)

    def transform(self, row: Row) -> Mapping[str, Any]:
        self.before_transform()
        return {"y": row.y + 1}

    def verify(self, context: MigrationContext) -> bool:
        wrong = sa.select(item.c.id).where(item.c.y != item.c.origin + 1)
        return context.connection.execute(wrong).first() is None


class Undoable(InPlace):
    """The same, journalled."""

    name = "001-undoable"
    rollbackable = True


class Flagged(BatchMigration):
    """With `prepare` and `pending`: a flag tells which rows are done."""

    name = "001-flagged"
    table = "item"
    reads = ("origin", "y")
    writes = ("y", "done")
    before_transform: ClassVar[Callable[[], None]] = staticmethod(lambda: None)

    def prepare(self, schema: Any) -> None:
        schema.add_column("item", sa.Column("done", sa.SmallInteger, nullable=False, server_default=sa.text("0")))

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.done == 0

    def transform(self, row: Row) -> Mapping[str, Any]:
        self.before_transform()
        return {"y": row.y + 1, "done": 1}

    def check(self, row: Row) -> bool:
        return bool(row.y == row.origin + 1 and row.done == 1)


class Chosen(Flagged):
    """As `Flagged`, but `pending` looks at a column that is neither read nor written."""

    name = "001-chosen"
    reads = ("y",)

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return (t.c.done == 0) & (t.c.origin >= 0)

    def check(self, row: Row) -> bool:
        return True  # it is asked about rows that never were pending too


class Imperative(Migration):
    """The same change, written as code that runs in one transaction."""

    name = "001-imperative"
    witness: ClassVar[Path | None] = None

    def call(self, method: str) -> None:
        """Tell the test, by a way that no rollback undoes."""
        if self.witness is not None:
            with self.witness.open("a") as file:
                file.write(f"{method}\n")

    def up(self, context: MigrationContext) -> MigrationResult:
        self.call("up")
        half = context.connection.execute(sa.select(sa.func.avg(item.c.id))).scalar_one()
        below = context.connection.execute(item.update().where(item.c.id <= half).values(y=item.c.y + 1))
        above = context.connection.execute(item.update().where(item.c.id > half).values(y=item.c.y + 1))
        return MigrationResult(records_processed=below.rowcount + above.rowcount)

    def verify(self, context: MigrationContext) -> bool:
        self.call("verify")
        wrong = sa.select(item.c.id).where(item.c.y != item.c.origin + 1)
        return context.connection.execute(wrong).first() is None


class Unprotected(Imperative):
    """The same in no transaction: one statement that must not run twice, and the probe that tells."""

    name = "001-unprotected"
    transactional = False

    def up(self, context: MigrationContext) -> MigrationResult:
        self.call("up")
        done = context.connection.execute(item.update().values(y=item.c.y + 1))
        return MigrationResult(records_processed=done.rowcount)

    def applied(self, context: MigrationContext) -> bool:
        untouched = sa.select(item.c.id).where(item.c.y == item.c.origin)
        return context.connection.execute(untouched).first() is None


def fill_items(connection: sa.Connection, initial: Mapping[int, int], *, anew: bool = True) -> None:
    """These keys and values and no others; the table `anew` loses the columns that a run has added."""
    if anew:
        item.drop(connection, checkfirst=True)
        item.create(connection)
    else:
        connection.execute(item.delete())
    connection.execute(item.insert(), [{"id": key, "origin": y, "y": y} for key, y in initial.items()])


def kind_of(engine: sa.Engine) -> str:
    """An engine's database by the name that tests give it."""
    return {"mysql": "mariadb"}.get(engine.dialect.name, engine.dialect.name)


def forget_runs(connection: sa.Connection) -> None:
    """Empty the tracking tables; the database stays bound."""
    for table in reversed(tables.metadata.sorted_tables):
        if table is not tables.meta:
            connection.execute(table.delete())
    connection.execute(chain.beginning())


class Items:
    """Six items as the application sees them, on connections that are closed at once."""

    initial: ClassVar[Mapping[int, int]] = {key: 10 * key for key in range(1, 7)}
    migrated: ClassVar[Mapping[int, int]] = {key: y + 1 for key, y in initial.items()}

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = application_engine(url)
        with self.engine.begin() as connection:
            fill_items(connection, self.initial)

    def close(self) -> None:
        self.engine.dispose()

    @property
    def kind(self) -> str:
        """The database's name as tests have it."""
        return kind_of(self.engine)

    def begin_anew(self, *, fresh: bool = False) -> None:
        """The items as at first, and no trace of any run; a `fresh` database has no tracking tables either."""
        with self.engine.begin() as connection:
            if fresh:
                tables.metadata.drop_all(connection)
            elif sa.inspect(connection).has_table(tables.meta.name):
                forget_runs(connection)
            fill_items(connection, self.initial)

    def values(self) -> dict[int, int]:
        """Every `y` by its key."""
        return {row.id: row.y for row in self._ask(sa.select(item.c.id, item.c.y).order_by(item.c.id))}

    def columns(self) -> list[str]:
        with self.engine.connect() as connection:
            return [column["name"] for column in sa.inspect(connection).get_columns("item")]

    def tables(self) -> set[str]:
        with self.engine.connect() as connection:
            return set(sa.inspect(connection).get_table_names())

    def indexes(self, table: str) -> list[str | None]:
        with self.engine.connect() as connection:
            return [index["name"] for index in sa.inspect(connection).get_indexes(table)]

    def change(self, statement: sa.Executable) -> None:
        """What the application does meanwhile."""
        with self.engine.begin() as connection:
            connection.execute(statement)

    def write(self, key: int, **values: int) -> None:
        self.change(item.update().where(item.c.id == key).values(**values))

    def expire_lease(self) -> None:
        """What waiting for a silent runner's lease to run out would come to, in one UPDATE."""
        with self.engine.begin() as connection:
            expire_lease(connection)

    def fence(self) -> int:
        return int(self._ask(sa.select(tables.lease.c.fence))[0].fence)

    def status(self) -> str:
        return str(self._ask(sa.select(tables.migration.c.status))[0].status)

    def notes(self) -> set[str | None]:
        """What is in the column `note`."""
        return {row.note for row in self._ask(sa.select(sa.column("note")).select_from(item))}

    def lease_is_free(self) -> bool:
        """Whether anybody may take the lease over now."""
        return bool(self._ask(sa.select(tables.lease.c.fence).where(tables.lease.c.takeover_at < now())))

    def runs(self) -> int:
        """How many attempts there were."""
        return len(self._ask(sa.select(tables.run.c.id)))

    def _ask(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        with self.engine.connect() as connection:
            return connection.execute(query).all()
