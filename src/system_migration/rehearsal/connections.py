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

from sqlalchemy import Connection, event

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
        if _is_reopened(frame):
            return
        frame = user_code.caller_among(self.files, frame, through_us=False)
        if frame is not None:
            self.seen.append(f"{what} at {user_code.place(frame)}")
            raise OwnConnection(f"{what}: a migration uses the connection it is given, or none")

    def outcome(self) -> Broken | None:
        """The broken promise, if the migration has connected by itself, whatever became of that."""
        if not self.seen:
            return None
        return Broken(
            f"It opens a connection of its own ({self.seen[0]}): what it does there is in no transaction of the run "
            "and no dry run can undo it. Use context.connection, or declare the columns in reads."
        )

    def is_database(self, address: Any) -> bool:
        if isinstance(address, tuple):
            return address[1] in _PORTS | {self.port}
        return any(name in str(address) for name in _SOCKETS)


def _is_reopened(frame: FrameType | None) -> bool:
    """Whether it is the connection that the migration was given: SQLAlchemy opens it when it is first used."""
    while frame is not None:
        if frame.f_code.co_name == "_revalidate_connection":
            return True
        frame = frame.f_back
    return False


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
def watched(stage: Stage) -> Iterator[Watch]:
    """Refuse, within the block, every connection that the migration opens: not only in the dry run, which comes first.

    What it opens in a run, or while it verifies or goes back, could be to production just as well.
    """
    global _installed
    if not _installed:
        sys.addaudithook(_audit)  # it cannot be taken away again, and so looks at its list of watches first
        _installed = True
    watch, own = Watch(user_code.files_of(stage.migration), stage.main.engine.url.port), stage.main.database.engine

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
    try:
        import psycopg  # perhaps for the first time: the migration may import it only where it connects
    except ImportError:
        yield
        return
    original = psycopg.connect

    def connect(*arguments: Any, **options: Any) -> Any:
        watch.refuse("psycopg.connect")
        return original(*arguments, **options)

    psycopg.connect = connect
    try:
        yield
    finally:
        psycopg.connect = original


def no_own_connection(stage: Stage) -> Outcome:
    """A dry run, in which nothing is written yet: `watched` judges it. Its report is what the next promise judges."""
    [stage.dry_run] = stage.main.migrator.dry_run(stage.name, full=True)
    return Kept()
