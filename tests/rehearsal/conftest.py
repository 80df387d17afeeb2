"""Scratch databases of each product, filled by a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, QueuePool

from system_migration.rehearsal.copies import Copies
from system_migration.rehearsal.filled import FilledFiles
from tests.support.databases import KINDS, application_engine, fresh_database

Fill = Callable[[sa.Connection], object]
MakeCopies = Callable[[Fill], Copies]


class FilledDatabases:
    """`Copies` that are new databases on a server, each filled alike."""

    not_covered = ()

    def __init__(self, server_url: str, fill: Fill) -> None:
        self._server_url, self._fill = server_url, fill

    @contextmanager
    def fresh(self) -> Iterator[Engine]:
        with fresh_database(self._server_url) as url:
            engine = application_engine(url, poolclass=QueuePool)
            try:
                with engine.begin() as connection:
                    self._fill(connection)
                yield engine
            finally:
                engine.dispose()


@pytest.fixture(params=KINDS)
def make_copies(request: pytest.FixtureRequest, tmp_path: Path) -> MakeCopies:
    """Scratch databases of each product in turn: `make_copies(fill)`."""
    if request.param == "sqlite":

        def in_files(fill: Fill) -> Copies:
            def fill_engine(engine: Engine) -> None:
                with engine.begin() as connection:
                    fill(connection)

            return FilledFiles(tmp_path, fill_engine)

        return in_files
    server: Any = request.getfixturevalue(
        {"postgresql": "postgres_server_url", "mariadb": "mariadb_server_url"}[request.param]
    )
    return lambda fill: FilledDatabases(server, fill)
