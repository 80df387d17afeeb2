"""Rows transformed by the workers of a real Dask scheduler, which die as it pleases them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from system_migration import BatchMigration, Migrator, Registry, RunOptions, Settings
from system_migration.batching import cluster
from system_migration.errors import ConfigurationError, Interrupted, MigrationFailed, Refused
from system_migration.migration import SilentProgress
from system_migration.records import RunReport
from system_migration.states import Status
from tests.crash.harness import engine_for
from tests.crash.subjects import item, metadata
from tests.support.clustered import SECRET, SEEN, Deadly, Keyed, Plus
from tests.support.clusters import PATIENCE, Cluster

ROWS = 300


class Watching(SilentProgress):
    """Lets a test wait for what a run says."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self.done, self.reasons, self.staffs = 0, list[str](), list[str]()

    def rows(self, done: int, total: int | None, held: int) -> None:
        with self._turn:
            self.done = done
            self._turn.notify_all()

    def waiting(self, reason: str) -> None:
        with self._turn:
            self.reasons.append(reason)
            self._turn.notify_all()

    def staff(self, text: str) -> None:
        with self._turn:
            self.staffs.append(text)
            self._turn.notify_all()

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        with self._turn:
            assert self._turn.wait_for(condition, PATIENCE), f"waited in vain for {what}: {self.staffs}"

    def wait_for_rows(self, number: int) -> None:
        self.wait_for(lambda: self.done >= number, f"{number} rows")


class Job:
    """A run in a thread, on a table of items."""

    def __init__(self, url: str, migration: type[BatchMigration], rows: int = ROWS) -> None:
        self.engine, self.watching = engine_for(url), Watching()
        metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            connection.execute(item.insert(), [{"id": n, "origin": n, "y": n} for n in range(1, rows + 1)])
        settings = Settings(environment="crash")
        self.migrator = Migrator(self.engine, Registry([migration]), settings, progress=self.watching)
        self._thread = ThreadPoolExecutor(1)

    def start(self, **options: Any) -> Future[list[RunReport]]:
        return self._thread.submit(self.migrator.run, None, RunOptions(**options))

    def run(self, **options: Any) -> RunReport:
        (report,) = self.start(**options).result(PATIENCE)
        return report

    def wrong(self, expected: Callable[[int], int] = lambda origin: origin + 1) -> list[tuple[int, int]]:
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(item.c.origin, item.c.y)).all()
        return [(origin, y) for origin, y in rows if y != expected(origin)]

    @property
    def untouched(self) -> bool:
        return not self.wrong(lambda origin: origin)

    @property
    def status(self) -> Status:
        (status,) = self.migrator.status().migrations
        return status.status

    def close(self) -> None:
        self._thread.shutdown()
        self.migrator.close()
        self.engine.dispose()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One scheduler; a test leaves the workers it has started to the next one, or kills them."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def new_job() -> Iterator[Callable[..., Job]]:
    made: list[Job] = []

    def make(*arguments: Any, **more: Any) -> Job:
        made.append(Job(*arguments, **more))
        return made[-1]

    yield make
    for job in made:
        job.close()


@contextmanager
def own_cluster(folder: Path, *workers: str) -> Iterator[Cluster]:
    with Cluster(folder) as made:
        for name in workers:
            made.worker(name)
        yield made


# Workers that are killed


@pytest.mark.databases("sqlite", "postgresql")
def test_three_workers_killed_lose_nothing_and_double_nothing(
    shared: Cluster, database_url: str, new_job: Callable[..., Job], publish: Callable[[str], None]
) -> None:
    shared.worker("a"), shared.worker("b")
    job = new_job(database_url, Plus)
    going = job.start(dask=shared.address, batch_size=60)
    for killed, next_one, at in (("a", "c", 30), ("b", "d", 90), ("c", "e", 180)):
        job.watching.wait_for_rows(at)
        job.watching.wait_for(lambda name=killed: name in job.watching.staffs[-1], f"worker {killed}")  # type: ignore[misc]
        shared.worker(next_one)
        shared.kill(killed)
    (report,) = going.result(PATIENCE)
    shared.kill_all()
    assert (report.status, report.verified, report.held) == (Status.COMPLETED, False, 0)
    assert job.wrong() == []
    assert job.watching.staffs[0] == "2 workers: a, b"
    log = [line.message for line in job.migrator.logs(Plus.name).lines]
    lost = [line for line in log if "is lost" in line]
    assert len(lost) == 3, log
    assert lost[0].startswith("worker a is lost, ")
    publish(f"cluster on {sa.make_url(database_url).get_backend_name()}: 3 workers killed, {ROWS} rows, 0 lost, 0 doubled")
