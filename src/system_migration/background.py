"""The worker of a server process: one thread that carries out runs, whoever asked for them."""

from __future__ import annotations

import contextvars
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from system_migration.errors import Interrupted, MigrationSystemError, Refused
from system_migration.migrator import Migrator

T = TypeVar("T")


class Background:
    """Carries out one piece of work at a time with a `Migrator`; it survives its asker, not its process.

    What dies with the process is committed up to a batch edge and resumed by the next start, as after any kill.
    """

    def __init__(self, migrator: Migrator) -> None:
        self._migrator = migrator
        self._door = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ended: Future[Any] | None = None
        self._closed = False
        self._run_id: Callable[[], str | None] = _not_known

    @property
    def run_id(self) -> str | None:
        """The run that the latest piece of work is at, or was at last; None before its first, or where nobody said."""
        return self._run_id()

    @property
    def busy(self) -> bool:
        """Whether a piece of work is going on."""
        return self._ended is not None and not self._ended.done()

    def start(self, work: Callable[[], T], run_id: Callable[[], str | None] | None = None) -> Future[T]:
        """Begin `work` in the worker's thread; its result, or what it raised, is in the future.

        `run_id` says which run it is at, to whoever asks meanwhile, from any thread.

        Raises `Refused` while another piece is going on, and `Interrupted` once `stop` was called.
        """
        future: Future[T] = Future()
        with self._door:
            if self._closed:
                raise Interrupted(signal.SIGTERM)
            if self.busy:
                raise Refused("This server is at work on another run. Wait for it, or see `migration status`.")
            # A daemon, so that a host that dies without `stop` does not hang: a cut batch rolls back.
            # In the asker's context, so that what is traced joins the request.
            context = contextvars.copy_context()
            task = (_carry_out, work, future)
            self._thread = threading.Thread(target=context.run, args=task, name="migration", daemon=True)
            self._thread.start()
            self._ended = future
            self._run_id = run_id or _not_known
        return future

    def stop(self, timeout: float | None = None) -> bool:
        """Ask what is going on to end at a clean checkpoint, and wait for it; False when `timeout` seconds passed.

        Nothing can be started afterwards, here or on this migrator: a run would end at its first checkpoint.
        """
        self._migrator.request_stop(signal.SIGTERM)
        with self._door:  # a start that comes in this moment is either refused, or waited for
            self._closed, thread = True, self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()


def _not_known() -> str | None:
    return None


def _carry_out(work: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(work())
    except Exception as error:  # whoever waits for the future gets it
        future.set_exception(error)
    except BaseException as error:
        # It ended the work, and must not end the server, to which whoever waits would hand it on.
        failure = MigrationSystemError(
            f"The work was ended by {type(error).__name__}, which is for the end of a program. A migration that cannot "
            "go on raises Refused or an error; see `migration status` for where it stands."
        )
        failure.__cause__ = error
        future.set_exception(failure)
