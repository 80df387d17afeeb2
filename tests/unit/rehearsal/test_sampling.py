"""Which keys of a table stand for all of them, on a real table of SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from system_migration.rehearsal.sampling import WINDOW, Sample, TooSlow
from system_migration.rehearsal.tables import Key

ROWS = 10_000
table = sa.table("t", sa.column("a"), sa.column("b"), sa.column("pending"))


@pytest.fixture(scope="module")
def connection() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a INTEGER, b TEXT, pending BOOLEAN, PRIMARY KEY (a, b))")
        connection.exec_driver_sql(
            "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 10000)"
            " INSERT INTO t SELECT n / 2, 'x' || n, CASE WHEN n % 1000 = 500 THEN 1 WHEN n % 3 = 0 THEN NULL ELSE 0 END"
            " FROM s"
        )
        yield connection
    engine.dispose()


@pytest.fixture
def sampled(connection: sa.Connection) -> Callable[..., tuple[list[Key], list[str], list[str]]]:
    """`sampled(rows, pending)`: the keys, the notes, and the statements that were asked."""

    def sample(
        rows: int, pending: sa.ColumnElement[bool] | None = None, *, slow: bool = False
    ) -> tuple[list[Key], list[str], list[str]]:
        asked: list[str] = []

        def ask(query: sa.Select[Any]) -> Sequence[Any]:
            asked.append(str(query))
            if slow and "LIMIT" in str(query) and str(query).count("FROM") == 1 and "coalesce" in str(query):
                raise TooSlow
            return connection.execute(query).all()

        picked = Sample(ask, table, (table.c.a, table.c.b), rows, pending)
        return picked.keys(), picked.notes, asked

    return sample


def test_without_a_condition_both_ends_and_places_between_are_taken(sampled: Any) -> None:
    keys, notes, asked = sampled(40)
    assert len(set(keys)) == len(keys) == 40
    assert {(0, "x1"), (1, "x2"), (5000, "x10000"), (4999, "x9999")} <= set(keys)
    assert {a // 500 for a, _ in keys} >= set(range(10))
    assert notes == []
    assert len(asked) < 50


def test_pending_rows_are_most_of_it_and_all_others_fill_it_up(sampled: Any) -> None:
    keys, _, asked = sampled(40, table.c.pending.is_(sa.true()))
    assert {query.count("SELECT") - query.count("LIMIT") for query in asked} == {0}  # each look ends soon
    pending = [key for key in keys if int(key[1][1:]) % 1000 == 500]
    assert len(pending) == 10  # there are no more
    assert len(set(keys)) == 40


def test_a_table_with_few_pending_rows_is_walked_once(sampled: Any) -> None:
    _, _, asked = sampled(80, table.c.pending.is_(sa.true()))
    walks = [query for query in asked if "coalesce" in query and query.count("SELECT") == 1]
    assert len(walks) == 1


def test_a_condition_that_is_null_is_not_pending(sampled: Any) -> None:
    keys, _, _ = sampled(200, table.c.pending == sa.literal(0))
    assert [key for key in keys if int(key[1][1:]) % 3 == 0]


def test_where_a_search_takes_too_long_a_window_is_searched_and_it_is_said(sampled: Any) -> None:
    keys, notes, _ = sampled(40, table.c.pending.is_(sa.true()), slow=True)
    assert len(set(keys)) == 40
    assert notes == [
        "the sample may have few pending rows: to look for them took too long, as no index serves `pending`"
    ]
    assert (250, "x500") in keys  # within the first of them
    assert ROWS > WINDOW


def test_all_are_taken_where_there_are_no_more(sampled: Any) -> None:
    keys, _, _ = sampled(ROWS + 5, table.c.pending.is_(None))
    assert len(set(keys)) == ROWS
