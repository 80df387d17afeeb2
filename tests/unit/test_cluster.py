"""A cluster without its network: the window, what becomes of lost slices, who is turned away, in which words.

The workers here are threads that the test steers; real ones are in `tests/crash/test_cluster.py`.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from system_migration.batching import cluster as cluster_module
from system_migration.batching import cluster_staff, cluster_worker, roll_call
from system_migration.batching.cluster import Cluster
from system_migration.batching.cluster_couriers import IN_HAND
from system_migration.batching.cluster_desk import Desk, Errand
from system_migration.batching.cluster_link import Link, SchedulerLost, Silent
from system_migration.batching.cluster_staff import Listeners
from system_migration.batching.cluster_worker import Orders, versions
from system_migration.batching.processes import Work
from system_migration.batching.slicing import Slicing
from system_migration.batching.transform import Outcome, Task
from system_migration.errors import ConfigurationError, MigrationFailed
from system_migration.records import RunOptions
from system_migration.running.clustering import chosen
from system_migration.settings import Settings
from tests.support.hazards import Hazard

PATIENCE = 20
"""Seconds that no test waits for, unless it is about to fail."""


class Way:
    """A slice on its way to a worker that answers when the test says so."""

    def __init__(self, worker: str, rows: list[tuple[Any, ...]]) -> None:
        self.worker, self.rows, self.arrived = worker, rows, threading.Event()
        self.answer: bytes | None = None

    def reply(self, wanted: Any) -> bytes | None:
        self.arrived.wait(PATIENCE)
        return self.answer if wanted() else None

    def done(self) -> None:
        self.say("done", [{"result": value} for (value,) in self.rows])

    def say(self, kind: str, found: Any) -> None:
        self.answer = pickle.dumps((kind, found))
        self.arrived.set()


class FakeLink:
    """What the pool asks of the scheduler: who is there, and to send slices."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.there: dict[str, int] = {"a": 1, "b": 2}
        self.trouble: dict[str, str] = {}
        self.sent: list[Way] = []
        self.lost = self.left = False

    def workers(self) -> dict[str, int]:
        if self.lost:
            raise SchedulerLost
        return dict(self.there)

    def examine(self, orders: Orders, workers: Mapping[str, int]) -> dict[str, Any]:
        return {each: {"name": each, "versions": versions(), "trouble": self.trouble.get(each)} for each in workers}

    def send(self, worker: str, orders: Orders, threads: int, task: bytes) -> Way:
        way = Way(worker, list(pickle.loads(task).rows))
        self.sent.append(way)
        return way

    def under_way(self, number: int) -> list[Way]:
        """Wait until so many slices were sent that have no answer, and no more."""
        end = time.monotonic() + PATIENCE
        while len(waiting := [way for way in list(self.sent) if not way.arrived.is_set()]) != number:
            assert time.monotonic() < end, len(waiting)
            time.sleep(0.002)
        return waiting

    def leave(self, run: str) -> None:
        self.left = True

    def close(self) -> None: ...


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> Iterator[Cluster]:
    monkeypatch.setattr(cluster_module, "Link", FakeLink)
    monkeypatch.setattr(cluster_staff, "LOOK_SECONDS", 0.01)
    made = Cluster("tcp://x:1", Hazard.name, Work.of(Hazard), Listeners(warn=told.append))
    yield made
    closing = threading.Thread(target=made.close, daemon=True)
    closing.start()
    closing.join(PATIENCE)
    assert not closing.is_alive(), "the cluster does not close"
    assert made._link.left  # type: ignore[attr-defined]


def link_of(cluster: Cluster) -> FakeLink:
    link: Any = cluster._link
    assert isinstance(link, FakeLink)
    return link


def submit(cluster: Cluster, number: int) -> list[Future[list[Outcome]]]:
    return [cluster.submit(Task(("value",), [(n,)])) for n in range(number)]


# The window


def test_no_more_is_under_way_than_two_slices_for_each_thread(opened: Cluster) -> None:
    link, futures = link_of(opened), submit(opened, 20)
    assert opened.size == 3
    first = link.under_way(IN_HAND * 3)
    assert sorted(way.worker for way in first) == ["a"] * 2 + ["b"] * 4
    for done in range(1, 14):
        first[0].done()
        first = link.under_way(IN_HAND * 3)
        assert len(link.sent) == IN_HAND * 3 + done
    assert futures[-1].cancel()  # what waits here can still be called off
    while not all(future.done() for future in futures):
        for way in list(link.sent):
            way.done()
    assert [future.result(PATIENCE) for future in futures[:-1]] == [[{"result": n}] for n in range(19)]
    assert len(link.sent) == 19


def test_closed_it_cancels_what_waits(opened: Cluster) -> None:
    futures = submit(opened, 9)
    link_of(opened).under_way(6)
    opened.close()
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(PATIENCE)
    with pytest.raises(CancelledError):
        opened.submit(Task(("value",), [(1,)])).result(PATIENCE)


# Workers that go, and that come


