"""Runs in forked children, killed or held at an exact moment of their work.

A child is forked after the imports, with no connection open in the parent, and makes an engine of its own. A
*moment* is a point of its work on any connection, in whatever thread: before each SQL statement, and just before and
just after each COMMIT. The heartbeat is not counted: it beats by the clock. While one thread works at a time the
numbers repeat exactly; with several they vary from run to run.

Nothing here waits by the clock: a parent reads a pipe until the child says something, or is gone.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

# Imported lazily by the library; a child must find them imported.
import alembic.migration
import alembic.operations  # noqa: F401
import psycopg  # noqa: F401
import pymysql  # noqa: F401
from sqlalchemy import Connection, Dialect, Engine, QueuePool, event, make_url, update

from system_migration import Migration, Migrator, Registry, RunOptions, Settings
from system_migration.records import RunReport
from system_migration.store import tables
from system_migration.store.times import after
from tests.support.databases import application_engine

ENVIRONMENT = "crash"
PATIENCE = 60.0
"""After this many seconds without a word a child hangs, and the test fails. Never reached in a test that passes."""


def engine_for(url: str) -> Engine:
    """A host's engine that loses no time on what a killed process cannot need: TLS, and fsync."""
    arguments = {"ssl_disabled": True} if make_url(url).get_backend_name() in ("mysql", "mariadb") else {}
    engine = application_engine(url, poolclass=QueuePool, connect_args=arguments)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    return engine


# Moments


@dataclass(frozen=True)
class Moment:
    """A point in the life of a child. `transaction` is what its connection has sent since its last COMMIT."""

    number: int
    kind: str
    transaction: tuple[str, ...]

    def has_sent(self, beginning: str) -> bool:
        """Whether the transaction holds a statement that begins so."""
        return any(statement.startswith(beginning) for statement in self.transaction)

    def __str__(self) -> str:
        last = " ".join(self.transaction[-1].split())[:100] if self.transaction else "nothing"
        return f"moment {self.number}, {self.kind} ({last})"


STATEMENT, COMMIT, COMMITTED = "before a statement", "before COMMIT", "after COMMIT"

OnMoment = Callable[[Moment], None]


HEARTBEAT = "lease "
"""How the name of a heartbeat's thread begins."""


def watch(on_moment: OnMoment) -> None:
    """Call `on_moment` at every moment of this process, in the thread that lives it, for the rest of its life."""
    numbers = itertools.count(1)  # each is given to one thread only
    sent: dict[int, list[str]] = {}

    def tell(kind: str, connection: Any) -> None:
        if not threading.current_thread().name.startswith(HEARTBEAT):
            on_moment(Moment(next(numbers), kind, tuple(sent.get(id(connection), ()))))

    def statement(connection: Connection, _cursor: Any, sql: str, _p: Any, _x: Any, _many: bool) -> None:
        driver = connection.connection.dbapi_connection
        sent.setdefault(id(driver), []).append(sql)
        tell(STATEMENT, driver)

    def commit(connection: Connection) -> None:
        _tell_after_commit(connection, committed)
        tell(COMMIT, connection.connection.dbapi_connection)

    def committed(driver: Any) -> None:
        tell(COMMITTED, driver)
        sent.pop(id(driver), None)

    def rollback(connection: Connection) -> None:
        sent.pop(id(connection.connection.dbapi_connection), None)

    event.listen(Engine, "before_cursor_execute", statement)
    event.listen(Engine, "commit", commit)
    event.listen(Engine, "rollback", rollback)


_wrapping = threading.Lock()


def _tell_after_commit(connection: Connection, committed: Callable[[Any], None]) -> None:
    """SQLAlchemy has no event after a COMMIT, so the dialect's own step is wrapped, once for each engine."""
    dialect = connection.dialect
    with _wrapping:
        if "do_commit" not in vars(dialect):
            _wrap_commit(dialect, committed)


def _wrap_commit(dialect: Dialect, committed: Callable[[Any], None]) -> None:
    original = dialect.do_commit

    def do_commit(pooled: Any) -> None:
        original(pooled)
        committed(pooled.dbapi_connection)

    dialect.do_commit = do_commit  # type: ignore[assignment, method-assign]


# Children


@dataclass(frozen=True)
class Ending:
    """How a child ended: killed at a moment, by an error, or with a value."""

    killed_at: Moment | None = None
    value: Any = None
    error: str | None = None
    message: str = ""


