"""Connections to a database that a migration opens by itself.

They would read and write outside of the batch's transaction, and from a rehearsal perhaps in production: they are
refused before they are open. Connections of other kinds, to a web service for example, are none of our concern.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from sqlalchemy import Connection, Engine, event

from system_migration.migration import Migration
from system_migration.rehearsal import user_code
from system_migration.rehearsal.report import Broken, Kept, Outcome
from system_migration.rehearsal.stage import Stage

_PORTS = {3306, 5432, 6432, 1433, 1521}
_SOCKETS = ("mysql", "mariadb", ".s.PGSQL")


class OwnConnection(OSError):
    """What a migration meets that connects by itself. An OSError, for which drivers close the socket they have made."""


@dataclass
class Watch:
    """Who opens connections while it stands. `seen` are the places, in order."""

    files: frozenset[str]
    port: int | None
    seen: list[str] = field(default_factory=list)

    def refuse(self, what: str) -> None:
        """Raise in the migration's code, if it is that which connects."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename == __file__:
            frame = frame.f_back
        frame = user_code.caller_among(self.files, frame)
        if frame is not None:
            self.seen.append(f"{what} at {user_code.place(frame)}")
            raise OwnConnection(f"{what}: a migration uses the connection it is given, or none")

    def is_database(self, address: Any) -> bool:
        if isinstance(address, tuple):
            return address[1] in _PORTS | {self.port}
        return any(name in str(address) for name in _SOCKETS)


_watches: list[Watch] = []
_installed = False


def _audit(name: str, arguments: tuple[Any, ...]) -> None:
    if not _watches:
        return
    for watch in _watches:
        if name == "sqlite3.connect":
            watch.refuse("sqlite3.connect")
        elif name == "socket.connect" and watch.is_database(arguments[1]):
            watch.refuse("a connection to a database")


@contextmanager
def watched(migration: type[Migration], engine: Engine, own: Engine) -> Iterator[Watch]:
    """Refuse, within the block, every connection that the migration opens. `own` is the engine that it runs on."""
    global _installed
    if not _installed:
        sys.addaudithook(_audit)  # it cannot be taken away again, and so looks at its list of watches first
        _installed = True
    watch = Watch(user_code.files_of(migration), engine.url.port)

    def second(_: Connection) -> None:
        watch.refuse("a second connection of context.connection's engine")

    _watches.append(watch)
    event.listen(own, "engine_connect", second)
    try:
        with _psycopg_watched(watch):
            yield watch
    finally:
        event.remove(own, "engine_connect", second)
        _watches.remove(watch)


@contextmanager
def _psycopg_watched(watch: Watch) -> Iterator[None]:
    """Its library connects in C, where no audit event tells of it."""
    psycopg = sys.modules.get("psycopg")
    if psycopg is None:
        yield
        return
    original = psycopg.connect

    def connect(*arguments: Any, **options: Any) -> Any:
        watch.refuse("psycopg.connect")
        return original(*arguments, **options)

    psycopg.connect = connect  # type: ignore[attr-defined]
    try:
        yield
    finally:
        psycopg.connect = original  # type: ignore[attr-defined]


def no_own_connection(stage: Stage) -> Outcome:
    """A dry run, under watch. Its report is what the next promise judges."""
    migrator = stage.main.migrator
    with watched(stage.migration, stage.main.engine, stage.main.database.engine) as watch:
        [stage.dry_run] = migrator.dry_run(stage.name, full=True)
    if watch.seen:
        return Broken(
            f"It opens a connection of its own ({watch.seen[0]}): what it does there is in no transaction of the run "
            "and no dry run can undo it. Use context.connection, or declare the columns in reads."
        )
    return Kept()
