"""Rows transformed by the workers of a real Dask scheduler, which die as it pleases them."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from system_migration import BatchMigration, Migrator, Registry, RunOptions, Settings
from system_migration.batching import cluster_couriers, cluster_link, cluster_staff
from system_migration.batching.cluster_link import Link, Sent
from system_migration.errors import ConfigurationError, Interrupted, MigrationFailed, Refused
from system_migration.migration import SilentProgress
from system_migration.records import RunReport
from system_migration.states import Status
from tests.crash.harness import engine_for
from tests.crash.subjects import item, metadata
from tests.support import clustered
from tests.support.clustered import SECRET, SEEN, STEP, Counted, Deadly, Keyed, Plus, SlowKeyed, Tuned
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
        self.name = migration.name
        self.engine, self.watching = engine_for(url), Watching()
        metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            connection.execute(item.insert(), [{"id": n, "origin": n, "y": n} for n in range(1, rows + 1)])
        settings = Settings(environment="crash")
        self.migrator = Migrator(self.engine, Registry([migration]), settings, progress=self.watching)
        self._going: list[Future[list[RunReport]]] = []

    def start(self, **options: Any) -> Future[list[RunReport]]:
        """In a thread that keeps nobody: where a defence is missing it may never end."""
        going: Future[list[RunReport]] = Future()

        def run() -> None:
            try:
                going.set_result(self.migrator.run(None, RunOptions(**options)))
            except BaseException as error:
                going.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        self._going.append(going)
        return going

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

    def lines(self) -> list[str]:
        """The log of its runs, as it is stored."""
        return [line.message for line in self.migrator.logs(self.name)]

    def close(self) -> None:
        assert not wait(self._going, PATIENCE).not_done, "a run does not end"
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


@contextmanager
def suspended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


# Workers that are killed


@pytest.mark.databases("sqlite", "postgresql")
def test_three_workers_killed_lose_nothing_and_double_nothing(
    shared: Cluster, database_url: str, new_job: Callable[..., Job], publish: Callable[[str], None]
) -> None:
    shared.worker("a")
    shared.worker("b")
    shared.wait_for_workers(2)
    job = new_job(database_url, Plus)
    going = job.start(dask=shared.address, batch_size=60)
    for killed, next_one, at in (("a", "c", 30), ("b", "d", 90), ("c", "e", 180)):
        job.watching.wait_for_rows(at)
        job.watching.wait_for(lambda name=killed: name in job.watching.staffs[-1], f"worker {killed}")  # type: ignore[misc]
        shared.worker(next_one)
        shared.kill(killed)
    (report,) = going.result(PATIENCE)
    shared.kill_all()
    assert (report.status, report.issues) == (Status.COMPLETED, 0)
    assert job.wrong() == []
    assert job.watching.staffs[0] == "2 workers: a, b"
    lost = [line for line in job.lines() if "is lost" in line]
    assert len(lost) == 3, job.lines()
    assert lost[0].startswith("worker a is lost, ")
    publish(
        f"cluster on {sa.make_url(database_url).get_backend_name()}: 3 workers killed, {ROWS} rows, 0 lost, 0 doubled"
    )


class Thrice:
    """A slice that three workers compute at once. The last answer counts, so that each of them was given."""

    def __init__(self, sent: list[Sent]) -> None:
        self._sent, self.arrived = sent, sent[-1].arrived

    def reply(self, wanted: Callable[[], bool]) -> bytes | None:
        return [each.reply(wanted) for each in self._sent][-1]


def test_slices_that_are_computed_three_times_at_once_change_each_row_once(
    shared: Cluster, sqlite_url: str, new_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As Dask may do it with any task. What the database saw, a trigger tells; each worker writes what it computed."""
    job, computed = new_job(sqlite_url, Counted, rows=120), tmp_path / "computed"
    with job.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE seen (origin INTEGER)")
        connection.exec_driver_sql(
            "CREATE TRIGGER seeing AFTER UPDATE ON item BEGIN INSERT INTO seen VALUES (NEW.origin); END"
        )
    names = ("a", "b", "c")
    for name in names:
        shared.worker(name, {SEEN: str(computed)})
    shared.wait_for_workers(len(names))
    send = Link.send

    def thrice(self: Link, worker: str, *more: Any) -> Any:
        others = [each for each in self.workers() if each != worker]
        return Thrice([send(self, each, *more) for each in (*others, worker)])

    monkeypatch.setattr(Link, "send", thrice)
    report = job.run(dask=shared.address, batch_size=40)
    shared.kill_all()
    assert (report.status, report.issues) == (Status.COMPLETED, 0)
    times = Counter(int(line) for line in computed.read_text().split())
    assert (len(times), set(times.values())) == (120, {3})
    with job.engine.connect() as connection:
        changed = Counter(connection.exec_driver_sql("SELECT origin FROM seen").scalars())
    assert (len(changed), set(changed.values())) == (120, {1})
    assert job.wrong() == []


