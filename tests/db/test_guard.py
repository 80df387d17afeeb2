"""A row that the application changed meanwhile is never overwritten, whatever the type of its column.

`WHERE column = :old` would be wrong for most of these (reliability, M9 to M11).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine
from sqlalchemy.dialects import mysql, postgresql

from system_migration import BatchMigration, Row, RunOptions, Status
from tests.db.test_workbench import Bytes, Timestamp, make_table, migrator, quick

Json = sa.JSON()
Jsonb = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
CaseBlind = (
    sa.String(40)
    .with_variant(mysql.VARCHAR(40, collation="utf8mb4_general_ci"), "mysql", "mariadb")
    .with_variant(sa.String(40, collation="NOCASE"), "sqlite")
)
Zoned = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")

COLUMNS: dict[str, tuple[Any, Any, Any]] = {
    "float": (sa.Float(24), 0.1, 0.2),
    "double": (sa.Double(), 0.1 + 0.2, 0.3),
    "double_null": (sa.Double(), 0.1, None),
    "numeric": (sa.Numeric(12, 4), Decimal("1.1000"), Decimal("1.1001")),
    "integer": (sa.Integer(), 7, 8),
    "boolean": (sa.Boolean(), True, False),
    "boolean_null": (sa.Boolean(), None, False),
    "json": (Json, {"a": [1, {"b": None}], "ä": "😀"}, {"a": [1, {"b": 0}], "ä": "😀"}),
    "jsonb": (Jsonb, {"a": 1.5, "b": []}, {"a": 1.5, "b": [[]]}),
    "timestamp": (Timestamp, datetime(2024, 3, 31, 2, 30, 0, 123456), datetime(2024, 3, 31, 2, 30, 0, 123457)),
    "zoned": (Zoned, datetime(2024, 3, 31, 2, 30, tzinfo=UTC), datetime(2024, 3, 31, 2, 31, tzinfo=UTC)),
    "date": (sa.Date(), date(2024, 2, 29), date(2024, 3, 1)),
    "time": (sa.Time(), time(23, 59, 58), time(0, 0, 0)),
    "text": (sa.Text(), "n1", "N1"),
    "text_space": (sa.String(40), "n1", "n1 "),
    "text_empty": (sa.String(40), None, ""),
    "text_case_blind": (CaseBlind, "n1", "N1"),
    "text_accent_blind": (CaseBlind, "zoe", "zoë"),
    "bytes": (Bytes, b"\0\xff", b"\0\xfe"),
}


def columns() -> list[sa.Column[Any]]:
    """A key, a column of each kind, and a target."""
    key = sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False)
    return [key, *(sa.Column(kind, type_) for kind, (type_, _, _) in COLUMNS.items()), sa.Column("done", sa.Integer())]


def test_a_row_that_changed_in_any_column_is_done_again_and_no_other_is(
    engine: Engine, subtests: pytest.Subtests
) -> None:
    """Row n is changed in the n-th column, while its old values are being transformed; row 0 is not changed."""
    table, calls = sa.Table("thing", sa.MetaData(), *columns()), []
    values = {kind: value for kind, (_, value, _) in COLUMNS.items()}
    make_table(engine, "thing", *columns(), rows=[{"id": n, **values} for n in range(len(COLUMNS) + 1)])

    def application_writes() -> None:
        with quick(engine).begin() as connection:
            for number, (kind, (_, _, meanwhile)) in enumerate(COLUMNS.items(), start=1):
                connection.execute(table.update().where(table.c.id == number).values({kind: meanwhile}))

    class Touch(BatchMigration):
        name = "001-touch"
        reads = ("id", *COLUMNS)
        writes = ("done",)

        def transform(self, row: Row) -> dict[str, Any]:
            calls.append((row.id, [repr(row[kind]) for kind in COLUMNS]))
            if len(calls) == 1:
                application_writes()
            return {"done": sum(1 for key, _ in calls if key == row.id)}

    Touch.table = table
    (report,) = migrator(engine, Touch).run(options=RunOptions(workers=1))
    assert (report.status, report.records_processed) == (Status.COMPLETED, len(COLUMNS) + 1)
    with quick(engine).connect() as connection:
        rows = {row.id: row for row in connection.execute(sa.select(table))}
    for number, kind in enumerate(COLUMNS, start=1):
        with subtests.test(kind=kind):
            seen = [values for key, values in calls if key == number]
            assert rows[number].done == len(seen) == 2
            assert seen[0] != seen[1]  # what the application wrote can be told from what was there
            assert seen[1] == [repr(rows[number]._mapping[column]) for column in COLUMNS]
    assert rows[0].done == 1
    assert report.changed_meanwhile == len(COLUMNS)
