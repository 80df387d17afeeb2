"""Pages that MariaDB hands over as one text: the rows that the driver would have read, or none at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions
from sqlalchemy import Connection, Engine, create_engine, event

from system_migration import BatchMigration, Row, RunOptions, Status
from system_migration.batching.reading import DISAPPOINTMENTS, Reader
from system_migration.batching.resolution import resolve
from system_migration.batching.target import Target
from system_migration.migration import SilentProgress
from system_migration.store.database import Database
from tests.db.test_workbench import Increment, execute, migrator, quick, rows_of

pytestmark = pytest.mark.databases("mariadb")

UTF8 = {"v": "varchar(40) NOT NULL", "t": "text", "l": "longtext", "c": "char(30)", "j": "json"}
NUMBERS = {
    "tinyint": (-128, 127),
    "tinyint(1)": (-128, 127),
    "boolean": (0, 1),
    "smallint unsigned": (0, 65_535),
    "mediumint": (-8_388_608, 8_388_607),
    "int": (-2_147_483_648, 2_147_483_647),
    "bigint": (-(2**63), 2**63 - 1),
    "bigint unsigned": (0, 2**64 - 1),
}
SQL_MODES = ["", "ANSI", "ORACLE", "PAD_CHAR_TO_FULL_LENGTH", "NO_BACKSLASH_ESCAPES,EMPTY_STRING_IS_NULL"]


def make(engine: Engine, columns: dict[str, str], key: str = "id bigint PRIMARY KEY") -> Target:
    """A table with these columns, and the target of a migration that reads them all, the key too."""
    execute(engine, "DROP TABLE IF EXISTS thing")
    execute(engine, f"CREATE TABLE thing ({key}, {', '.join(f'{name} {type_}' for name, type_ in columns.items())})")

    class Touch(BatchMigration):
        name = "001-touch"
        table = "thing"
        reads = ("id", *columns)
        writes = (next(iter(columns)),)

        def transform(self, row: Row) -> dict[str, Any]:
            return {}

    with quick(engine).connect() as connection:
        return resolve(connection, Touch())


def both_ways(connection: Connection, target: Target) -> tuple[list[Any] | None, list[Any]]:
    """The rows of the table as they are gathered, and as the driver reads them."""
    query = target.batch(None, None, 1_000)
    gathered = target.gather(connection, query)
    return None if gathered is None else list(gathered), list(target.fetch(connection, query))


def is_same(connection: Connection, target: Target) -> bool:
    """Whether both ways lead to the same values of the same types, and the fast one to any."""
    gathered, plain = both_ways(connection, target)
    return repr(gathered) == repr(plain)


def test_every_text_arrives_as_the_driver_reads_it(engine: Engine) -> None:
    """Control characters, NUL, quotes, backslashes, astral characters, trailing blanks; empty is not NULL."""
    target = make(engine, UTF8)
    insert = sa.text("INSERT INTO thing VALUES (:id, :v, :t, :t, :c, JSON_OBJECT('a', :v))")
    special = st.sampled_from(
        ['"', "\\", "'", "\0", "\x1a", "\n", "\x7f", "\x85", "\u2028", "😀", " ", ",", "null", "\\u"]
    )
    texts = st.lists(st.one_of(st.characters(exclude_categories=["Cs"]), special), max_size=10).map("".join)
    rows = st.lists(st.tuples(texts, st.one_of(st.none(), texts)), max_size=10)

    @settings(max_examples=60, deadline=None, database=None)
    @given(rows)
    def arrive(values: list[tuple[str, str | None]]) -> None:
        with quick(engine).begin() as connection:
            connection.execute(sa.text("DELETE FROM thing"))
            for number, (v, t) in enumerate(values):
                connection.execute(insert, {"id": number, "v": v, "t": t, "c": t})
            assert is_same(connection, target)
            assert [row[2:5] for row in both_ways(connection, target)[0] or ()] == [(v, t, t) for v, t in values]

    arrive()


def test_every_integer_arrives_as_the_driver_reads_it(engine: Engine) -> None:
    target = make(engine, {f"c{number}": type_ for number, type_ in enumerate(NUMBERS)})
    limits = list(NUMBERS.values())
    for key, values in enumerate([[low for low, _ in limits], [high for _, high in limits], [0] * len(limits)], -1):
        execute(engine, f"INSERT INTO thing VALUES ({key}, {', '.join(map(str, values))})")
    execute(engine, f"INSERT INTO thing VALUES ({2**63 - 1}, {', '.join(['NULL'] * len(limits))})")
    with quick(engine).connect() as connection:
        assert is_same(connection, target)
        assert len(both_ways(connection, target)[0] or ()) == 4


CHARACTER_SETS = {
    "latin1": [bytes([n]) for n in range(256)],
    "cp1251": [bytes([n]) for n in range(256) if n != 0x98],
    "utf8mb3": [chr(n).encode() for n in range(1, 0xD800, 97)],
    "utf16": [chr(n).encode("utf-16-be") for n in (0x22, 0x5C, 0x1F600, 0x10FFFF)],
    "ucs2": [chr(n).encode("utf-16-be") for n in (0x22, 0x5C, 0xE9, 0xFFFD)],
    "sjis": [b"\\", b"~", b"\x83\x5c", b"\x95\x5c", b"\xb1"],
    "gbk": [b"\\", b"\x81\x5c", b"\xbf\x5c", b"\xbf\x27"[:1] + b"\x40"],
}


@pytest.mark.parametrize("character_set", CHARACTER_SETS)
def test_texts_of_every_character_set_arrive_as_the_driver_reads_them(engine: Engine, character_set: str) -> None:
    """Beside a column of another collation, with which they are not compared."""
    target = make(engine, {"v": f"varchar(9) CHARACTER SET {character_set}", "w": "text COLLATE utf8mb4_german2_ci"})
    values = ", ".join(
        f"({number}, CONVERT(X'{code.hex()}' USING {character_set}), 'ß')"
        for number, code in enumerate(CHARACTER_SETS[character_set])
    )
    execute(engine, f"INSERT INTO thing VALUES {values}")
    with quick(engine).connect() as connection:
        assert is_same(connection, target)


def test_a_text_that_the_server_cannot_convert_is_read_plainly(engine: Engine) -> None:
    """It is no NULL, although the server's own function says so."""
    target = make(engine, {"v": "varchar(9) CHARACTER SET cp1251"})
    execute(engine, "INSERT INTO thing VALUES (1, 'a'), (2, CONVERT(X'98' USING cp1251)), (3, NULL)")
    with quick(engine).connect() as connection:
        assert both_ways(connection, target) == (None, [(1, 1, "a"), (2, 2, "?"), (3, 3, None)])


