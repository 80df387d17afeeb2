"""When the rows of a run are transformed by a cluster: whose wish it is, who hears of it, and for how long it lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from system_migration.batch_migration import BatchMigration
from system_migration.batching.crew import usable_cores
from system_migration.batching.executors import Inline, Pool, ThreadPool
from system_migration.batching.processes import Work
from system_migration.batching.transform import Outcome, Task
from system_migration.errors import ConfigurationError, LoadError, Refused
from system_migration.migration import Migration
from system_migration.records import RunOptions
from system_migration.running.contexts import heed_stop
from system_migration.running.run_log import RunLog
from system_migration.running.workspace import Workspace
from system_migration.settings import Settings

if TYPE_CHECKING:
    from system_migration.batching.cluster import Cluster


def chosen(options: RunOptions, settings: Settings) -> RunOptions:
    """The options with the cluster of the settings, if they name neither a cluster nor processes.

    Raises `ConfigurationError` for both, and for a start with a fallback from no cluster.
    """
    if options.dask and options.processes:
        raise ConfigurationError("--dask and --processes exclude each other: leave one of them out.")
    if options.processes:
        return options
    address = options.dask or settings.dask_scheduler
    if options.dask_fallback and address is None:
        raise ConfigurationError(
            "--dask-fallback is for a run on a cluster, and no scheduler is named. Give --dask ADDRESS or set "
            "DASK_SCHEDULER, or leave it out."
        )
    return replace(options, dask=address, dask_fallback=options.dask_fallback or settings.dask_fallback)


@contextmanager
def cluster(
    workspace: Workspace, migration: type[Migration], options: RunOptions, log: RunLog
) -> Iterator[Cluster | None]:
    """The cluster that transforms the rows within the block; None where nobody wants one, or there is no `transform`.

    Raises `ConfigurationError` or `Refused` before anything is written.
    """
    if options.dask is None or not issubclass(migration, BatchMigration) or not migration.defines("transform"):
        yield None
        return
    opened = _opened(workspace, migration, options, options.dask, log)
    try:
        yield opened
    finally:
        opened.close()


def _opened(
    workspace: Workspace, migration: type[BatchMigration], options: RunOptions, address: str, log: RunLog
) -> Cluster:
    from system_migration.batching.cluster import Cluster
    from system_migration.batching.cluster_staff import Listeners

    workspace.progress.phase(migration.name, "joining the cluster")
    try:
        work = Work.of(migration)
    except LoadError as error:
        raise Refused(str(error)) from error
    locally: Callable[[], Pool] | None = (lambda: OwnThreads(migration)) if options.dask_fallback else None
    listeners = Listeners(
        inform=lambda text: log.info("%s", text),
        warn=lambda text: log.warning("%s", text),
        staff=workspace.progress.staff,
        waiting=workspace.progress.waiting,
        heed=lambda: heed_stop(workspace),
    )
    return Cluster(address, migration.name, work, listeners, locally)


class OwnThreads:
    """The threads of this machine, as a pool that needs nothing else: what goes on when a cluster is lost."""

    def __init__(self, migration: type[BatchMigration]) -> None:
        self._inline = Inline(migration)
        self._threads = ThreadPool(self._inline, usable_cores())
        self.size, self.slicing = self._threads.size, self._threads.slicing

    def submit(self, task: Task) -> Future[list[Outcome]]:
        """The outcomes of a slice, in time."""
        return self._threads.submit(task)

    def close(self) -> None:
        """Wait for the slices that have begun."""
        self._threads.close()
        self._inline.close()
