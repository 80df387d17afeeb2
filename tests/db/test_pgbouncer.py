"""The whole job through pgbouncer in transaction mode: each transaction may land on another server connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, text

from system_migration import Migration, MigrationResult, MigrationRollbackResult, Row, RunOptions, Status
from system_migration.errors import Interrupted
from tests.db.test_workbench import Fill, Increment, make_numbers, migrator, rows_of
from tests.support.databases import application_engine


@pytest.fixture
def pooled(pgbouncer_url: str) -> Iterator[Engine]:
    engine = application_engine(pgbouncer_url)
    yield engine
    engine.dispose()


class Summed(Migration):
    name = "003-summed"
    rollbackable = True

    def up(self, context: Any) -> MigrationResult:
        context.schema.create_table("summary", sa.Column("total", sa.Integer()))
        context.connection.execute(text("INSERT INTO summary SELECT SUM(y) FROM number"))
        return MigrationResult(records_processed=1)

    def verify(self, context: Any) -> bool:
        return bool(
            context.connection.execute(text("SELECT total = (SELECT SUM(y) FROM number) FROM summary")).scalar()
        )

    def down(self, context: Any) -> MigrationRollbackResult:
        context.schema.drop_table("summary")
        return MigrationRollbackResult()


def test_batches_imperative_verify_dry_run_and_rollback(pooled: Engine, postgres_url: str) -> None:
    make_numbers(pooled, 300)

    class Stopped(Increment):
        def transform(self, row: Row) -> dict[str, Any]:
            if row.y == 1000:
                first.request_stop(15)
            return super().transform(row)

    class Filled(Fill):
        name = "002-fill"

        def check(self, row: Row) -> bool:
            return bool(row.z == row.y * 10)

    first = migrator(pooled, Stopped)
    with pytest.raises(Interrupted):
        first.run(options=RunOptions(batch_size=25))

    rest = migrator(pooled, Increment, Filled, Summed, lease_seconds=1.0)
    assert [report.error for report in rest.dry_run(full=True)] == [None, None, None]
    reports = rest.run(options=RunOptions(batch_size=25, accept_code_change=True))
    assert [(report.status, report.verified) for report in reports] == [
        (Status.COMPLETED, False),
        (Status.COMPLETED, True),
        (Status.COMPLETED, True),
    ]
    assert [verdict.verified for verdict in rest.verify()] == [False, True, True]
    assert rest.rollback("003-summed").status is Status.ROLLED_BACK
    assert rest.run() == []

    direct = application_engine(postgres_url)
    assert rows_of(direct, "SELECT COUNT(*) FROM number WHERE y = id + 1 AND z = y * 10") == [(300,)]
    assert not sa.inspect(direct).has_table("summary")
    direct.dispose()
