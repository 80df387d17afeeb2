"""Which schema revision a migration waits for: judged by what Alembic wrote into the database, and by its scripts.

Alembic is loaded where a migration declares `requires_schema` and the database is not at that very revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from system_migration.errors import ConfigurationError, WaitsForSchema
from system_migration.migration import Migration
from system_migration.settings import ALEMBIC_CONFIG

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

_TOML = "pyproject.toml"


class SchemaHistory:
    """The revisions that a team's Alembic folder has, as far as it is here.

    `config` is the path of its `alembic.ini`. Where there is none, a database is known to have a revision only when it
    is at that one: what came before, only the scripts tell. They are read once for each state of the database, however
    often it is looked at: each reading runs all of them, and puts Alembic's `prepend_sys_path` before `sys.path` again.
    """

    def __init__(self, config: str = ALEMBIC_CONFIG) -> None:
        self._config = Path(config)
        self._read_at: tuple[tuple[str, ...], ScriptDirectory | ConfigurationError] | None = None

    def demand(self, migration: type[Migration], current: Sequence[str] | None) -> None:
        """Raise `WaitsForSchema` unless the revision that the migration requires is applied."""
        if reason := self.missing(migration, current):
            raise WaitsForSchema(migration.name, reason)

    def told(self, migration: type[Migration], current: Sequence[str] | None) -> str | None:
        """As `missing`, for who only looks: scripts that do not load are then what it waits for, and no error."""
        try:
            return self.missing(migration, current)
        except ConfigurationError as error:
            return f"schema revision {migration.requires_schema}, of which nothing is known: {str(error).rstrip('.')}"

    def missing(self, migration: type[Migration], current: Sequence[str] | None) -> str | None:
        """What the migration waits for, and where the database is; None when it waits for no schema.

        `current` is where the database is: None where it has no table that says so. Raises `ConfigurationError` when
        the scripts do not load.
        """
        wanted = migration.requires_schema
        if wanted is None or wanted in (current or ()):
            return None
        waits = f"schema revision {wanted}, {_place(current)}"
        if not current:
            return waits
        if not self._has_scripts:
            return f"{waits}; whether that includes it only Alembic's scripts tell, and {self._config} is not here"
        scripts = self._scripts_at(tuple(current))
        return None if wanted in _all_applied(scripts, current) else waits + self._unknown(scripts, (wanted, *current))

    @property
    def _has_scripts(self) -> bool:
        if self._config.is_file():
            return True
        if str(self._config) != ALEMBIC_CONFIG:
            raise ConfigurationError(f"ALEMBIC_CONFIG names {self._config}, which is no file. Correct it.")
        return False

    def _scripts_at(self, current: tuple[str, ...]) -> ScriptDirectory:
        """The scripts as they were when the database was first seen at `current`; why they do not load, if so."""
        read_at = self._read_at  # another thread may replace it
        if read_at is None or read_at[0] != current:
            try:
                read_at = current, self._scripts()
            except ConfigurationError as error:
                read_at = current, error
            self._read_at = read_at
        if isinstance(read_at[1], ConfigurationError):
            raise ConfigurationError(str(read_at[1])) from read_at[1]
        return read_at[1]

    def _scripts(self) -> ScriptDirectory:
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config(self._config)
        config.toml_file_name = _TOML  # no argument of Config: before 1.16 the second one means something else
        try:
            scripts = ScriptDirectory.from_config(config)
            scripts.get_heads()  # reads all of them now
        except Exception as error:  # the scripts are code, which may raise anything
            raise ConfigurationError(
                f"Alembic's scripts cannot be read with {self._config} ({type(error).__name__}). "
                "`alembic history` says why; ALEMBIC_CONFIG names another file."
            ) from error
        return scripts

    def _unknown(self, scripts: ScriptDirectory, revisions: Iterable[str]) -> str:
        unknown = [each for each in revisions if not _knows(scripts, each)]
        return f"; there is no {' and no '.join(unknown)} in the scripts of {self._config}" if unknown else ""


def _all_applied(scripts: ScriptDirectory, current: Iterable[str]) -> set[str]:
    """The revisions of `current` that the scripts know, with all that came before and all that those depend on."""
    known = tuple(each for each in current if _knows(scripts, each))
    return {each.revision for each in scripts.iterate_revisions(known, "base")} if known else set()


def _knows(scripts: ScriptDirectory, revision: str) -> bool:
    """Whether there is a revision of just this name: Alembic would take its beginning for it too."""
    from alembic.util import CommandError

    try:
        found = scripts.get_revision(revision)
    except CommandError:
        return False
    return found is not None and found.revision == revision


def _place(current: Sequence[str] | None) -> str:
    if current is None:
        return "the database has no table alembic_version"
    return f"the database is at {' and '.join(current) or 'no revision'}"
