"""Scratch databases of each product, filled by a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, QueuePool

from system_migration.rehearsal.copies import Copies
from system_migration.rehearsal.filled import FilledFiles
from tests.support.databases import KINDS, application_engine, fresh_database

Fill = Callable[[sa.Connection], object]
MakeCopies = Callable[[Fill], Copies]


class FilledDatabases:
    """`Copies` that are databases on a server, each filled alike; emptied and used again, for making one is dear."""

    not_covered = ()

    def __init__(self, stack: ExitStack, server_url: str) -> None:
        self._stack, self._server_url = stack, server_url
        self._free: list[Engine] = []
        self.fill: Fill = lambda connection: None

    @contextmanager
    def fresh(self) -> Iterator[Engine]:
        engine = self._free.pop() if self._free else self._another()
        with engine.begin() as connection:
            self.fill(connection)
        yield engine  # after an error it is not used again
        with engine.begin() as connection:
            _empty(connection)
        self._free.append(engine)

    def _another(self) -> Engine:
        url = self._stack.enter_context(fresh_database(self._server_url))
        engine = application_engine(url, poolclass=QueuePool)
        self._stack.callback(engine.dispose)
        return engine


def _empty(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return
    connection.exec_driver_sql("SET SESSION lock_wait_timeout = 30")
    connection.exec_driver_sql("SET foreign_key_checks = 0")
    for table in sa.inspect(connection).get_table_names():
        connection.exec_driver_sql(f"DROP TABLE `{table}`")
    connection.exec_driver_sql("SET foreign_key_checks = 1")


@pytest.fixture(scope="module")
def on_servers(request: pytest.FixtureRequest) -> Iterator[Callable[[str], FilledDatabases]]:
    """`on_servers("postgresql")`."""
    made: dict[str, FilledDatabases] = {}
    servers = {"postgresql": "postgres_server_url", "mariadb": "mariadb_server_url"}
    with ExitStack() as stack:

        def get(kind: str) -> FilledDatabases:
            if kind not in made:
                made[kind] = FilledDatabases(stack, request.getfixturevalue(servers[kind]))
            return made[kind]

        yield get


@pytest.fixture(params=KINDS)
def make_copies(
    request: pytest.FixtureRequest, tmp_path: Path, on_servers: Callable[[str], FilledDatabases]
) -> MakeCopies:
    """Scratch databases of each product in turn: `make_copies(fill)`."""

    def make(fill: Fill) -> Copies:
        if request.param != "sqlite":
            copies = on_servers(request.param)
            copies.fill = fill
            return copies

        def fill_engine(engine: Engine) -> None:
            with engine.begin() as connection:
                fill(connection)

        return FilledFiles(tmp_path, fill_engine)

    return make
