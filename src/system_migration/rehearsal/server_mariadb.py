"""Scratch databases on a MariaDB server: made, dropped, and those that a killed rehearsal left, told and dropped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from system_migration.errors import Refused
from system_migration.rehearsal import scratch_names
from system_migration.rehearsal.schema_mariadb import quoted
from system_migration.rehearsal.watching import Watch
from system_migration.store.dialects import dialect_of

DROP_SECONDS = 30
_OF_DATABASE = text(
    "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata"
    " WHERE schema_name = DATABASE()"
)


class MariaDBServer:
    """A server on which the role of `engine` makes scratch databases of the database `source`."""

    def __init__(self, engine: Engine, source: str) -> None:
        self.dialect, self.source, self._engine = dialect_of(engine), source, engine
        self._administrator = self.dialect.own_engine(engine)

    def close(self) -> None:
        """Close the connections."""
        self._administrator.dispose()

    @contextmanager
    def database(self, options: str) -> Iterator[Engine]:
        """A scratch database made with these options, dropped at the end with whoever is still connected."""
        name = scratch_names.make(self.source)
        try:
            self._create(name, options)
            engine = self._engine_on(name)
            try:
                yield engine
            finally:
                engine.dispose()
        finally:
            self._drop(name)

    def remove_leftovers(self, watch: Watch) -> None:
        """Drop what killed rehearsals of the same source left behind. Whoever is connected to one keeps it."""
        with self._autocommit() as connection:
            names = connection.execute(text("SELECT schema_name FROM information_schema.schemata")).scalars().all()
            for name in names:
                if scratch_names.is_leftover(name, self.source) and not _sessions(connection, name):
                    watch.tell(f"removing database {name}, which a rehearsal left behind when it was killed")
                    try:
                        connection.execute(text(f"DROP DATABASE IF EXISTS {quoted(name)}"))
                    except DBAPIError as error:
                        watch.tell(f"database {name} was left: {self.dialect.describe(error)}")

    def _engine_on(self, name: str) -> Engine:
        """An engine that connects as the server's does, certificates and all, and then chooses its database."""

        def connect() -> Any:
            connection = self._engine.pool._creator()  # type: ignore[call-arg]
            connection.select_db(name)
            return connection

        return create_engine(self._engine.url.set(database=name), creator=connect, hide_parameters=True)

    def _create(self, name: str, options: str) -> None:
        try:
            with self._autocommit() as connection:
                connection.execute(text(f"CREATE DATABASE {quoted(name)} {options}"))
        except DBAPIError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: DBAPIError) -> Refused:
        role, host = self._engine.url.username or "of this session", self._engine.url.host or "this machine"
        if self.dialect.denied(error):
            pattern = self.source.replace("_", r"\_") + r"\_rehearsal\_%"
            return Refused(
                f"User {role!r} may not create databases on the server at {host}, which a rehearsal needs for its "
                f"copies. Let an administrator GRANT ALL ON {quoted(pattern)}.* to it, or give --scratch the address "
                "of a server where it may. Nothing was written."
            )
        return Refused(
            f"A scratch database could not be created on the server at {host}: {self.dialect.describe(error)}. "
            "Mend that, or give --scratch the address of another server."
        )

    def _drop(self, name: str) -> None:
        with self._autocommit() as connection:
            for session in _sessions(connection, name):  # of a process that was killed: DROP would wait for them
                with suppress(DBAPIError):  # it has ended meanwhile
                    connection.execute(text(f"KILL {int(session)}"))
            connection.execute(text(f"SET SESSION lock_wait_timeout = {DROP_SECONDS}"))
            try:
                connection.execute(text(f"DROP DATABASE IF EXISTS {quoted(name)}"))
            except DBAPIError as error:
                if not self.dialect.denied(error):  # else it could not be created either
                    raise

    def _autocommit(self) -> Connection:
        return self._administrator.connect().execution_options(isolation_level="AUTOCOMMIT")


def like(source: Connection) -> str:
    """Options of a database that sorts and spells as the source does."""
    charset, collation = source.execute(_OF_DATABASE).one()
    return f"CHARACTER SET {charset} COLLATE {collation}"


def _sessions(connection: Connection, name: str) -> list[int]:
    found = connection.execute(
        text("SELECT id FROM information_schema.processlist WHERE db = :name AND id <> CONNECTION_ID()"), {"name": name}
    )
    return list(found.scalars())
