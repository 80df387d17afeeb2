"""Databases to measure on: scratch servers with the settings of a small production, and SQLite files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from system_migration import connect
from tests.support.databases import fresh_database
from tests.support.servers import MariadbServer, PostgresServer

POSTGRESQL = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB", "max_wal_size": "1GB"}
MARIADB = {
    "innodb-flush-log-at-trx-commit": "1",
    "innodb-buffer-pool-size": "256M",
    "innodb-log-file-size": "96M",  # the server's own default
}
SETTINGS = {
    "postgresql": "fsync on, shared_buffers 256 MB",
    "mariadb": "innodb_flush_log_at_trx_commit 1, innodb_buffer_pool_size 256 MB",
    "sqlite": "a file in WAL mode, synchronous FULL",
}
_VERSION = {"postgresql": "SHOW server_version", "mariadb": "SELECT version()", "sqlite": "SELECT sqlite_version()"}
_NAMES = {"postgresql": "PostgreSQL", "mariadb": "MariaDB", "sqlite": "SQLite"}


@contextmanager
def database(kind: str) -> Iterator[str]:
    """The URL of a new, empty database; on a server of its own, which is gone afterwards."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder, 'benchmark.db')}"
            engine = connect(url, create=True)
            with engine.connect() as connection:
                connection.execute(sa.text("PRAGMA journal_mode = WAL"))  # the file keeps it
            engine.dispose()
            yield url
        return
    postgres = kind == "postgresql"
    server = PostgresServer(on_disk=True, **POSTGRESQL) if postgres else MariadbServer(on_disk=True, **MARIADB)
    with server, fresh_database(server.url) as url:
        yield url


def title(kind: str, engine: sa.Engine) -> str:
    """Name, version and settings of the database, in words."""
    with engine.connect() as connection:
        told = str(connection.execute(sa.text(_VERSION[kind])).scalar_one())
    number = told.split()[0].split("-")[0]
    return f"{_NAMES[kind]} {number} ({SETTINGS[kind]})"