@pytest.mark.parametrize("mode", SQL_MODES)
def test_the_mode_of_the_session_changes_nothing(engine: Engine, mode: str) -> None:
    target = make(engine, UTF8)
    execute(
        engine, """INSERT INTO thing VALUES (1, '', NULL, ' ', 'a', '{"a": 1}'), (2, 'a''"', '', '', ' a ', NULL)"""
    )
    with quick(engine).connect() as connection:
        connection.exec_driver_sql(f"SET SESSION sql_mode = '{mode}'")
        assert is_same(connection, target)


def test_a_composite_key_may_be_among_what_is_read(engine: Engine) -> None:
    target = make(engine, {"value": "text"}, key="a int, id bigint unsigned, PRIMARY KEY (a, id)")
    execute(engine, f"INSERT INTO thing VALUES (1, 2, 'c'), (1, 10, 'd'), (-1, {2**64 - 1}, 'a'), (0, 5, 'b')")
    with quick(engine).connect() as connection:
        assert is_same(connection, target)
        assert [row[-1] for row in both_ways(connection, target)[0] or ()] == ["a", "b", "c", "d"]


PLAINLY = ["double", "decimal(9,2)", "date", "datetime(6)", "time", "year", "bit(3)", "enum('a')", "set('a')", "blob"]


@pytest.mark.parametrize("type_", [*PLAINLY, "varbinary(9)", "int zerofill", "float", "timestamp NULL"])
def test_a_table_with_a_column_of_another_type_is_read_plainly(engine: Engine, type_: str) -> None:
    target = make(engine, {"value": type_})
    with quick(engine).connect() as connection:
        assert both_ways(connection, target) == (None, [])


