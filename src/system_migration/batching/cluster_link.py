"""All that is said to Dask: one client, of one scheduler, for one run. `distributed` is imported when one is opened."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import Any

from system_migration.batching import cluster_worker
from system_migration.batching.cluster_worker import Orders
from system_migration.errors import ConfigurationError, Refused

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 20.0
"""A scheduler that is silent for so long is as good as lost."""
_LOOK_SECONDS = 0.5
_LEAVE_SECONDS = 5.0


class SchedulerLost(Exception):
    """The scheduler does not answer any more."""


class Sent:
    """A slice on its way. `arrived` is set when there is an answer, and may be set by who gives up."""

    def __init__(self, future: Any) -> None:
        self._future, self.arrived = future, threading.Event()
        future.add_done_callback(lambda _: self.arrived.set())

    def reply(self, wanted: Callable[[], bool]) -> bytes | None:
        """What the worker answered; None when it is lost, or nobody wants it any more. Forgotten at once."""
        from distributed import KilledWorker

        self.arrived.wait()
        try:
            while wanted():
                # An answer may be lost between its end and its way here: then it never comes.
                with suppress(TimeoutError):
                    found: bytes = self._future.result(timeout=_LOOK_SECONDS)
                    return found
        except (CancelledError, KilledWorker, OSError, RuntimeError):
            pass  # what became of it, the next look at the workers tells
        finally:
            self._future.release()
        return None


class Link:
    """A connection to the scheduler at `address`.

    Raises `ConfigurationError` without the extra, and for what is no address; `Refused` when no scheduler answers.
    """

    def __init__(self, address: str) -> None:
        try:
            import distributed
        except ImportError:
            raise ConfigurationError(
                "--dask needs the package distributed: install system-migration[dask], or start without --dask."
            ) from None
        self.address = address
        _knock(address)
        try:
            # `set_as_default` would make every dask call of the host ours.
            client: Any = distributed.Client  # of its methods, many have no types
            self._client = client(address, set_as_default=False, timeout=CONNECT_SECONDS, name="system-migration")
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise _no_scheduler(address, type(error).__name__) from None

    def workers(self) -> dict[str, int]:
        """The address of every worker, and its threads. Raises `SchedulerLost`."""
        if self._client.status != "running":
            raise SchedulerLost
        try:
            found: dict[str, int] = self._client.sync(self._client.scheduler.ncores, callback_timeout=ANSWER_SECONDS)
        except (OSError, RuntimeError, AttributeError, CancelledError):
            raise SchedulerLost from None
        return dict(found)

    def examine(self, orders: Orders, workers: Mapping[str, int]) -> dict[str, dict[str, Any] | BaseException]:
        """What each of these workers answers to `cluster_worker.examine`, or the error that kept it from answering."""
        answers: dict[str, dict[str, Any] | BaseException] = {}
        for threads in set(workers.values()):
            alike = [address for address, own in workers.items() if own == threads]
            try:
                answers |= self._client.run(cluster_worker.examine, orders, threads, workers=alike, on_error="return")
            except Exception as error:
                answers |= dict.fromkeys(alike, error)
        return answers

    def send(self, worker: str, orders: Orders, threads: int, task: bytes) -> Sent:
        """Have one worker, and no other, compute a slice."""
        future = self._client.submit(
            cluster_worker.compute, orders, threads, task, workers=[worker], allow_other_workers=False, pure=False
        )
        return Sent(future)

    def leave(self, run: str) -> None:
        """Have the workers end the processes of the run. What cannot be told ends by itself a little later."""
        if self._client.status != "running":
            return
        with suppress(Exception):
            self._client.sync(
                self._client._run, cluster_worker.leave, run, on_error="ignore", callback_timeout=_LEAVE_SECONDS
            )

    def close(self) -> None:
        """Leave the scheduler; it forgets what was not read."""
        with suppress(Exception), _no_last_words():
            self._client.close(timeout=_LEAVE_SECONDS)


def _knock(address: str) -> None:
    """Raise why no client of this address could be made: one that fails half-way keeps its thread, and its temper."""
    parts = re.fullmatch(r"(?:tcp|tls)://\[?([^/\s@]+?)\]?:(\d{1,5})", address)
    if parts is None or int(parts[2]) > 65_535:
        raise ConfigurationError(
            f"{address!r} is no address of a Dask scheduler. Give one such as tcp://host:8786, or tls://host:8786."
        )
    try:
        socket.create_connection((parts[1], int(parts[2])), CONNECT_SECONDS).close()
    except OSError as error:
        raise _no_scheduler(address, error.strerror or type(error).__name__) from None


def _no_scheduler(address: str, reason: str) -> Refused:
    return Refused(
        f"No Dask scheduler answers at {address} ({reason}), so nothing was started. Start one, or start without "
        "--dask."
    )


@contextmanager
def _no_last_words() -> Iterator[None]:
    """Without what a client logs that is closed while it looks for a lost scheduler: the traceback of that."""
    logger, silent = logging.getLogger("distributed.client"), lambda record: False
    logger.addFilter(silent)
    try:
        yield
    finally:
        logger.removeFilter(silent)
