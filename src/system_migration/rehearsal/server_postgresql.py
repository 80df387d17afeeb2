"""Scratch databases on a PostgreSQL server: made, dropped, and those that a killed rehearsal left, told and dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from system_migration.engines import connect
from system_migration.errors import Refused
from system_migration.rehearsal import scratch_names
from system_migration.rehearsal.watching import Watch
from system_migration.store.dialects import dialect_of

_OF_DATABASE = text("""
SELECT datcollate, datctype, pg_encoding_to_char(encoding) AS encoding,
       COALESCE(to_jsonb(d) ->> 'datlocprovider', 'c') AS provider,
       COALESCE(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') AS locale,
       ARRAY(SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setdatabase = d.oid AND setrole = 0) AS settings
  FROM pg_database d WHERE datname = current_database()
""")
_PROVIDERS = {"i": " LOCALE_PROVIDER icu ICU_LOCALE {}", "b": " LOCALE_PROVIDER builtin BUILTIN_LOCALE {}"}
_DENIED = "42501"


class PostgreSQLServer:
    """A server on which the role of `engine` makes scratch databases of the database `source`."""

    def __init__(self, engine: Engine, source: str) -> None:
        self.dialect, self.source, self.url = dialect_of(engine), source, engine.url
        self._administrator = self.dialect.own_engine(engine)
        self.settings: Sequence[str] = ()

    def close(self) -> None:
        """Close the connections."""
        self._administrator.dispose()

    def like(self, source: Connection) -> str:
        """Options of a database that sorts and spells as the source does. Remembers what is set for the source."""
        of = source.execute(_OF_DATABASE).one()
        self.settings = of.settings
        options = [f"TEMPLATE template0 ENCODING {_literal(of.encoding)}"]
        options.append(f"LC_COLLATE {_literal(of.datcollate)} LC_CTYPE {_literal(of.datctype)}")
        if of.locale and of.provider in _PROVIDERS:
            options.append(_PROVIDERS[of.provider].format(_literal(of.locale)))
        return " ".join(options)

    @contextmanager
    def database(self, options: str) -> Iterator[Engine]:
        """A scratch database made with these options, dropped at the end with whoever is still connected."""
        name = scratch_names.make(self.source)
        try:
            self._create(name, options)
            engine = connect(self.url.set(database=name).render_as_string(hide_password=False))
            try:
                yield engine
            finally:
                engine.dispose()
        finally:
            self._drop(name)

    def remove_leftovers(self, watch: Watch) -> None:
        """Drop what killed rehearsals of the same source left behind. Whoever is connected to one keeps it."""
        with self._autocommit() as connection:
            names = connection.execute(text("SELECT datname FROM pg_database WHERE NOT datistemplate")).scalars().all()
            for name in names:
                if scratch_names.is_leftover(name, self.source):
                    watch.tell(f"removing database {name}, which a rehearsal left behind when it was killed")
                    try:
                        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {_quoted(name)}")
                    except DBAPIError as error:
                        watch.tell(f"database {name} was left: {self.dialect.describe(error)}")

    def _create(self, name: str, options: str) -> None:
        try:
            with self._autocommit() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {_quoted(name)} {options}")
            self._set(name)
        except DBAPIError as error:
            raise self._refusal(error) from error

    def _set(self, name: str) -> None:
        """What is set for the source's sessions, such as a search_path, is set for those of the copy."""
        if not self.settings:
            return
        with self._administrator.begin() as connection:
            for setting in self.settings:
                parameter, _, value = setting.partition("=")
                connection.execute(text("SELECT set_config(:name, :value, true)"), {"name": parameter, "value": value})
                # FROM CURRENT, because a list such as a search_path is no single literal.
                spoken = ".".join(map(_quoted, parameter.split(".")))
                connection.exec_driver_sql(f"ALTER DATABASE {_quoted(name)} SET {spoken} FROM CURRENT")

    def _refusal(self, error: DBAPIError) -> Refused:
        role, host = self.url.username or "of this session", self.url.host or "this machine"
        if self.dialect.code(error) == _DENIED:
            return Refused(
                f"Role {role!r} may not create databases on the server at {host}, which a rehearsal needs for its "
                f"copies. Let an administrator ALTER ROLE {_quoted(role)} CREATEDB, or give --scratch the address of "
                "a server where it may. Nothing was written."
            )
        return Refused(
            f"A scratch database could not be created on the server at {host}: {self.dialect.describe(error)}. "
            "Mend that, or give --scratch the address of another server."
        )

    def _drop(self, name: str) -> None:
        with self._autocommit() as connection:
            force = " WITH (FORCE)" if (connection.dialect.server_version_info or ()) >= (13,) else ""
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {_quoted(name)}{force}")

    def _autocommit(self) -> Connection:
        return self._administrator.connect().execution_options(isolation_level="AUTOCOMMIT")


def template(engine: Engine) -> str:
    """Options of a database that is a copy of the one of `engine`, to which nobody may be connected."""
    engine.dispose()
    assert engine.url.database is not None
    return f"TEMPLATE {_quoted(engine.url.database)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
