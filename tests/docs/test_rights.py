"""A role that has the rights the README lists, and no others, can do everything that an operator does every day."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from system_migration import BatchMigration, Migrator, Registry, Row, RowIssue, RunOptions, Settings, Status
from system_migration.errors import MigrationSystemError
from tests.support.databases import application_engine
from tests.support.roles import plain_role

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
RIGHTS = {
    right: re.findall(r"`(\w+)`", tables)
    for right, tables in re.findall(r"^\| (SELECT|INSERT|UPDATE|DELETE|USAGE)[^|]* \| (.+) \|$", README, re.MULTILINE)
}
ROWS = 60


class Double(BatchMigration):
    """Journalled, by the ledger alone; holds one row until that is mended."""

    name = "001-double"
    table = "number"
    reads = ("y",)
    writes = ("y",)
    rollbackable = True
    max_issues = 1

    def transform(self, row: Row) -> Mapping[str, Any]:
        if row.y < 0:
            raise RowIssue("negative", "it is below zero")
        return {"y": 2 * row.y}


@pytest.fixture(params=["postgresql", "mariadb"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A database with rows to migrate, as the role that owns them."""
    url = request.getfixturevalue("postgres_url" if request.param == "postgresql" else "mariadb_url")
    engine = application_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE number (id integer PRIMARY KEY, y integer NOT NULL, z integer)"))
        connection.execute(
            sa.text("INSERT INTO number VALUES (:id, :y, 0)"),
            [{"id": id, "y": id if id != 7 else -7} for id in range(1, ROWS + 1)],
        )
    yield engine
    engine.dispose()


def grants(engine: Engine, role: str) -> Iterator[str]:
    """What the README says, as SQL."""
    tables = [name for name in sa.inspect(engine).get_table_names() if name.startswith("system_migration_")]
    for right, named in RIGHTS.items():
        if right == "USAGE":
            if engine.dialect.name == "postgresql":
                yield from (f"GRANT USAGE ON SEQUENCE system_migration_{name}_id_seq TO {role}" for name in named)
        else:
            for table in [f"system_migration_{name}" for name in named] or tables:
                yield f"GRANT {right} ON {table} TO {role}"
    yield f"GRANT SELECT, UPDATE (y) ON number TO {role}"


def migrator(engine: Engine) -> Migrator:
    return Migrator(engine, Registry([Double]), Settings(environment="test"))


def execute(engine: Engine, statements: Iterable[str]) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def test_the_rights_in_the_readme_are_enough(engine: Engine) -> None:
    with migrator(engine) as owner:
        owner.init()
    with plain_role(engine) as (role, restricted):
        execute(engine, grants(engine, role))
        with migrator(restricted) as worker:
            (report,) = worker.run(options=RunOptions(batch_size=5, workers=2))
            assert (report.status, report.issues) == (Status.COMPLETED, 1)
            execute(engine, ["UPDATE number SET y = 7 WHERE id = 7"])
            assert worker.retry(Double.name).issues == 0
            assert worker.rollback(Double.name).records_processed == ROWS
            assert worker.prune(Double.name).rows == ROWS
    with engine.begin() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM number WHERE y = id")) == ROWS


def test_after_the_printed_sql_the_first_writer_needs_one_right_more(engine: Engine) -> None:
    with migrator(engine) as owner:
        execute(engine, [statement for statement in owner.init_sql().split(";\n\n") if statement])
    with plain_role(engine) as (role, restricted):
        execute(engine, grants(engine, role))
        with migrator(restricted) as worker, pytest.raises(MigrationSystemError, match="denied"):
            worker.run()
        execute(engine, [f"GRANT INSERT ON system_migration_{name} TO {role}" for name in ("meta", "event_head")])
        with migrator(restricted) as worker:
            (report,) = worker.run()
        assert report.status is Status.COMPLETED