class Child:
    """A forked process and what it says. Ended, if need be by force, when the block is left."""

    def __init__(self, work: Callable[[Child], Any]) -> None:
        parent = os.getpid()
        self._reader, self._writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._live(parent, work)
        os.close(self._writer)
        self._ending: Ending | None = None

    def _live(self, parent: int, work: Callable[[Child], Any]) -> None:
        gc.freeze()  # or its collector copies, page by page, what is the parent's
        try:
            _die_with(parent)
            ending = Ending(value=work(self))
        except BaseException as error:
            ending = Ending(error=type(error).__name__, message=f"{error}\n{traceback.format_exc()}")
        try:
            self._say(ending)
        finally:
            os._exit(0)  # no clean-up of pytest's: that is the parent's

    def _say(self, ending: Ending) -> None:
        data = pickle.dumps(ending)
        while data:
            data = data[os.write(self._writer, data) :]

    def die_at(self, moment: Moment) -> None:
        """In the child: say where, and be gone as a power cut would have it."""
        self._say(Ending(killed_at=moment))
        os.kill(os.getpid(), signal.SIGKILL)

    def wait(self, patience: float = PATIENCE) -> Ending:
        """Let it end."""
        if self._ending is None:
            said = b""
            while True:
                self._listen([self._reader], patience)
                part = os.read(self._reader, 65536)
                if not part:
                    break
                said += part
            self._bury(Ending(error="Silence", message="it died without a word"))
            if said:
                self._ending = pickle.loads(said)
        return self._ending

    def wait_for(self, gate: Gate) -> None:
        """Wait until the child stands at the gate; it is an error if it ends instead."""
        ready = self._listen([gate.reached, self._reader])
        if gate.reached not in ready:
            raise AssertionError(f"the child never came to the gate: {self.wait()}")
        os.read(gate.reached, 1)

    def wait_until_frozen(self) -> None:
        """Wait until it has sent SIGSTOP to itself, see `freeze`; it is an error if it ends instead."""
        until = time.monotonic() + PATIENCE
        while (state := os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG)) is None:
            assert time.monotonic() < until, "the child never froze"
            time.sleep(0.002)
        assert state.si_code == os.CLD_STOPPED, f"the child did not freeze: {self.wait()}"

    def thaw(self) -> None:
        """Let a frozen child go on."""
        os.kill(self.pid, signal.SIGCONT)

    def is_at(self, gate: Gate) -> bool:
        """Whether the child stands at the gate now."""
        return bool(select.select([gate.reached], [], [], 0)[0])

    def _listen(self, descriptors: Sequence[int], patience: float = PATIENCE) -> list[int]:
        ready, _, _ = select.select(descriptors, [], [], patience)
        if not ready:
            self.kill()
            raise AssertionError(f"the child said nothing for {patience:.0f} seconds")
        return ready

    def kill(self) -> None:
        """Kill -9, now."""
        if self._ending is None:
            os.kill(self.pid, signal.SIGKILL)
            self._bury(Ending(error="Killed", message="by its parent"))

    def _bury(self, ending: Ending) -> None:
        """From here on its number may be another process's, and is never used again."""
        self._ending = ending
        os.waitpid(self.pid, 0)
        os.close(self._reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _die_with(parent: int) -> None:
    """A killed pytest cleans nothing up, so the kernel does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def freeze() -> None:
    """In a child: stand still with all threads, as in a paused virtual machine, until the parent lets it thaw."""
    os.kill(os.getpid(), signal.SIGSTOP)


class Gate:
    """Where a child stops, once, until it is let through. Make it before the child."""

    def __init__(self) -> None:
        self.reached, self._reach = os.pipe()
        self._passage, self._open = os.pipe()
        self.passed = False
        self._first = threading.Lock()

    def stop(self) -> None:
        """In the child: say that we are here, and wait. Only the first thread stops, and once."""
        if self._first.acquire(blocking=False):
            self.passed = True
            os.write(self._reach, b".")
            os.read(self._passage, 1)

    def open(self) -> None:
        """In the parent: let it through."""
        os.write(self._open, b".")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in (self.reached, self._reach, self._passage, self._open):
            os.close(descriptor)


# What children do


class Job:
    """One call of `Migrator.run` for one migration on one database, as a child or the parent makes it."""

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
        **migrator_options: Any,
    ) -> None:
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

    @contextmanager
    def _migrator(self) -> Iterator[Migrator]:
        """One for all calls in this process, so that statements are compiled once; its connections are closed."""
        if self._made is None:
            registry = Registry([self._migration])
            self._made = Migrator(self._engine(self._url), registry, self._settings, **self._migrator_options)
        with self._made as migrator:
            yield migrator

    def start(self, arrange: Callable[[], None] = lambda: None, on_moment: OnMoment | None = None) -> Child:
        """Run in a child. `arrange` happens there first: what it patches, the parent never sees."""

        def work(_: Child) -> list[RunReport]:
            arrange()
            if on_moment is not None:
                watch(on_moment)
            return self.run()

        return Child(work)

    def start_and_kill(self, when: Callable[[Moment], bool], arrange: Callable[[], None] = lambda: None) -> Ending:
        """Run in a child that kills itself at the first moment for which `when` is true; wait for the end."""

        def work(child: Child) -> list[RunReport]:
            gc.disable()  # it will not live long
            arrange()
            watch(lambda moment: child.die_at(moment) if when(moment) else None)
            return self.run()

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
