"""Fresh databases, one per test, and engines on them as a host application has them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

KINDS = ("sqlite", "postgresql", "mariadb")

MakeDatabaseUrl = Callable[[str], str]

_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}


def application_engine(url: str | URL, **options: Any) -> Engine:
    """The engine a host would make of a plain URL.

    It keeps no idle connection: the server's are few, and what is closed cannot warn. PostgreSQL statements
    are not prepared, so the engine also works behind a pooler.
    """
    address = make_url(url)
    product = address.get_backend_name()
    if product in _DRIVERS:
        address = address.set(drivername=_DRIVERS[product])
    if product == "postgresql":
        options["connect_args"] = {"prepare_threshold": None} | options.get("connect_args", {})
    elif product in _DRIVERS:
        # PyMySQL would read the system's certificates for every connection, 50 ms each.
        options["connect_args"] = {"ssl_disabled": True} | options.get("connect_args", {})
    return create_engine(address, **{"poolclass": NullPool} | options)


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """The URL of a new, empty database on a PostgreSQL or MariaDB server; dropped afterwards."""
    server = make_url(server_url)
    name = f"test_{secrets.token_hex(8)}"
    postgres = server.get_backend_name() == "postgresql"
    create, drop = (_create_in_postgres, _drop_in_postgres) if postgres else (_create_in_mariadb, _drop_in_mariadb)
    # One connection for both, looked at before its second use: the server may have been killed meanwhile.
    administrator = application_engine(server, isolation_level="AUTOCOMMIT", poolclass=QueuePool, pool_pre_ping=True)
    try:
        with administrator.connect() as connection:
            create(connection, name)
        try:
            plain = server.set(drivername="postgresql" if postgres else "mysql", database=name)
            yield plain.render_as_string(hide_password=False)
        finally:
            with administrator.connect() as connection:
                drop(connection, name)
    finally:
        administrator.dispose()


def _create_in_postgres(connection: Connection, name: str) -> None:
    # Copying the template's files takes half the time of logging their pages. Before 15 there was no other way.
    strategy = "STRATEGY FILE_COPY" if connection.dialect.server_version_info >= (15,) else ""
    connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0 {strategy}"))


def _drop_in_postgres(connection: Connection, name: str) -> None:
    connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def _create_in_mariadb(connection: Connection, name: str) -> None:
    connection.execute(text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))


def _drop_in_mariadb(connection: Connection, name: str) -> None:
    """MariaDB's DROP waits, for a day if need be, for open transactions: end their sessions first."""
    users = connection.execute(text("SELECT id FROM information_schema.processlist WHERE db = :name"), {"name": name})
    for (identity,) in users.all():
        with suppress(DBAPIError):  # it has ended meanwhile
            connection.execute(text(f"KILL {int(identity)}"))
    connection.execute(text("SET SESSION lock_wait_timeout = 30"))
    connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
