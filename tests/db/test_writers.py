"""The bulk writers, called directly: exact about what was read, and lossless about what they write."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from system_migration import BatchMigration, Row
from system_migration.batching import writes
from system_migration.batching.resolution import resolve
from system_migration.batching.target import Target
from system_migration.errors import MigrationSystemError
from system_migration.store.writers import Missed
from tests.db.test_workbench import execute, quick, rows_of

GUARDED = {
    "postgresql": {
        "integer": ("1", "2"),
        "numeric": ("1.0", "1.00"),
        "double precision": ("0.0", "'-0.0'"),
        "real": ("'NaN'", "0"),
        "text": ("'zoe'", "'zoë'"),
        "varchar(9)": ("'007'", "'7'"),
        'text COLLATE "C"': ("NULL", "''"),
        "char(9)": ("'a'", "'b'"),
        "json": ("""'{"a": 1, "b": 2}'""", """'{"b": 2, "a": 1}'"""),
        "jsonb": ("'1'", "'1.0'"),
        "interval": ("'1 mon'", "'30 days'"),
        "timestamp": ("'2024-01-01 00:00:00.000001'", "'2024-01-01 00:00:00.000002'"),
        "timestamptz": ("'2024-01-01 00:00:00.000001+00'", "'2024-01-01 00:00:00.000002+00'"),
        "boolean": ("false", "NULL"),
        "bytea": ("''", "NULL"),
        "integer[]": ("'{1}'", "'{{1}}'"),
    },
    "mysql": {
        "bigint unsigned": ("18446744073709551615", "18446744073709551614"),
        "decimal(30,10)": ("12345678901234567890.0000000001", "12345678901234567890.0000000002"),
        "date": ("'2024-02-28'", "'2024-02-29'"),
        "datetime(6)": ("'2024-01-01 00:00:00.000001'", "'2024-01-01 00:00:00.000002'"),
        "varchar(9) COLLATE utf8mb4_general_ci": ("'a'", "'A'"),
        "varchar(8) COLLATE utf8mb4_unicode_ci": ("'zoe'", "'zoë'"),
        "varchar(7) COLLATE utf8mb4_bin": ("'a'", "'a '"),
        "text CHARACTER SET latin1": ("'é'", "'Ã©'"),
        "varchar(6) CHARACTER SET utf16": ("'a😀'", "'A😀'"),
        "varchar(5)": ("'007'", "'7'"),
        "text": ("NULL", "''"),
        "char(9)": ("'a'", "'A'"),
    },
    "sqlite": {
        "integer": ("9007199254740993", "9007199254740992"),
        "bigint": ("1", "1.5"),
        "text": ("'1.0'", "'1.00'"),
        "text COLLATE NOCASE": ("'a'", "'A'"),
        "text COLLATE RTRIM": ("'a'", "'a '"),
        "varchar(9)": ("NULL", "''"),
        "varchar(8)": ("'7'", "x'37'"),
    },
}


def target_for(engine: Engine, table: str | sa.Table = "thing", pending: Any = None, **more: Any) -> Target:
    """The target of a migration that reads `value` and writes `done`."""

    class Touch(BatchMigration):
        name = "001-touch"
        reads = more.get("reads", ("value",))
        writes = more.get("writes", ("done",))

        def transform(self, row: Row) -> dict[str, Any]:
            return {}

    Touch.table = table
    if pending is not None:
        Touch.pending = lambda self, t: pending(t)  # type: ignore[method-assign]
    with quick(engine).connect() as connection:
        return resolve(connection, Touch())


def read(engine: Engine, target: Target) -> Sequence[Sequence[Any]]:
    with quick(engine).connect() as connection:
        return target.fetch(connection, target.batch(None, None, None))


def write(engine: Engine, target: Target, rows: Sequence[Any], *values: Sequence[Any]) -> int:
    with quick(engine).begin() as connection:
        return target.writer.write_guarded(connection, rows, values).matched


def test_a_change_from_one_value_to_a_similar_one_is_missed(engine: Engine, subtests: pytest.Subtests) -> None:
    """In either direction, and a row that did not change is not."""
    for type_, (one, other_one) in GUARDED[engine.dialect.name].items():
        for before, after in ((one, other_one), (other_one, one)):
            with subtests.test(type=type_, before=before):
                change_meanwhile(engine, type_, before, after)


def change_meanwhile(engine: Engine, type_: str, before: str, after: str) -> None:
    execute(engine, "DROP TABLE IF EXISTS thing")
    run(engine, f"CREATE TABLE thing (id integer PRIMARY KEY, value {type_}, done integer)")
    run(engine, f"INSERT INTO thing VALUES (1, {before}, 0), (2, {before}, 0)")
    target = target_for(engine)
    assert target.writer.exact_guard
    assert write(engine, target, read(engine, target), [1, 1]) == 2
    rows = read(engine, target)
    run(engine, f"UPDATE thing SET value = {after} WHERE id = 2")
    with pytest.raises(Missed):
        write(engine, target, rows, [2, 2])
    assert rows_of(engine, "SELECT done FROM thing") == [(1,), (1,)]


def run(engine: Engine, statement: str) -> None:
    """A statement as it is: colons and percent signs are no parameters."""
    with quick(engine).begin() as connection:
        connection.execute(sa.text(statement.replace(":", "\\:")))


TEXTS = ["'\"`", "\\", "%s %(a)s %", "\x1f", "{a,b}", "a,b\nc\r", "😀", "", "NULL", ":x ?", None, " a "]


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:3], TEXTS[4:10], [None, None]])
def test_every_text_arrives_as_it_is_under_the_key_that_was_read(engine: Engine, texts: list[str | None]) -> None:
    kind = "varchar(20) COLLATE utf8mb4_bin" if engine.dialect.name == "mysql" else "varchar(20)"
    execute(engine, f"CREATE TABLE thing (a {kind}, b integer, value integer, done varchar(20), PRIMARY KEY (a, b))")
    table = sa.table("thing", sa.column("a"), sa.column("b"))
    keys = [{"a": text or "", "b": number} for number, text in enumerate(texts)]
    with quick(engine).begin() as connection:
        connection.execute(table.insert(), keys)
    target = target_for(engine)
    rows = read(engine, target)
    new = [texts[row[1]] for row in rows]
    assert write(engine, target, rows, new) == len(texts)
    found = rows_of(engine, "SELECT a, b, done FROM thing ORDER BY b")
    assert found == [(text or "", number, text) for number, text in enumerate(texts)]


@pytest.mark.parametrize("name", ["select", 'qu"ote', "per%cent %s", "co:lon", "ques?tion", "back`tick"])
def test_names_of_any_kind_are_quoted(engine: Engine, name: str) -> None:
    if engine.dialect.name == "mysql" and "`" in name:
        pytest.skip("SQLAlchemy does not reflect such a column")
    table = sa.Table(
        name, sa.MetaData(), sa.Column("id " + name, sa.Integer, primary_key=True), sa.Column(name, sa.Integer)
    )
    with quick(engine).begin() as connection:
        table.create(connection)
        connection.execute(table.insert().values([1, 2]))
    target = target_for(engine, name, lambda t: t.c[name] == 2, reads=(name,), writes=(name,))
    assert write(engine, target, read(engine, target), [3]) == 1
    with quick(engine).connect() as connection:
        assert connection.execute(sa.select(table)).all() == [(1, 3)]


other = sa.table("other", sa.column("thing_id"), sa.column("word", sa.String))
also = sa.table("thing", sa.column("id"), sa.column("value")).alias("also")
PENDING = {
    "literal": lambda t: t.c.value == "a%b'\\c",
    "like": lambda t: t.c.value.like("%a%"),
    "in": lambda t: t.c.value.in_(["a%b'\\c", ":x"]),
    "text": lambda t: sa.text("value LIKE '%a%'"),
    "exists": lambda t: sa.exists().where(other.c.thing_id == t.c.id, other.c.word.like("%w%")),
    "same_table": lambda t: sa.exists().where(also.c.value == t.c.value, also.c.id != t.c.id),
    "in_subquery": lambda t: t.c.id.in_(sa.select(other.c.thing_id).where(other.c.word == "w")),
}


@pytest.mark.parametrize("form", PENDING)
def test_a_row_that_is_no_longer_pending_is_missed(engine: Engine, form: str) -> None:
    """Although the rows that were read are as they were, where `pending` asks another table."""
    execute(engine, "CREATE TABLE thing (id integer PRIMARY KEY, value varchar(20), done integer)")
    execute(engine, "CREATE TABLE other (thing_id integer, word varchar(20))")
    with quick(engine).begin() as connection:
        values = [{"id": 1, "value": "a%b'\\c"}, {"id": 2, "value": "a%b'\\c"}]
        connection.execute(sa.table("thing", sa.column("id"), sa.column("value")).insert(), values)
        connection.execute(other.insert(), [{"thing_id": 1, "word": "w"}, {"thing_id": 2, "word": "w"}])
    target = target_for(engine, "thing", PENDING[form])
    rows = read(engine, target)
    assert len(rows) == 2
    if not target.writer.exact_guard:
        return
    assert write(engine, target, rows, [1, 1]) == 2
    rows = read(engine, target)
    elsewhere = form in ("exists", "in_subquery")
    execute(
        engine,
        "DELETE FROM other WHERE thing_id = 2" if elsewhere else "UPDATE thing SET value = 'z' WHERE id = 2",
    )
    with pytest.raises(Missed):
        write(engine, target, rows, [2, 2])
    assert rows_of(engine, "SELECT done FROM thing") == [(1,), (1,)]


def test_what_does_not_fit_is_an_error(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite knows no limits")
    execute(engine, "CREATE TABLE thing (id integer PRIMARY KEY, value integer, done varchar(3), small smallint)")
    execute(engine, "INSERT INTO thing VALUES (1, 1, 'old', 1)")
    for name, values in (("done", ["abcd"]), ("small", [32768]), ("done", ["\ud800"]), ("done", ["\udcc3\udca9"])):
        target = target_for(engine, writes=(name,))
        with pytest.raises((DBAPIError, UnicodeEncodeError)):
            write(engine, target, read(engine, target), values)
    assert rows_of(engine, "SELECT done, small FROM thing") == [("old", 1)]


@pytest.mark.databases("postgresql")
def test_integers_texts_and_nulls_survive_the_array_literals(engine: Engine) -> None:
    execute(engine, "CREATE TABLE thing (id text PRIMARY KEY, value integer, done text, big bigint)")
    execute(engine, "INSERT INTO thing SELECT lpad(n::text, 2, '0'), 0 FROM generate_series(1, 20) n")
    target = target_for(engine, writes=("done", "big"))
    characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    special = st.sampled_from(['"', "\\", "\x1f", ",", "{", "}", "NULL", "\n", "%s", "'"])
    texts = st.lists(st.one_of(characters, special), max_size=6).map("".join)
    numbers = st.integers(-(2**63), 2**63 - 1)
    values = st.lists(st.tuples(st.one_of(st.none(), texts), st.one_of(st.none(), numbers)), min_size=1, max_size=20)

    @settings(max_examples=60, deadline=None, database=None)
    @given(values)
    def survive(new: list[tuple[str | None, int | None]]) -> None:
        rows = read(engine, target)[: len(new)]
        assert write(engine, target, rows, *map(list, zip(*new, strict=True))) == len(new)
        assert rows_of(engine, "SELECT done, big FROM thing ORDER BY id")[: len(new)] == new

    survive()


@pytest.mark.databases("postgresql", "mariadb")
def test_a_write_that_waited_for_the_application_misses_what_it_committed(engine: Engine) -> None:
    execute(engine, "CREATE TABLE thing (id integer PRIMARY KEY, value integer, done integer)")
    execute(engine, "INSERT INTO thing VALUES (1, 1, 0), (2, 2, 0)")
    target = target_for(engine)
    rows = read(engine, target)
    with ThreadPoolExecutor(1) as pool, quick(engine).begin() as application:
        application.execute(sa.text("UPDATE thing SET value = 20 WHERE id = 2"))
        writing = pool.submit(write, engine, target, rows, [1, 1])
        until_somebody_waits(engine)
        application.commit()
        with pytest.raises(Missed):
            writing.result(30)
    assert rows_of(engine, "SELECT value, done FROM thing ORDER BY id") == [(1, 0), (20, 0)]


def until_somebody_waits(engine: Engine) -> None:
    """Return when a session waits for a lock; the test fails when none does."""
    waiting = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'",
        "mysql": "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p"
        " ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = database()",
    }[engine.dialect.name]
    end = time.monotonic() + 30
    while rows_of(engine, waiting) == [(0,)]:
        assert time.monotonic() < end, "nobody waits for the lock"
        time.sleep(0.1)  # innodb_trx is renewed ten times a second, and not while it is read more often


@pytest.mark.parametrize("fault", ["fewer rows", "still pending"])
def test_a_write_that_did_not_do_what_was_wanted_is_an_error(engine: Engine, fault: str) -> None:
    """Written without a guard, under locks: somebody else cannot have done it."""
    execute(engine, "CREATE TABLE thing (id integer PRIMARY KEY, value integer, done integer)")
    execute(engine, "INSERT INTO thing VALUES (1, 1, 0), (2, 2, 0)")
    target = target_for(engine, "thing", lambda t: t.c.done < 5)
    rows = read(engine, target)
    if fault == "fewer rows":
        execute(engine, "DELETE FROM thing WHERE id = 2")
    with quick(engine).connect() as connection:
        written = target.writer.write(connection, rows, [[9, 9 if fault == "fewer rows" else 1]])
        with pytest.raises(MigrationSystemError):
            writes._demand_done(target, 2, written)


NEW: dict[str, tuple[list[Any], list[Any]]] = {
    "integer": ([1, None, -3], [0, 0, 0]),
    "numeric(20,4)": ([Decimal("1.5"), None, Decimal("1234567890123456.7891")], [Decimal(0)] * 3),
    "double precision": ([0.1 + 0.2, None, 1e300], [0.0] * 3),
    "date": ([date(2024, 2, 29), None, date(1, 1, 1)], [date(2000, 1, 1)] * 3),
    "varchar(9)": (["007", None, "7 "], ["x"] * 3),
    "char(5)": (["a", None, "é"], ["x"] * 3),
}


@pytest.mark.parametrize("type_", NEW)
@pytest.mark.parametrize("key", ["integer", "char(4)", "varchar(4) latin1", "varchar(4) ci", "date", "numeric(6,2)"])
def test_the_fast_way_writes_what_the_slow_way_writes(engine: Engine, type_: str, key: str) -> None:
    more = {
        "varchar(4) latin1": "varchar(4) CHARACTER SET latin1",
        "varchar(4) ci": "varchar(4) COLLATE utf8mb4_general_ci",
    }
    stored = more.get(key, key) if engine.dialect.name == "mysql" else key.split(" ")[0]
    execute(
        engine,
        f"CREATE TABLE thing (id {stored} PRIMARY KEY, value integer, done {type_},"
        " untouched integer DEFAULT 7, doubled integer GENERATED ALWAYS AS (untouched * 2) STORED)",
    )
    keys = (
        ["2024-01-01", "2024-01-02", "2024-01-03"]
        if key == "date"
        else [1, 2, 3]
        if "n" in key[:2]
        else ["a", "é", "z"]
    )
    for each in keys:
        execute(engine, "INSERT INTO thing (id, value) VALUES (:key, 1)", key=each)
    target = target_for(engine)
    stored_values = []
    fast = target.writer.write if key.endswith("latin1") else target.writer.write_guarded
    for write_values in (fast, target.writer.write_one_by_one):
        rows = read(engine, target)
        with quick(engine).begin() as connection:
            assert write_values(connection, rows, [NEW[type_][0]]).matched == 3
        stored_values.append(
            [repr(row) for row in rows_of(engine, "SELECT id, done, untouched, doubled FROM thing ORDER BY id")]
        )
        assert stored_values[0] == stored_values[-1]
        with quick(engine).begin() as connection:
            target.writer.write_one_by_one(connection, rows, [NEW[type_][1]])
