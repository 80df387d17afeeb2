"""Whole batches as literals of one statement: what PyMySQL would write, and nowhere but there."""

from __future__ import annotations

import logging
import traceback
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError

from system_migration.store.writers.literals_mariadb import Literals
from tests.db.test_workbench import execute, quick
from tests.db.test_writers import read, target_for

pytestmark = pytest.mark.databases("mariadb")

SPECIAL = ["'", "\\", '"', "\x1f", "\0", "\x1a", "\n", "%", "😀", "\\'", "' OR 1 = 1 -- "]
CHARACTERS = st.one_of(st.characters(), st.sampled_from([*SPECIAL, "\ud83d"]))
TEXTS = st.lists(CHARACTERS, max_size=8).map("".join)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "texts": TEXTS,
    "texts without the separator": TEXTS.map(lambda text: text.replace("\x1f", "")),
    "integers": st.integers(),
    "booleans": st.booleans(),
    "floats": st.floats(allow_nan=False, allow_infinity=False),
    "decimals": st.decimals(allow_nan=False, allow_infinity=False),
    "bytes": st.binary(max_size=8),
    "dates": st.dates(),
    "datetimes": st.datetimes(),
    "times": st.times(),
    "intervals": st.timedeltas(timedelta(days=-30), timedelta(days=30)),
    "anything": st.one_of(TEXTS, st.integers(), st.booleans(), st.floats(0, 1), st.dates()),
}
MIXED = [date(1, 1, 1), datetime(2024, 1, 1, 1, 1, 1, 1), time_of_day(1), Decimal("1.50"), bytearray(b"'"), None, True]


@pytest.mark.parametrize("mode", ["STRICT_ALL_TABLES", "NO_BACKSLASH_ESCAPES"])
@pytest.mark.parametrize("kind", VALUES)
def test_a_column_is_written_as_the_driver_writes_its_values(engine: Engine, kind: str, mode: str) -> None:
    """To the letter, with NULLs among them and without, whatever the session says of backslashes."""
    columns = st.lists(st.one_of(st.none(), VALUES[kind]), min_size=1, max_size=8) | st.lists(VALUES[kind], min_size=1)
    with quick(engine).connect() as connection:
        connection.exec_driver_sql(f"SET SESSION sql_mode = '{mode}'")
        driver: Any = connection.connection.driver_connection
        cursor = driver.cursor()

        @settings(max_examples=50, deadline=None, database=None)
        @given(columns)
        def is_written(values: list[Any]) -> None:
            numbers = list(range(len(values)))
            pairs = ",".join(["(%s,%s)"] * len(values))
            one_by_one = cursor.mogrify(pairs, [each for pair in zip(values, numbers, strict=True) for each in pair])
            assert cursor.mogrify("%s", (Literals([values, numbers], driver),)) == one_by_one

        is_written()


def test_values_of_any_types_go_into_one_statement(engine: Engine) -> None:
    with quick(engine).connect() as connection:
        given = Literals([MIXED], connection.connection.driver_connection)
        found = connection.exec_driver_sql("SELECT COUNT(*) FROM (VALUES %s) AS given", (given,)).scalar_one()
    assert found == len(MIXED)


@pytest.mark.parametrize("mode", ["STRICT_ALL_TABLES", "NO_BACKSLASH_ESCAPES"])
def test_no_text_ends_its_literal(engine: Engine, mode: str) -> None:
    texts = [*SPECIAL, *(text * 2 for text in SPECIAL), "".join(SPECIAL)]
    with quick(engine).connect() as connection:
        connection.exec_driver_sql(f"SET SESSION sql_mode = '{mode}'")
        given = Literals([texts, range(len(texts))], connection.connection.driver_connection)
        found = connection.exec_driver_sql("SELECT * FROM (VALUES %s) AS given", (given,)).all()
    assert [text for text, _ in found] == texts


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("old", ["whispered", "whispered 'and' quoted"])
def test_no_value_reaches_an_error_or_a_log(
    engine: Engine, caplog: pytest.LogCaptureFixture, hidden: bool, old: str
) -> None:
    """Neither what was read nor what is written, although the server refuses it: too long for its column."""
    execute(engine, "CREATE TABLE thing (id integer PRIMARY KEY, value varchar(40), done varchar(3))")
    execute(engine, "INSERT INTO thing VALUES (1, :old, 'x'), (2, :old, 'x')", old=old)
    target, new = target_for(engine), "shout".upper()
    rows = read(engine, target)
    caplog.set_level(logging.DEBUG, "sqlalchemy")
    chatty = quick(create_engine(engine.url, hide_parameters=hidden, echo="debug"))
    caplog.clear()
    with chatty.connect() as connection, pytest.raises(DBAPIError) as caught:
        target.writer.write_guarded(connection, rows, [[new, new]])
    chatty.dispose()
    error = caught.value
    told = [str(error), repr(error), str(error.statement), repr(error.params), caplog.text]
    told += traceback.format_exception(error)
    assert "STRAIGHT_JOIN" in caplog.text
    assert not [text for text in told if "whispered" in text or new in text]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_the_driver_does_not_take_is_an_error_as_ever(engine: Engine, value: float) -> None:
    execute(engine, "CREATE TABLE thing (id integer PRIMARY KEY, value integer, done double)")
    execute(engine, "INSERT INTO thing VALUES (1, 1, 0)")
    target = target_for(engine)
    rows = read(engine, target)
    with quick(engine).connect() as connection, pytest.raises(DBAPIError, match="can not be used"):
        target.writer.write_guarded(connection, rows, [[value]])
    with quick(engine).connect() as connection:
        assert connection.execute(sa.text("SELECT done FROM thing")).scalar_one() == 0
