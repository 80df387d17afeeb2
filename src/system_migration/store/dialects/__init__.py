"""The one place that knows which database it is talking to, told as capabilities."""

from __future__ import annotations

from sqlalchemy import Engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from system_migration.errors import ConfigurationError
from system_migration.store.dialects.base import Dialect, Fault, Fingerprint
from system_migration.store.dialects.mariadb import MariaDB
from system_migration.store.dialects.postgresql import PostgreSQL
from system_migration.store.dialects.sqlite import SQLite

__all__ = ["Dialect", "Fault", "Fingerprint", "dialect_of", "parse_url"]

_DIALECTS: dict[str, type[Dialect]] = {
    "sqlite": SQLite,
    "postgresql": PostgreSQL,
    "postgres": PostgreSQL,
    "mysql": MariaDB,
    "mariadb": MariaDB,
}


def dialect_of(engine: Engine) -> Dialect:
    """The dialect of an engine's database. Raises `ConfigurationError` for one that is not supported."""
    return _dialect(engine.dialect.name)


def parse_url(text: str) -> tuple[URL, Dialect]:
    """A database URL as people write it, with the driver we use. Errors never repeat the URL: it holds a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "The database URL cannot be read. Write DATABASE_URL or --database-url as sqlite:///file.db, "
            "postgresql://host/name or mariadb://host/name."
        ) from None
    dialect = _dialect(url.get_backend_name())
    return url.set(drivername=dialect.driver), dialect


def _dialect(name: str) -> Dialect:
    if name not in _DIALECTS:
        raise ConfigurationError(f"Database {name!r} is not supported. Use SQLite, PostgreSQL or MariaDB.")
    return _DIALECTS[name]()
