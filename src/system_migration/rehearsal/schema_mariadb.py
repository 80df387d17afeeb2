"""The schema of a MariaDB database, as statements that make it anew under another name.

Nothing that would reach another database is made: what a trigger writes there would be written for good.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from system_migration.rehearsal.tables import is_ours
from system_migration.store.dialects import Dialect

_NAME = r"`(?:[^`]|``)*`"
_DEFINER = re.compile(rf"\bDEFINER\s*=\s*(?:{_NAME}|\S+?)@(?:{_NAME}|\S+)\s+")
_FOREIGN_KEY_ELSEWHERE = re.compile(
    rf",\s*CONSTRAINT {_NAME} FOREIGN KEY \([^)]*\) REFERENCES {_NAME}\.{_NAME} \([^)]*\)"
    r"(?: ON (?:DELETE|UPDATE) (?:CASCADE|RESTRICT|NO ACTION|SET NULL|SET DEFAULT))*"
)
_SEQUENCE_ELSEWHERE = re.compile(rf"\b(?:nextval|lastval)\({_NAME}\.", re.IGNORECASE)
AS_IT_STANDS = {"no_parameters": True}


@dataclass(frozen=True)
class Entry:
    """One object of a schema, and the SQL mode that its statement was written in."""

    kind: str
    name: str
    sql: str
    mode: str | None = None
    start: int | None = None


@dataclass
class Schema:
    """Where `after` is made, the rows are there. `notes` are sentences about what is missing."""

    before: list[Entry] = field(default_factory=list)
    after: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_schema(source: Connection, database: str, dialect: Dialect) -> Schema:
    """The schema of the database that `source` is connected to, as far as its role may see it."""
    schema = Schema()
    names = source.execute(text("SELECT schema_name FROM information_schema.schemata")).scalars().all()
    qualified = re.compile(rf"(?i)(?<![\w.])`?(?:{'|'.join(map(re.escape, names))})`?\s*\.")
    reading = _Reading(source, database, dialect, qualified)
    for kind, name in reading.listed(_TABLES):
        if is_ours((None, name)):
            continue
        target = schema.after if kind == "VIEW" else schema.before
        reading.add(target, schema.notes, kind if kind in ("SEQUENCE", "VIEW") else "TABLE", name)
    schema.before.sort(key=lambda entry: entry.kind != "SEQUENCE")
    for kind, name in [*reading.listed(_ROUTINES), *reading.listed(_TRIGGERS)]:
        reading.add(schema.after, schema.notes, kind, name)
    # A view may use a function, a trigger both.
    schema.after.sort(key=lambda entry: ["FUNCTION", "PROCEDURE", "VIEW", "TRIGGER"].index(entry.kind))
    if reading.listed(_EVENTS):
        schema.notes.append("events of the scheduler: they would act in the copy by themselves")
    return schema


_TABLES = "SELECT table_type, table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 2"
_ROUTINES = (
    "SELECT routine_type, routine_name FROM information_schema.routines"
    " WHERE routine_schema = DATABASE() AND routine_type IN ('FUNCTION', 'PROCEDURE') ORDER BY 2"
)
_TRIGGERS = (
    "SELECT 'TRIGGER', trigger_name FROM information_schema.triggers"
    " WHERE trigger_schema = DATABASE() AND event_object_table NOT LIKE 'system\\_migration\\_%'"
    " ORDER BY event_object_table, action_timing, event_manipulation, action_order"
)
_EVENTS = "SELECT 'EVENT', event_name FROM information_schema.events WHERE event_schema = DATABASE()"


@dataclass
class _Reading:
    source: Connection
    database: str
    dialect: Dialect
    reaches_out: re.Pattern[str]

    def listed(self, query: str) -> Sequence[tuple[str, str]]:
        found = self.source.exec_driver_sql(query, execution_options=AS_IT_STANDS)
        return [(kind, name) for kind, name in found]

    def add(self, to: list[Entry], notes: list[str], kind: str, name: str) -> None:
        """Add one object, or a note on why it is left out."""
        statement, mode = self._statement(kind, name)
        if statement is None:
            notes.append(f"{kind.lower()} {name}: this role may not read it")
            return
        sql = self._rewritten(statement)
        kept = _FOREIGN_KEY_ELSEWHERE.sub("", sql) if kind == "TABLE" else sql
        if kept != sql:
            notes.append(f"a foreign key of {name}: it refers to another database")
        reaches = _SEQUENCE_ELSEWHERE if kind == "TABLE" else self.reaches_out
        if kind != "SEQUENCE" and reaches.search(kept):
            notes.append(f"{kind.lower()} {name}: it names another database")
            return
        to.append(Entry(kind, name, kept, mode, self._next_value(name) if kind == "SEQUENCE" else None))

    def _statement(self, kind: str, name: str) -> tuple[str | None, str | None]:
        """The statement that makes an object, None without the right to see it, and the SQL mode it was written in."""
        try:
            found = self.source.exec_driver_sql(f"SHOW CREATE {kind} {quoted(name)}", execution_options=AS_IT_STANDS)
        except DBAPIError as error:
            if self.dialect.denied(error):
                return None, None
            raise
        row = found.mappings().one()
        column = {"TRIGGER": "SQL Original Statement", "SEQUENCE": "Create Table"}.get(kind, f"Create {kind.title()}")
        return row[column], row.get("sql_mode")

    def _rewritten(self, sql: str) -> str:
        """Without the source's name, as what has none is of the database where it is run, and without an owner."""
        return _DEFINER.sub("", sql, count=1).replace(f"{quoted(self.database)}.", "")

    def _next_value(self, name: str) -> int:
        query = f"SELECT next_not_cached_value FROM {quoted(name)}"
        return int(self.source.exec_driver_sql(query, execution_options=AS_IT_STANDS).scalar_one())


def make(target: Connection, entries: Iterable[Entry], dialect: Dialect) -> list[str]:
    """Make these in the database of `target`, what depends on others later; sentences about what could not be made."""
    waiting, failed = list(entries), dict[Entry, str]()
    while waiting:
        left = []
        for entry in waiting:
            try:
                _make_one(target, entry)
                failed.pop(entry, None)
            except DBAPIError as error:
                failed[entry] = f"{entry.kind.lower()} {entry.name}: {dialect.describe(error)}"
                left.append(entry)
        if len(left) == len(waiting):
            break
        waiting = left
    return list(failed.values())


def _make_one(target: Connection, entry: Entry) -> None:
    if entry.mode is not None:
        run(target, f"SET SESSION sql_mode = '{entry.mode}'")
    run(target, entry.sql)
    if entry.start is not None:
        run(target, f"SELECT SETVAL({quoted(entry.name)}, {entry.start}, 0)")


def run(connection: Connection, statement: str) -> None:
    """Run a statement in which % is nothing but a character."""
    connection.exec_driver_sql(statement, execution_options=AS_IT_STANDS)


def quoted(name: str) -> str:
    """A name in SQL."""
    return "`" + name.replace("`", "``") + "`"
