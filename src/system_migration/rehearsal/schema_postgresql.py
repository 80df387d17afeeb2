"""A PostgreSQL schema, as statements that make it anew elsewhere: what comes before the rows, and what after.

`pg_dump` writes them where it is installed and knows the server. Else what SQLAlchemy reflects is made, which is less.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import URL, Connection, MetaData, text
from sqlalchemy.dialects.postgresql.named_types import NamedType
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import AddConstraint, CreateIndex, CreateTable

from system_migration.rehearsal.tables import is_ours
from system_migration.rehearsal.watching import Watch
from system_migration.store.dialects import Dialect
from system_migration.store.tables import PREFIX

LOCK_SECONDS = 5.0
_HEADING = re.compile(r"^-- Name: (?P<name>.*); Type: (?P<kind>[A-Z ]+); Schema: (?P<schema>.*?); Owner:.*$", re.M)
_FOR_PSQL = re.compile(r"^\\(un)?restrict .*$", re.M)
# What a copy must not have: these reach other databases, whose rows are nobody's scratch.
_REACH_OUT = {"FOREIGN DATA WRAPPER", "SERVER", "FOREIGN TABLE", "SUBSCRIPTION", "PUBLICATION", "EVENT TRIGGER"}
_PARTS_OF_THESE = {"USER MAPPING", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA"}
_EXISTS = ("42P06", "42710")  # a schema or an extension that every new database has


@dataclass(frozen=True)
class Entry:
    """One object of a schema."""

    kind: str
    name: str
    sql: str


@dataclass
class Schema:
    """Where `after` is made, the rows are there. `reflected` is set instead of both where there is no dump."""

    before: Sequence[Entry] = ()
    after: Sequence[Entry] = ()
    reflected: MetaData | None = None
    notes: list[str] = field(default_factory=list)


def read_schema(source: Connection, url: URL, watch: Watch) -> Schema:
    """The schema as the transaction of `source`, which exports its snapshot, sees it."""
    snapshot = source.execute(text("SELECT pg_export_snapshot()")).scalar_one()
    dumped = [_dump(source, url, snapshot, section, watch) for section in ("pre-data", "post-data")]
    if None not in dumped:
        before, after = (list(_entries(each or "")) for each in dumped)
        return Schema(before, after)
    schema = Schema(reflected=MetaData())
    schema.notes.append(
        "views, functions, triggers and checks of the schema: there is no pg_dump here that reads this server, "
        "so only tables, indexes and foreign keys were copied"
    )
    assert schema.reflected is not None
    schema.reflected.reflect(source, only=lambda name, _: not is_ours((None, name)))
    return schema


def make_before(target: Connection, schema: Schema, dialect: Dialect) -> None:
    """Make what the rows need. What cannot be made is told in `notes`."""
    if schema.reflected is None:
        _make(target, schema.before, dialect, schema.notes)
        return
    for table in schema.reflected.tables.values():
        for kind in {getattr(column.type, "item_type", column.type) for column in table.columns}:
            if isinstance(kind, NamedType):
                kind.create(target, checkfirst=True)
        target.execute(CreateTable(table, include_foreign_key_constraints=[]))


def make_after(target: Connection, schema: Schema, dialect: Dialect) -> None:
    """Make what is better made when the rows are there: indexes, foreign keys, triggers."""
    _make(target, schema.after, dialect, schema.notes)
    for table in schema.reflected.tables.values() if schema.reflected is not None else ():
        for index in table.indexes:
            target.execute(CreateIndex(index))
    for table in schema.reflected.tables.values() if schema.reflected is not None else ():
        for key in table.foreign_key_constraints:
            target.execute(AddConstraint(key))


def _dump(source: Connection, url: URL, snapshot: str, section: str, watch: Watch) -> str | None:
    """What `pg_dump` says of a section; None where there is none, or one that this server is too new for."""
    program = shutil.which("pg_dump")
    if program is None:
        return None
    given = source.dialect.create_connect_args(url)[1]
    options = ["--schema-only", f"--section={section}", "--no-owner", "--no-privileges", "--no-comments"]
    options += ["--no-tablespaces", "--no-security-labels", "--encoding=UTF8", f"--snapshot={snapshot}"]
    options += [f"--exclude-table=*.{PREFIX}*"]  # with the indexes and keys of these
    options += [f"--lock-wait-timeout={int(LOCK_SECONDS * 1000)}", f"--dbname={_conninfo(given)}"]
    password = {"PGPASSWORD": str(given["password"])} if given.get("password") else {}
    try:
        done = subprocess.run(
            [program, *options],
            env={**os.environ, **password},
            capture_output=True,
            encoding="utf-8",
            timeout=watch.left,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None


def _conninfo(given: Mapping[str, object]) -> str:
    from psycopg.conninfo import make_conninfo
    from psycopg.pq import Conninfo

    known = {option.keyword.decode() for option in Conninfo.get_defaults()} - {"password"}
    return make_conninfo(**{name: str(value) for name, value in given.items() if name in known})


def _entries(dump: str) -> Iterable[Entry]:
    """The objects in a dump, first what is set for all of them."""
    dump = _FOR_PSQL.sub("", dump)
    headings = list(_HEADING.finditer(dump))
    ends = [heading.start() for heading in headings[1:]] + [len(dump)]
    yield Entry("SET", "", dump[: headings[0].start()] if headings else dump)
    for heading, end in zip(headings, ends, strict=True):
        yield Entry(heading["kind"], heading["name"], dump[heading.end() : end])


def _make(target: Connection, entries: Iterable[Entry], dialect: Dialect, notes: list[str]) -> None:
    for entry in entries:
        what = f"{entry.kind.lower()} {entry.name}"
        if entry.kind in _REACH_OUT:
            notes.append(f"{what}: it reaches beyond the database")
        if entry.kind in _REACH_OUT | _PARTS_OF_THESE:
            continue
        try:
            with target.begin_nested():
                target.exec_driver_sql(entry.sql, execution_options={"no_parameters": True})
        except DBAPIError as error:
            if dialect.code(error) not in _EXISTS:
                notes.append(f"{what}: {dialect.describe(error)}")