def test_what_a_lost_worker_had_in_hand_goes_to_another(opened: Cluster, told: list[str]) -> None:
    link, futures = link_of(opened), submit(opened, 6)
    link.under_way(6)
    link.there = {"b": 2}
    for left in (4, 4, 4, 3, 2, 1):  # b's hands are full until there are fewer
        link.under_way(left)[0].done()
    assert [future.result(PATIENCE) for future in futures] == [[{"result": n}] for n in range(6)]
    assert told == ["worker a is lost, 1 left; what it had in hand is computed again (2 slices)"]


def test_a_worker_that_joins_and_cannot_gets_nothing(opened: Cluster, told: list[str]) -> None:
    link = link_of(opened)
    link.trouble["z"] = "it has no key."
    link.there |= {"z": 1}
    end = time.monotonic() + PATIENCE
    while not told:
        assert time.monotonic() < end
        time.sleep(0.002)
    submit(opened, 20)
    assert {way.worker for way in link.under_way(IN_HAND * 3)} == {"a", "b"}
    assert told == ["Worker z cannot work for this run: it has no key. It gets no work."]


def test_a_worker_that_joins_and_can_gets_its_share(opened: Cluster) -> None:
    link = link_of(opened)
    link.there |= {"c": 1}
    submit(opened, 20)
    assert {way.worker for way in link.under_way(IN_HAND * 4)} == {"a", "b", "c"}


def test_a_worker_that_says_it_cannot_gets_no_more_and_costs_nothing(opened: Cluster, told: list[str]) -> None:
    link, (future,) = link_of(opened), submit(opened, 1)
    (way,) = link.under_way(1)
    way.say("unfit", "its code is another one.")
    (again,) = link.under_way(1)
    assert again.worker != way.worker
    again.done()
    assert future.result(PATIENCE) == [{"result": 0}]
    assert told == [f"Worker {way.worker} cannot work any more: its code is another one. It gets no work."]


def test_a_suspect_is_under_way_alone() -> None:
    desk = Desk()
    innocent, suspect = Errand(Task((), [])), Errand(Task((), []), alone=True)
    desk.put(innocent)
    assert desk.take(lambda: True) is innocent
    desk.put(suspect)
    desk.put(Errand(Task((), [])))
    seen: list[Errand | None] = []
    waiting = threading.Thread(target=lambda: seen.append(desk.take(lambda: True)))
    waiting.start()
    waiting.join(0.05)
    assert seen == []  # while the innocent one is under way nobody is sent off
    desk.finish(innocent)
    waiting.join(PATIENCE)
    assert seen == [suspect]
    other = threading.Thread(target=lambda: seen.append(desk.take(lambda: True)))
    other.start()
    other.join(0.05)
    assert seen == [suspect]
    desk.finish(suspect)
    other.join(PATIENCE)
    assert len(seen) == 2


def test_a_lost_scheduler_fails_every_slice(opened: Cluster) -> None:
    futures = submit(opened, 9)
    link_of(opened).under_way(6)
    link_of(opened).lost = True
    for future in futures:
        with pytest.raises(MigrationFailed, match="is lost"):
            future.result(PATIENCE)
    with pytest.raises(MigrationFailed, match="is lost"):
        opened.submit(Task(("value",), [(1,)])).result(PATIENCE)


