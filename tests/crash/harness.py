"""Runs in forked children, killed or held at an exact moment of their work; see `children` and `moments`."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Imported lazily by the library; a child must find them imported.
import alembic.migration
import alembic.operations  # noqa: F401
import psycopg  # noqa: F401
import pymysql  # noqa: F401
from sqlalchemy import Connection, Engine, QueuePool, event, make_url, update

from system_migration import Migration, Migrator, Registry, RunOptions, Settings
from system_migration.records import RunReport
from system_migration.store import tables
from system_migration.store.times import after
from tests.crash.children import PATIENCE, Child, Ending, Gate, freeze
from tests.crash.moments import COMMIT, COMMITTED, STATEMENT, Moment, OnMoment, watch
from tests.support.databases import application_engine

__all__ = [
    "COMMIT",
    "COMMITTED",
    "PATIENCE",
    "STATEMENT",
    "Child",
    "Ending",
    "Gate",
    "Job",
    "Moment",
    "OnMoment",
    "after_commit_of_a_batch",
    "at_commit_of_a_batch",
    "engine_for",
    "expire_lease",
    "freeze",
    "watch",
]

ENVIRONMENT = "crash"


def engine_for(url: str) -> Engine:
    """A host's engine that loses no time on what a killed process cannot need: TLS, and fsync."""
    arguments = {"ssl_disabled": True} if make_url(url).get_backend_name() in ("mysql", "mariadb") else {}
    engine = application_engine(url, poolclass=QueuePool, connect_args=arguments)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    return engine


class Job:
    """One call of `Migrator.run`, or of its rollback or retry, for one migration on one database.

    A child or the parent makes it. `undo` makes children roll back instead of run, `retry` has them retry.
    """

    def __init__(
        self,
        url: str,
        migration: type[Migration],
        *,
        batch_size: int | None = 3,
        workers: int = 1,
        wait: bool = False,
        lease_seconds: float = 30.0,
        engine: Callable[[str], Engine] = engine_for,
        undo: bool = False,
        retry: bool = False,
        **migrator_options: Any,
    ) -> None:
        self._work = self.roll_back if undo else self.retry if retry else self.run
        self._url, self._migration, self._engine = url, migration, engine
        self._settings = Settings(environment=ENVIRONMENT, lease_seconds=lease_seconds)
        self._options = RunOptions(workers=workers, batch_size=batch_size, wait=wait)
        self._migrator_options = migrator_options
        self._made: Migrator | None = None

    def init(self) -> None:
        """Create the tracking tables and bind the database."""
        with self._migrator() as migrator:
            migrator.init()

    def run(self) -> list[RunReport]:
        """Run what is pending."""
        with self._migrator() as migrator:
            return migrator.run(options=self._options)

    def roll_back(self) -> list[RunReport]:
        """Roll the migration back."""
        with self._migrator() as migrator:
            return [migrator.rollback(self._migration.name)]

    def retry(self) -> list[RunReport]:
        """Try the migration's held rows again."""
        with self._migrator() as migrator:
            return [migrator.retry(self._migration.name, self._options)]

    def listed(self) -> dict[Any, str]:
        """The rows that a rollback left as they are, with the reason."""
        with self._migrator() as migrator:
            return {issue.key: issue.code for issue in migrator.issues(self._migration.name)}

    @contextmanager
    def _migrator(self) -> Iterator[Migrator]:
        """One for all calls in this process, so that statements are compiled once; its connections are closed."""
        if self._made is None:
            registry = Registry([self._migration])
            self._made = Migrator(self._engine(self._url), registry, self._settings, **self._migrator_options)
        with self._made as migrator:
            yield migrator

    def start(self, arrange: Callable[[], None] = lambda: None, on_moment: OnMoment | None = None) -> Child:
        """Work in a child. `arrange` happens there first: what it patches, the parent never sees."""

        def work(_: Child) -> list[RunReport]:
            arrange()
            if on_moment is not None:
                watch(on_moment)
            return self._work()

        return Child(work)

    def start_and_kill(self, when: Callable[[Moment], bool], arrange: Callable[[], None] = lambda: None) -> Ending:
        """Work in a child that kills itself at the first moment for which `when` is true; wait for the end."""

        def work(child: Child) -> list[RunReport]:
            gc.disable()  # it will not live long
            arrange()
            watch(lambda moment: child.die_at(moment) if when(moment) else None)
            return self._work()

        with Child(work) as child:
            return child.wait()


def at_commit_of_a_batch(moment: Moment) -> bool:
    """Just before the COMMIT of a batch of items."""
    return moment.kind == COMMIT and moment.has_sent("UPDATE item")


def after_commit_of_a_batch(moment: Moment) -> bool:
    """Just after the COMMIT of a batch of items."""
    return moment.kind == COMMITTED and moment.has_sent("UPDATE item")


def expire_lease(connection: Connection) -> None:
    """What waiting for a dead runner's lease to run out would come to, in one UPDATE."""
    past = after(-3600.0)
    connection.execute(update(tables.lease).values(expires_at=past, takeover_at=past))