def test_a_key_whose_order_python_does_not_know_is_read_plainly(engine: Engine) -> None:
    target = make(engine, {"value": "int"}, key="id varchar(9) PRIMARY KEY")
    with quick(engine).connect() as connection:
        assert both_ways(connection, target) == (None, [])


@pytest.mark.parametrize(
    "arguments", [{"charset": "latin1"}, {"use_unicode": False}, {"conv": {**conversions, FIELD_TYPE.SHORT: float}}]
)
def test_a_connection_that_decodes_in_its_own_way_is_read_plainly(engine: Engine, arguments: dict[str, Any]) -> None:
    target = make(engine, {"value": "smallint"})
    execute(engine, "INSERT INTO thing VALUES (1, 1)")
    other = quick(create_engine(engine.url, connect_args=arguments))
    with other.connect() as connection:
        assert target.gather(connection, target.batch(None, None, 1_000)) is None
    other.dispose()


def test_the_session_remembers_nothing(engine: Engine) -> None:
    target = make(engine, {"value": "int"})
    with quick(engine).connect() as connection:
        before = connection.exec_driver_sql("SELECT @@SESSION.group_concat_max_len").scalar_one()
        assert target.gather(connection, target.batch(None, None, 1_000)) == []
        assert connection.exec_driver_sql("SELECT @@SESSION.group_concat_max_len").scalar_one() == before


def test_a_page_longer_than_what_aggregates_usually_may_be_is_whole(engine: Engine) -> None:
    target = make(engine, {"value": "text"})
    execute(engine, "INSERT INTO thing SELECT seq, REPEAT('x', 20000) FROM seq_1_to_100")
    with quick(engine).connect() as connection:
        connection.exec_driver_sql("SET SESSION group_concat_max_len = 1024")
        assert is_same(connection, target)


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_no_value_is_logged(engine: Engine, caplog: pytest.LogCaptureFixture, level: int) -> None:
    """Also where SQLAlchemy has been told to log the rows that it hands out."""
    target = make(engine, {"value": "text"})
    execute(engine, "INSERT INTO thing VALUES (1, 'whispered')")
    caplog.clear()
    caplog.set_level(level, "sqlalchemy")
    chatty = quick(create_engine(engine.url, hide_parameters=True, echo="debug" if level == logging.DEBUG else True))
    with chatty.connect() as connection:
        assert target.gather(connection, target.batch(None, None, 1_000)) == [(1, 1, "whispered")]
    chatty.dispose()
    assert "json_quote" in caplog.text
    assert "whispered" not in caplog.text


@pytest.fixture
def reading(engine: Engine) -> Iterator[tuple[Reader, list[str]]]:
    """A reader of a table of 1,000 texts of 5,000 characters, and the statements that it has sent."""
    target = make(engine, {"value": "varchar(5000)"})
    execute(engine, "INSERT INTO thing SELECT seq, REPEAT(CHAR(64 + seq MOD 26), 5000) FROM seq_1_to_1000")
    sent: list[str] = []
    database = Database(quick(create_engine(engine.url)))
    event.listen(database.engine, "before_cursor_execute", lambda c, cursor, statement, *_: sent.append(statement))
    yield Reader(database, target, SilentProgress()), sent
    database.close()


@pytest.fixture
def server_setting(engine: Engine) -> Iterator[Any]:
    """Changes a global setting, until the end of the test."""
    before: dict[str, Any] = {}

    def change(name: str, value: int) -> None:
        before[name] = rows_of(engine, f"SELECT @@GLOBAL.{name}")[0][0]
        execute(engine, f"SET GLOBAL {name} = {value}")

    yield change
    for name, value in before.items():
        execute(engine, f"SET GLOBAL {name} = {value}")


def keys_and_lengths(rows: Sequence[Any]) -> list[tuple[int, int]]:
    return [(row[0], len(row[-1])) for row in rows]


def test_one_statement_gathers_a_page(reading: tuple[Reader, list[str]]) -> None:
    reader, sent = reading
    assert keys_and_lengths(reader.page(None, None, 400).rows) == [(key, 5_000) for key in range(1, 401)]
    assert [statement.startswith("SET STATEMENT") for statement in sent] == [True]