def test_a_watcher_that_fails_fails_every_slice(opened: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nobody would see any more who is lost, and the run would wait for ever."""
    (future,) = submit(opened, 1)
    link_of(opened).under_way(1)
    monkeypatch.setattr(FakeLink, "workers", lambda self: {}["s3cr3t"])
    with pytest.raises(MigrationFailed, match=r"tcp://x:1 can be watched no more \(KeyError raised at \S+\)\."):
        future.result(PATIENCE)


def test_what_was_lost_with_a_worker_is_cancelled_when_it_is_closed(opened: Cluster) -> None:
    link, (future,) = link_of(opened), submit(opened, 1)
    link.under_way(1)
    link.there = {}
    end = time.monotonic() + PATIENCE
    while not opened._desk._waiting:
        assert time.monotonic() < end, "the slice was not put back"
        time.sleep(0.002)
    opened.close()
    with pytest.raises(CancelledError):
        future.result(PATIENCE)


# Who may work


def answer(**other: Any) -> dict[str, Any]:
    return {"name": "w", "versions": versions(), "trouble": None} | other


@pytest.mark.parametrize(
    ("answered", "trouble"),
    [
        (answer(), None),
        (answer(trouble="KEY is not set."), "KEY is not set."),
        (answer(versions=versions() | {"Python": "3.8"}), "it has Python 3.8, and here is "),
        (answer(versions=versions() | {"system-migration": "0.0.1"}), "it has system-migration 0.0.1, and here is "),
        (ModuleNotFoundError(name="system_migration"), "it has no package system_migration: install the same as here."),
        (Silent(), "it does not answer: stop it, or see whether its machine or setup_worker hangs."),
        (ValueError("s3cr3t"), "it could not be asked (ValueError): install the same there as here."),
    ],
)
def test_the_trouble_with_a_worker(answered: Any, trouble: str | None) -> None:
    found = roll_call.trouble(answered)
    assert found is None if trouble is None else found is not None and found.startswith(trouble)


def test_a_worker_that_left_while_it_was_asked_is_nobodys_trouble() -> None:
    assert roll_call.examined({"tcp://a": OSError("gone")}, {"tcp://a": 1}) == []


def test_who_works_in_a_few_words() -> None:
    assert roll_call.staff([], 0) == "0 workers"
    assert roll_call.staff(["b", "a"], 1) == "2 workers: a, b; 1 lost"
    assert roll_call.staff(list("fedcba"), 0) == "6 workers: a, b, c, d, e, ..."


def test_a_worker_tells_no_text_of_an_error_and_never_raises() -> None:
    """What it raised, it would log, together with the rows."""
    orders = Orders("run", Work.of(Hazard))
    try:
        reply = pickle.loads(cluster_worker.compute(orders, 1, b"no pickle, but s3cr3t"))
        assert reply[0] == "unfit"
        assert "s3cr3t" not in reply[1]
        assert "UnpicklingError" in reply[1]
        task = pickle.dumps(Task(("value",), [("x",), ("exit",)]))
        kind, outcomes = pickle.loads(cluster_worker.compute(orders, 1, task))
        assert (kind, outcomes[0]) == ("done", {"result": "X"})
        assert outcomes[1].code == "worker_died"
    finally:
        cluster_worker.end("run")
    assert not cluster_worker._kept


def test_processes_for_which_nothing_comes_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_worker, "IDLE_SECONDS", 0.05)
    orders = Orders("forgotten", Work.of(Hazard))
    cluster_worker.compute(orders, 1, pickle.dumps(Task(("value",), [("x",)])))
    timer = cluster_worker._kept["forgotten"].idle
    timer.join(PATIENCE)
    assert not cluster_worker._kept


def test_processes_that_are_in_use_are_not_ended_for_being_idle() -> None:
    orders = Orders("busy", Work.of(Hazard))
    with cluster_worker._processes(orders, 1):
        cluster_worker.end("busy", unless_busy=True)
        assert cluster_worker._kept
    cluster_worker.end("busy", unless_busy=True)
    assert not cluster_worker._kept


def test_a_worker_answers_its_scheduler_while_it_ends_the_processes_of_a_run() -> None:
    async def watched() -> bool:
        threading.Timer(1, cluster_worker._lock.release).start()
        leaving = asyncio.create_task(cluster_worker.leave("run"))
        await asyncio.sleep(0.01)
        answers = cluster_worker._lock.locked()
        await leaving
        return answers

    cluster_worker._lock.acquire()  # as if other processes were being prepared
    assert asyncio.run(watched()), "the loop of the worker stood still"


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigurationError, match=r"install system-migration\[dask\], or start without --dask"):
        Link("tcp://127.0.0.1:1")


# Whose wish it is


def test_the_cluster_of_the_settings_is_that_of_every_door_unless_the_start_says_otherwise() -> None:
    settings = Settings(dask_scheduler="tcp://s:1", dask_fallback=True)
    assert chosen(RunOptions(), Settings()) == RunOptions()
    assert chosen(RunOptions(), settings) == RunOptions(dask="tcp://s:1", dask_fallback=True)
    assert chosen(RunOptions(dask="tcp://o:1"), settings) == RunOptions(dask="tcp://o:1", dask_fallback=True)
    assert chosen(RunOptions(processes=2), settings) == RunOptions(processes=2)
    with pytest.raises(ConfigurationError, match="--dask and --processes exclude each other"):
        chosen(RunOptions(dask="tcp://o:1", processes=2), Settings())


def test_a_fallback_from_no_cluster_is_refused_where_the_start_asks_for_it() -> None:
    with pytest.raises(
        ConfigurationError, match="--dask-fallback is for a run on a cluster, and no scheduler is named"
    ):
        chosen(RunOptions(dask_fallback=True), Settings())
    fallback = RunOptions(dask_fallback=True)
    assert chosen(fallback, Settings(dask_scheduler="tcp://s:1")).dask == "tcp://s:1"
    assert chosen(RunOptions(), Settings(dask_fallback=True)).dask is None  # a setting waits for its scheduler


# Slices


def test_slices_of_a_cluster_are_small_until_a_row_was_measured_and_shrink_at_the_end() -> None:
    slicing: Slicing = Cluster.slicing
    sizes = [part.stop - part.start for part in slicing.parts(500, 2, 0.0)]
    assert max(sizes) == 8
    measured = [part.stop - part.start for part in slicing.parts(500, 2, 0.05)]
    assert measured[0] == 10  # half a second
    assert measured == sorted(measured, reverse=True)
    assert measured[-1] == 1
    cheap = [part.stop - part.start for part in slicing.parts(10_000, 2, 1e-6)]
    assert cheap[0] >= 2_500  # not worth more than a few journeys