def test_a_row_that_ends_its_process_or_its_worker_is_held_and_no_other(
    shared: Cluster, sqlite_url: str, new_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process costs its worker nothing. A worker that goes too is started again, as a nanny does it."""
    monkeypatch.setattr(cluster_couriers, "TOLERATED", 0)
    monkeypatch.setattr(cluster_staff, "LOOK_SECONDS", 0.1)
    job = new_job(sqlite_url, Deadly, rows=4)
    names = iter(f"d{number}" for number in range(99))
    shared.worker(next(names))
    going, end = job.start(dask=shared.address, max_issues=2), time.monotonic() + PATIENCE
    while not going.done():
        assert time.monotonic() < end, f"the row that ends its worker was not found: {job.watching.staffs}"
        for name, worker in list(shared.workers.items()):
            if worker.poll() is not None:
                shared.kill(name)
                shared.worker(next(names))
        time.sleep(0.01)
    assert going.result().pop().issues == 2
    held = {issue.key: issue.code for issue in job.migrator.issues(Deadly.name)}
    assert held == {2: "worker_died", 3: "worker_died"}
    assert [origin for origin, _ in job.wrong()] == [2, 3]
    shared.kill_all()


# A scheduler that is killed, and workers that do not come


def test_a_lost_scheduler_fails_the_run_which_then_goes_on_without_it(
    tmp_path: Path, sqlite_url: str, new_job: Callable[..., Job]
) -> None:
    with own_cluster(tmp_path, "a") as own:
        job = new_job(sqlite_url, Plus)
        going = job.start(dask=own.address, batch_size=20)
        job.watching.wait_for_rows(40)
        own.kill_scheduler()
        with pytest.raises(MigrationFailed, match=r"the Dask scheduler at tcp://\S+ is lost. What is committed stays"):
            going.result(PATIENCE)
    assert job.status is Status.FAILED
    assert 0 < len(job.wrong()) < ROWS
    assert job.run().status is Status.COMPLETED
    assert job.wrong() == []


def test_with_a_fallback_the_run_goes_on_with_its_own_threads_and_says_so(
    tmp_path: Path, sqlite_url: str, new_job: Callable[..., Job]
) -> None:
    with own_cluster(tmp_path, "a") as own:
        job = new_job(sqlite_url, Plus)
        going = job.start(dask=own.address, dask_fallback=True, batch_size=20)
        job.watching.wait_for_rows(40)
        own.kill_scheduler()
        (report,) = going.result(PATIENCE)
    assert report.status is Status.COMPLETED
    assert job.wrong() == []
    assert "threads of this machine, as tcp://" in job.watching.staffs[-1]
    assert any("goes on with" in line for line in job.lines())


def test_without_workers_a_run_waits_and_then_fails(
    shared: Cluster, sqlite_url: str, new_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.worker("only")
    shared.wait_for_workers(1)
    job = new_job(sqlite_url, Plus)
    monkeypatch.setattr(cluster_staff, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(cluster_staff, "LOOK_SECONDS", 0.1)
    going = job.start(dask=shared.address, batch_size=20)
    job.watching.wait_for_rows(20)
    shared.kill("only")
    with pytest.raises(MigrationFailed, match=r"has had no worker for 1 s that can do it\. What is committed"):
        going.result(PATIENCE)
    assert f"waits for a worker of {shared.address}" in job.watching.reasons
    with pytest.raises(Refused, match="has no worker, and none came in 1 s, so nothing was started"):
        job.run(dask=shared.address)


def test_a_wish_to_stop_is_heeded_while_there_is_no_worker(
    shared: Cluster, sqlite_url: str, new_job: Callable[..., Job]
) -> None:
    shared.worker("only")
    job = new_job(sqlite_url, Plus)
    going = job.start(dask=shared.address, batch_size=20)
    job.watching.wait_for_rows(20)
    shared.kill("only")
    job.watching.wait_for(lambda: any(reason.startswith("waits for a worker") for reason in job.watching.reasons), "it")
    job.migrator.request_stop(15)
    with pytest.raises(Interrupted):
        going.result(cluster_staff.PATIENCE_SECONDS / 4)


# Workers that must not work


def test_a_worker_needs_its_key_and_no_database(
    shared: Cluster, sqlite_url: str, new_job: Callable[..., Job], tmp_path: Path
) -> None:
    job, seen = new_job(sqlite_url, Keyed, rows=40), tmp_path / "seen"
    shared.worker("keyless")
    with pytest.raises(Refused, match=f"Worker keyless cannot work for this run: {SECRET} is not set. .* was started"):
        job.run(dask=shared.address)
    assert job.untouched
    shared.kill_all()
    shared.worker("a", {SECRET: "key", SEEN: str(seen)})
    assert job.run(dask=shared.address).status is Status.COMPLETED
    assert job.wrong(lambda origin: origin + 3) == []
    prepared = [line.split() for line in seen.read_text().splitlines()]
    assert len(prepared) == 1  # once in each process, and there is one for each thread
    assert not [name for name in prepared[0] if "DATABASE" in name]
    shared.kill_all()


def test_a_worker_with_another_setting_is_refused(
    shared: Cluster, sqlite_url: str, new_job: Callable[..., Job]
) -> None:
    job = new_job(sqlite_url, Tuned, rows=10)
    shared.worker("other", {STEP: "271828"})
    with pytest.raises(Refused, match=f"Worker other cannot .*: {STEP} must be set as where the run was") as refused:
        job.run(dask=shared.address)
    assert "271828" not in str(refused.value)
    assert job.untouched
    shared.kill_all()
    shared.worker("same")
    assert job.run(dask=shared.address).status is Status.COMPLETED
    assert job.wrong() == []
    shared.kill_all()


def test_a_worker_that_joins_without_the_key_gets_no_work(
    shared: Cluster, sqlite_url: str, new_job: Callable[..., Job]
) -> None:
    job = new_job(sqlite_url, SlowKeyed)
    shared.worker("a", {SECRET: "k"})
    going = job.start(dask=shared.address, batch_size=20)
    job.watching.wait_for_rows(20)
    shared.worker("late")
    assert going.result(PATIENCE).pop().issues == 0
    shared.kill_all()
    assert job.wrong() == []
    assert [line for line in job.lines() if "late cannot work" in line and line.endswith("It gets no work.")]


def test_other_code_on_a_worker_is_refused(
    shared: Cluster, sqlite_url: str, new_job: Callable[..., Job], tmp_path: Path
) -> None:
    other = tmp_path / "tests" / "support"
    other.mkdir(parents=True)
    text = Path(clustered.__file__).read_text(encoding="utf-8")
    (other / "__init__.py").touch()
    (other / "clustered.py").write_text(text.replace("row.y + 1", "row.y + 2"), encoding="utf-8")
    shared.worker("other", folder=tmp_path)
    job = new_job(sqlite_url, Plus, rows=10)
    with pytest.raises(Refused, match=r"Worker other cannot work .* its code there is not the code .* was started"):
        job.run(dask=shared.address)
    assert job.untouched
    shared.kill_all()


def test_what_no_worker_could_import_is_refused(shared: Cluster, sqlite_url: str, new_job: Callable[..., Job]) -> None:
    class Local(Plus):
        name = "001-local"

    job = new_job(sqlite_url, Local, rows=10)
    with pytest.raises(Refused, match=r"class Local is defined inside a function\. Put it into a module"):
        job.run(dask=shared.address)
    assert job.untouched


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        (
            "tcp://127.0.0.1:1",
            Refused,
            "No Dask scheduler answers at tcp://127.0.0.1:1 (Connection refused), so nothing",
        ),
        (
            "http://127.0.0.1:1",
            ConfigurationError,
            "is no address of a Dask scheduler. Give one such as tcp://host:8786",
        ),
        ("127.0.0.1", ConfigurationError, "is no address of a Dask scheduler"),
    ],
)
def test_a_scheduler_that_does_not_answer_is_refused(
    sqlite_url: str, new_job: Callable[..., Job], address: str, error: type[Exception], words: str
) -> None:
    job = new_job(sqlite_url, Plus, rows=10)
    with pytest.raises(error, match=re.escape(words)):
        job.run(dask=address)
    assert job.untouched


def test_what_accepts_connections_and_says_nothing_keeps_no_start(
    shared: Cluster, sqlite_url: str, new_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that swaps, or is suspended: first the scheduler, then one worker of two."""
    job = new_job(sqlite_url, Plus, rows=10)
    monkeypatch.setattr(cluster_link, "CONNECT_SECONDS", 0.5)
    with (
        suspended(shared.scheduler),
        pytest.raises(Refused, match=r"No Dask scheduler .* \(TimeoutError\), so nothing"),
    ):
        job.run(dask=shared.address)
    monkeypatch.undo()
    shared.worker("good")
    shared.worker("silent")
    shared.wait_for_workers(2)
    monkeypatch.setattr(cluster_link, "EXAMINE_SECONDS", 2.0)
    with suspended(shared.workers["silent"]), pytest.raises(Refused) as refused:
        job.run(dask=shared.address)
    assert str(refused.value).count("cannot work for this run: ") == 1
    assert "it does not answer" in str(refused.value)
    assert job.untouched
    shared.kill_all()


def test_processes_and_a_cluster_exclude_each_other(sqlite_url: str, new_job: Callable[..., Job]) -> None:
    job = new_job(sqlite_url, Plus, rows=10)
    with pytest.raises(ConfigurationError, match="--dask and --processes exclude each other"):
        job.run(dask="tcp://127.0.0.1:1", processes=2)


def test_a_dry_run_uses_the_cluster_and_changes_nothing(
    shared: Cluster, sqlite_url: str, new_job: Callable[..., Job]
) -> None:
    job = new_job(sqlite_url, Keyed, rows=10)  # this process has no key
    shared.worker("a", {SECRET: "key"})
    (report,) = job.migrator.dry_run(options=RunOptions(dask=shared.address))
    assert (report.would_change, report.refusal, report.error) == (10, None, None)
    assert job.untouched
    shared.kill_all()
