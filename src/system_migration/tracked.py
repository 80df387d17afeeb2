"""The tracking tables as one environment sees them: looked at without writing, or made ready for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from system_migration.audit_trail import ADOPTED
from system_migration.errors import ConfigurationError, MigrationSystemError, Refused
from system_migration.settings import DEVELOPMENT
from system_migration.signing import AuditKey
from system_migration.store import audit, chain, migrations, tracking, upgrades
from system_migration.store.audit import Actor
from system_migration.store.database import Database
from system_migration.store.dialects import Fault
from system_migration.store.migrations import Snapshot

_T = TypeVar("_T")


class Tracked:
    """What every verb needs of the record before it can do its own part."""

    def __init__(self, database: Database, given_environment: str | None) -> None:
        self._database = database
        self._given = self._environment = given_environment

    @property
    def environment(self) -> str:
        """The environment's name: as given, else as the database is bound, else development (SQLite only)."""
        if self._environment is None:
            binding = tracking.find_binding(self._database)
            self._environment = self._default_environment(binding.environment if binding else None)
        return self._environment

    def _default_environment(self, bound: str | None) -> str:
        if bound is None and self._database.dialect.is_server:
            raise ConfigurationError(
                "This server database is not bound to an environment yet, and none was named. "
                "Set MIGRATION_ENVIRONMENT or give --environment."
            )
        return bound or DEVELOPMENT

    def snapshot(self, only: str | None = None) -> Snapshot:
        """Where every migration stands, or that one alone. One SELECT; two on tables that no write has upgraded yet."""

        def stored(connection: Connection, lacking: Collection[str]) -> Snapshot:
            return migrations.snapshot(connection, self._environment, only=only, lacking=lacking)

        snapshot = self.read_older(stored, Snapshot(None, None, {}))
        if self._environment is None:
            self._environment = self._default_environment(snapshot.environment)
        return snapshot

    def read_older(self, question: Callable[[Connection, Collection[str]], _T], without_tables: _T) -> _T:
        """As `read`, of tables that no write has upgraded yet too: the question is then told what they lack."""

        def ask(connection: Connection) -> _T:
            try:
                return question(connection, ())
            except DBAPIError as error:
                if self._database.dialect.fault(error) is Fault.NO_TABLE:
                    raise  # older tables lack columns, but none of those that are asked here
                binding = tracking.find_binding(self._database)
                absent = upgrades.lacking(binding.schema_version) if binding is not None else set()
                if not absent:
                    raise
                return question(connection, absent)

        return self.read(ask, without_tables)

    def read(self, question: Callable[[Connection], _T], without_tables: _T) -> _T:
        """The answer to a question, or `without_tables` where nothing was ever written.

        Raises `MigrationSystemError` where tables or columns of ours were lost.
        """
        from system_migration.running import rights

        try:
            with rights.needed(self._database.dialect, rights.ON_TRACKING), self._database.read() as connection:
                return question(connection)
        except DBAPIError as error:
            if damage := tracking.explain(self._database):
                raise MigrationSystemError(damage) from error
            if self._database.dialect.fault(error) is Fault.NO_TABLE:
                return without_tables
            raise

    def ready_to_write(self, allow_environment: bool, *, any_key: bool = False) -> None:
        """Make the tables, or bring older ones forward. Raises where this process must not, or cannot, write here.

        With `any_key`, its audit key need not be the one of the chain.
        """
        with self._database.read() as connection:
            if self._database.dialect.read_only(connection):
                raise Refused("The database is read-only. Connect to the primary, as a role that writes.")
        tracking.ensure(self._database, self.environment)
        binding = tracking.find_binding(self._database)
        assert binding is not None
        tracking.check_writable(self._database, binding, self.environment, allow_environment=allow_environment)
        tracking.upgrade(self._database, binding)
        tracking.check_whole(self._database)
        if self._database.signer is not None and not any_key:
            with self._database.read() as connection:
                chain.check_key(connection, self._database.signer)

    def ready_to_report(self, allow_environment: bool) -> bool:
        """As `ready_to_write`; False where nothing can be written, so that a dry run only prints."""
        with self._database.read() as connection:
            if self._database.dialect.read_only(connection):
                return False
        try:
            self.ready_to_write(allow_environment)
        except Refused:
            raise
        except MigrationSystemError:
            return False  # the role may not create our tables, or a runner keeps older ones from being upgraded
        return True

    def init(self) -> bool:
        """Create the tables and bind the database to the environment; True when this call did."""
        bound = tracking.ensure(self._database, self.environment)
        self.ready_to_write(allow_environment=False)
        return bound

    def adopt(self, actor: Actor, *, keep_production: bool = False) -> str:
        """Rebind the database, with its history, to the environment that was given; what was done, in words.

        With `keep_production` only a copy of production's database may become another environment's.
        """
        old = tracking.find_binding(self._database)
        if old is None:
            raise Refused("This database has no migration history to adopt. `migration init` binds it.")
        if self._given is None:
            raise ConfigurationError("Name the environment that adopts this database: --environment NAME.")
        tracking.upgrade(self._database, old)
        with self._database.write() as connection:
            if keep_production:
                tracking.keep_production(connection, self._database, self._given, old)
            tracking.adopt(connection, self._database, self._given, old)
            audit.add_event(connection, self._given, None, ADOPTED, actor, {"from": old.environment})
        return f"This database now belongs to {self._given!r} (before: {old.environment!r}), with its history."

    def rekey(self, actor: Actor, keys: Sequence[AuditKey], allow_environment: bool) -> None:
        """Let the audit chain go on under the first key. Raises `Refused` where it does, or no key proves its end."""
        self.ready_to_write(allow_environment, any_key=True)
        with self._database.write() as connection:
            who = {"environment": self.environment, "actor": actor.name, "host": actor.host}
            chain.begin_anew(connection, who, keys)