@pytest.mark.parametrize("limit", [None, 50])
def test_small_pages_and_those_without_an_end_are_read_plainly(
    reading: tuple[Reader, list[str]], limit: int | None
) -> None:
    reader, sent = reading
    assert len(reader.page(None, None, limit).rows) == (limit or 1_000)
    assert not any("group_concat" in statement for statement in sent)


IN_THE_WAY = {
    "cut off": {"max_allowed_packet": 16_384},
    "an error that may pass": {"tmp_memory_table_size": 1_024, "tmp_disk_table_size": 1_024},
    "an error that stays": {"max_session_mem_used": 1 << 19},
}


@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_what_cannot_be_gathered_is_read_plainly_and_soon_not_tried_any_more(
    reading: tuple[Reader, list[str]], server_setting: Any, kind: str
) -> None:
    """The answer is longer than a packet; the derived table has no room; the text needs too much memory."""
    reader, sent = reading
    for name, value in IN_THE_WAY[kind].items():
        server_setting(name, value)
    for _ in range(DISAPPOINTMENTS + 2):
        assert keys_and_lengths(reader.page(None, None, 400).rows) == [(key, 5_000) for key in range(1, 401)]
    assert sum("group_concat" in statement for statement in sent) == DISAPPOINTMENTS
    assert len(sent) == 2 * DISAPPOINTMENTS + 2


def test_a_connection_that_is_lost_with_every_try_ends_the_tries(
    reading: tuple[Reader, list[str]], engine: Engine
) -> None:
    """Otherwise the run would wait for ever for a server that is there."""
    reader, sent = reading

    def kill(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if "group_concat" in statement:
            execute(engine, f"KILL {cursor.connection.thread_id()}")

    event.listen(reader.database.engine, "before_cursor_execute", kill)
    assert keys_and_lengths(reader.page(None, None, 400).rows) == [(key, 5_000) for key in range(1, 401)]
    assert sum("group_concat" in statement for statement in sent) == DISAPPOINTMENTS


def test_a_number_that_was_cut_is_no_answer(engine: Engine, server_setting: Any) -> None:
    """It looks like another number, and nothing is missing."""
    target = make(engine, {"padding": "text", "value": "int"})
    server_setting("max_allowed_packet", 16_384)
    limited = quick(create_engine(engine.url))
    for one_too_many, expected in ((0, 12345), (1, None)):
        padding = 16_384 - len('1,1,"",12345') + one_too_many
        execute(engine, f"REPLACE INTO thing VALUES (1, REPEAT('x', {padding}), 12345)")
        with limited.connect() as connection:
            gathered, plain = both_ways(connection, target)
        assert plain[0][-1] == 12345
        assert (gathered[0][-1] if gathered else None) == expected
    limited.dispose()


def test_one_page_that_could_not_be_gathered_spoils_nothing(reading: tuple[Reader, list[str]], engine: Engine) -> None:
    """A condition that warns of a row, say: whatever the server warns of, the page is read plainly."""
    reader, sent = reading
    execute(engine, "UPDATE thing SET value = '12' WHERE id > 100")
    reader.target = make_warning(engine, reader.target)
    for lower in (0, 100, 0, 100, 0, 100, 0, 100):
        assert len(reader.page((lower,), (lower + 100,), 100).rows) == 100
    assert len(sent) == 12


def make_warning(engine: Engine, target: Target) -> Target:
    """The same target with a condition that compares texts with a number; most texts are none."""

    class Warns(BatchMigration):
        name = "001-warns"
        table = "thing"
        reads = ("id", "value")
        writes = ("value",)

        def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
            return sa.type_coerce(t.c.value, sa.Integer) != -1

        def transform(self, row: Row) -> dict[str, Any]:
            return {}

    with quick(engine).connect() as connection:
        return resolve(connection, Warns())


def test_a_run_whose_pages_are_cut_does_every_row_once(engine: Engine, server_setting: Any) -> None:
    execute(engine, "CREATE TABLE number (id integer PRIMARY KEY, y integer)")
    execute(engine, "INSERT INTO number SELECT seq, seq FROM seq_1_to_5000")
    server_setting("max_allowed_packet", 16_384)
    (report,) = migrator(engine, Increment).run(options=RunOptions(batch_size=500, workers=2))
    assert (report.status, report.records_processed) == (Status.COMPLETED, 5_000)
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id + 1") == [(5_000,)]
