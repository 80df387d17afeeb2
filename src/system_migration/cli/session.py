"""One invocation: its flags, its settings, and the `Migrator` it works with."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system_migration.settings import Settings, read_settings

if TYPE_CHECKING:
    from system_migration.cli.progress import Watcher
    from system_migration.migrator import Migrator
    from system_migration.registry import Registry


class Session:
    """What one command was told. Nothing is opened before `migrator()`."""

    def __init__(self, flags: Mapping[str, Any], *, verbose: bool = False, executed_by: str | None = None) -> None:
        self.flags, self.verbose, self.executed_by = flags, verbose, executed_by
        self.json = bool(flags.get("json"))

    @cached_property
    def settings(self) -> Settings:
        """Flags, then the environment, then pyproject.toml in the current directory, then defaults."""
        return read_settings(self.flags, os.environ, Path("pyproject.toml"))

    @contextlib.contextmanager
    def migrator(self, *, watched: bool = False, create: bool = False, files: bool = True) -> Iterator[Migrator]:
        """The `Migrator` of this invocation, closed at the end.

        `watched` draws its progress on stderr; `create` lets a SQLite file come into being; without `files` it knows
        no migration. Whatever a migration prints meanwhile goes to stderr: stdout is for the result, so a command
        prints after this block.
        """
        self._configure_logging(tells_endings=watched and not self.json)
        watcher = _watcher() if watched else None
        from system_migration.cli.news import wait_for_news

        with contextlib.redirect_stdout(sys.stderr):
            migrator = open_migrator(self, watcher, create=create, files=files)
            gc.freeze()  # what was loaded stays: no collection needs to look at it again
            gc.enable()
            try:
                yield migrator
            finally:
                if watcher is not None:
                    watcher.close()
                wait_for_news(migrator)
                migrator.close(wait=0)

    def registry(self) -> Registry:
        """The migrations that the files declare, for commands that need no database."""
        self._configure_logging()
        with contextlib.redirect_stdout(sys.stderr):
            return open_registry(self)

    def _configure_logging(self, *, tells_endings: bool = False) -> None:
        from system_migration.cli.logs import configure_logging

        configure_logging(self.settings.log_format, verbose=self.verbose, tells_endings=tells_endings)


def open_migrator(
    session: Session, watcher: Watcher | None = None, *, create: bool = False, files: bool = True
) -> Migrator:
    """Build the one object that commands call. Raises `ConfigurationError` for what cannot be opened."""
    from system_migration.registry import Registry

    registry = open_registry(session) if files else Registry([])
    from system_migration.engines import connect
    from system_migration.migration import SilentProgress
    from system_migration.migrator import Migrator

    return Migrator(
        connect(session.settings.required_database_url(), create=create),
        registry,
        settings=session.settings,
        progress=watcher or SilentProgress(),
        executed_by=session.executed_by,
        ask=_asker(watcher),
    )


def open_registry(session: Session) -> Registry:
    """Load the migration files. Raises `LoadError`."""
    from system_migration.discovery import discover

    see_project()
    return discover(session.settings.migrations)


def see_project() -> None:
    """Let `MIGRATIONS=package` work from a project's root: the current directory becomes importable."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)


def _watcher() -> Watcher:
    from system_migration.cli.progress import watcher_for

    return watcher_for(sys.stderr)


def _asker(watcher: Watcher | None) -> Callable[[str], str | None]:
    from system_migration.cli.terminal import ask_hidden

    def ask(prompt: str) -> str | None:
        with watcher.paused() if watcher is not None else contextlib.nullcontext():
            return ask_hidden(prompt)

    return ask
