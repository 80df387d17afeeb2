"""The declarative form of a migration: rows of one table, transformed one by one, in batches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from system_migration.errors import Refused
from system_migration.migration import Migration, MigrationContext

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, FromClause, Table

    from system_migration.schema_changes import SchemaChanges


class RowIssue(Exception):
    """Raised by `transform` to hold a row: it stays as it is and is listed by key, `code` and `message`.

    The message is stored and shown, so it must not carry the row's values.
    """

    def __init__(self, code: str, message: str = "") -> None:
        self.code, self.message = code, message
        super().__init__(code, message)


class UndeclaredColumn(AttributeError, KeyError):
    """A migration looked at a column that it does not declare."""

    def __str__(self) -> str:
        return str(self.args[0])


class Row:
    """The declared columns of one row, as attributes or items. Any other column is an error, not a None."""

    __slots__ = ("_row_positions", "_row_values")

    def __init__(self, positions: Mapping[str, int], values: Sequence[Any]) -> None:
        object.__setattr__(self, "_row_positions", positions)
        object.__setattr__(self, "_row_values", values)

    def __getitem__(self, column: str) -> Any:
        try:
            return self._row_values[self._row_positions[column]]
        except KeyError:
            raise UndeclaredColumn(f"column {column!r} is not declared in reads") from None

    def __getattr__(self, column: str) -> Any:
        return self[column]

    def __setattr__(self, column: str, value: Any) -> None:
        raise AttributeError("a row is read-only: return the new values from transform")

    def __repr__(self) -> str:
        return f"Row({', '.join(self._row_positions)})"  # names only: values may be personal

    def __reduce__(self) -> tuple[type[Row], tuple[Mapping[str, int], Sequence[Any]]]:
        return Row, (dict(self._row_positions), self._row_values)


fill_row = vars(Row)["_row_values"].__set__
"""`fill_row(row, values)`: how a row made by `object.__new__(row_class(columns))` gets its values."""


@cache
def row_class(columns: tuple[str, ...]) -> type[Row]:
    """A `Row` for exactly these columns: made and read several times faster, with nothing to look up for a row."""

    def column(position: int) -> property:
        return property(lambda row: row._row_values[position])

    # A name that every object has, such as __class__, is left to `row["__class__"]`.
    found = {name: column(position) for position, name in enumerate(columns) if not hasattr(Row, name)}
    positions = {name: position for position, name in enumerate(columns)}
    return type("Row", (Row,), {"__slots__": (), "_row_positions": positions, **found})


@dataclass
class BatchContext(MigrationContext):
    """What `preflight` and `verify` of a batch migration are handed.

    `table` is the table with every column the migration will see; a column that `prepare` has yet to add reads as
    a typed NULL. `max_issues` is what the operator accepted with `--max-issues`, or None. A preflight that counts for
    itself may set `allowed_issues`, which then stands for the migration's own `allowed_issues(rows)` in this run.
    """

    table: FromClause = field(kw_only=True)
    max_issues: int | None = field(kw_only=True)
    scan_rows: Callable[[Sequence[str], ColumnElement[bool] | None], Iterator[tuple[tuple[Any, ...], Row]]] = field(
        kw_only=True
    )
    pins: dict[str, str] = field(kw_only=True)
    allowed_issues: int | None = field(kw_only=True, default=None)
    foreseen: dict[tuple[Any, ...], str] = field(kw_only=True, default_factory=dict)

    def scan(
        self, columns: Sequence[str], where: ColumnElement[bool] | None = None
    ) -> Iterator[tuple[tuple[Any, ...], Row]]:
        """Every row as (key, row), by key ranges, in bounded memory, with no transaction left open."""
        return self.scan_rows(columns, where)

    def foresee(self, key: tuple[Any, ...], code: str) -> None:
        """Tell the dry run's report that a run would hold this row."""
        self.foreseen[key] = code

    def pin(self, name: str, value: str) -> None:
        """Bind this generation to `value`. A later attempt that pins another one is refused."""
        if self.pins.setdefault(name, value) != value:
            raise Refused(
                f"The {name} differs from the one this migration began with. Use the same {name} to continue."
            )


class BatchMigration(Migration):
    """A migration that changes the rows of one table, batch by batch, while the application keeps working.

    Each batch's rows, its issues and its ledger entry commit together, so a death at any moment loses and repeats
    nothing. With `pending` a row needs work while that expression is true; without it the ledger alone says what is
    done, and in-place changes are made exactly once.

    It defines `transform(row)`, or `assign(t)` for changes that SQL can express. `expected_rows` bounds how many rows
    a run may change. With `rollbackable = True` and no `down` every change is journalled, so that it can be undone;
    columns in `sensitive` are journalled only with `journal_sensitive = True`. `row_seconds` (60 unless it says
    otherwise) and `row_memory` (bytes) limit what one row may take with `--processes` or `--dask`; a row that takes
    more is held.
    In threads a row that takes longer than a declared `row_seconds` is reported, and nothing else can be done.
    """

    table: ClassVar[str | Table]
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]]
    sensitive: ClassVar[tuple[str, ...]] = ()
    max_issues: ClassVar[int] = 0
    stop_after_issues: ClassVar[int | None] = None
    expected_rows: ClassVar[range | None] = None
    journal_sensitive: ClassVar[bool] = False
    row_seconds: ClassVar[float | None] = None
    row_memory: ClassVar[int | None] = None

    def prepare(self, schema: SchemaChanges) -> None:
        """Change the schema first, through idempotent helpers."""

    def preflight(self, context: BatchContext) -> Awaitable[None] | None:  # type: ignore[override]
        """Raise `Refused` when the migration must not start. It may read, never write."""
        return None

    def pending(self, t: FromClause) -> ColumnElement[bool]:
        """Which rows still need the change, in SQL; false once `transform`'s values are written."""
        raise NotImplementedError

    def setup_worker(self) -> None:
        """Prepare this worker's own instance: keys, clients. They never travel between processes."""

    def transform(self, row: Row) -> Mapping[str, Any]:
        """The new values of the declared `writes`. Pure: it may run more than once for a row."""
        raise NotImplementedError

    def assign(self, t: FromClause) -> Mapping[str, Any]:
        """The new values of the declared `writes` as SQL expressions over `t`: each batch is then one UPDATE."""
        raise NotImplementedError

    def healthy(self, context: MigrationContext) -> str | None:
        """A reason to wait before the next batch, or None. Asked every few seconds; see `system_migration.health`.

        When it raises, the run goes on and its log has a warning; to hold it instead, catch that and return a reason.
        """
        return None

    def check(self, row: Row) -> bool:
        """Verify one row, by other means than `transform` used. It sees `reads` and `writes`.

        Called for every row that is no longer pending, so also for those that never needed the change; without
        `pending` for every row up to the bound of the run, so also for those that were added in between.
        """
        raise NotImplementedError

    def allowed_issues(self, rows: int) -> int:
        """How many of `rows` may stay held in a completed run."""
        return self.max_issues

    @classmethod
    def keeps_journal(cls) -> bool:
        """Whether every change is journalled, so that it can be undone without a `down`."""
        return cls.rollbackable and not cls.defines("down")

    @property
    def table_name(self) -> str:
        """The table's name, however it was given."""
        return self.table if isinstance(self.table, str) else self.table.name

    @property
    def has_pending(self) -> bool:
        """Whether SQL, and not the ledger alone, says which rows need the change."""
        return self.defines("pending")
