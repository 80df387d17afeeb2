"""Handing rows out to threads: every row once, in order, by as many threads as help, each prepared once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from system_migration.batch_migration import BatchMigration, Row
from system_migration.batching import executors
from system_migration.batching.executors import Transformer
from system_migration.batching.slicing import slices

PATIENCE = 20
"""Seconds that no test waits for, unless it is about to fail."""

Make = Callable[..., Transformer]


class Doubling(BatchMigration):
    name = "001-doubling"
    table = "numbers"
    reads = ("value",)
    writes = ("doubled",)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"doubled": row.value * 2}


def numbers(count: int) -> list[tuple[int]]:
    return [(number,) for number in range(count)]


@pytest.fixture
def make() -> Iterator[Make]:
    opened: list[Transformer] = []

    def made(migration: type[BatchMigration], threads: int) -> Transformer:
        opened.append(Transformer(migration, threads))
        return opened[-1]

    yield made
    for transformer in opened:
        transformer.close()


@pytest.fixture
def hand_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calling thread does one row itself."""
    monkeypatch.setattr(executors, "INLINE_SECONDS", 0)


# Slices


@given(st.integers(0, 3000), st.integers(1, 64))
def test_slices_cover_every_row_once_and_end_small(count: int, workers: int) -> None:
    parts = list(slices(count, workers))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(count))
    sizes = [part.stop - part.start for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert all(size <= max(1, (count - part.start) / (2 * workers)) for size, part in zip(sizes, parts, strict=True))
    assert sizes[-1:] == ([1] if count else [])


def test_slices_are_fewer_than_rows() -> None:
    assert len(list(slices(1000, 2))) < 50


@given(st.integers(1, 3000), st.integers(1, 64), st.integers(1, 200))
def test_no_slice_but_the_last_is_smaller_than_is_worth_it(count: int, workers: int, smallest: int) -> None:
    parts = list(slices(count, workers, smallest))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(count))
    assert all(part.stop - part.start >= smallest for part in parts[:-1])


# The calling thread, and those that help it


class Noting(Doubling):
    """Says which thread did which row."""

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"doubled": threading.get_ident()}


def test_quick_rows_are_done_by_the_calling_thread(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "INLINE_SECONDS", PATIENCE)
    finished: list[int] = []
    outcomes = make(Noting, 4).run(("value",), numbers(3000), finished.append)
    assert outcomes == [{"doubled": threading.get_ident()}] * 3000
    assert sum(finished) == 3000


@pytest.mark.usefixtures("hand_over_at_once")
def test_with_one_thread_nobody_helps(make: Make) -> None:
    assert make(Noting, 1).run(("value",), numbers(9)) == [{"doubled": threading.get_ident()}] * 9


def test_slow_rows_are_shared_out_once_the_time_is_over(make: Make) -> None:
    class Slow(Noting):
        def transform(self, row: Row) -> Mapping[str, Any]:
            end = time.monotonic() + executors.INLINE_SECONDS
            while time.monotonic() < end:
                pass
            return super().transform(row)

    outcomes = make(Slow, 3).run(("value",), numbers(10))
    threads = [outcome["doubled"] for outcome in outcomes if isinstance(outcome, dict)]
    assert threads[0] == threading.get_ident()
    assert threading.get_ident() not in threads[1:]
    assert len(threads) == 10


@pytest.mark.usefixtures("hand_over_at_once")
def test_outcomes_keep_the_order_of_the_rows_whoever_finishes_first(make: Make) -> None:
    last_row_done = threading.Event()

    class Backwards(Doubling):
        def transform(self, row: Row) -> Mapping[str, Any]:
            if row.value == 1:
                assert last_row_done.wait(PATIENCE)
            elif row.value == 199:
                last_row_done.set()
            return {"doubled": row.value * 2}

    finished: list[int] = []
    outcomes = make(Backwards, 2).run(("value",), numbers(200), finished.append)
    assert outcomes == [{"doubled": number * 2} for number in range(200)]
    assert sum(finished) == 200


@pytest.mark.usefixtures("hand_over_at_once")
def test_many_callers_share_the_threads_and_each_gets_its_own_rows(make: Make) -> None:
    transformer = make(Doubling, 2)

    def call(caller: int) -> bool:
        rows = [(caller * 1000 + number,) for number in range(300)]
        return transformer.run(("value",), rows) == [{"doubled": value * 2} for (value,) in rows]

    with ThreadPoolExecutor(4) as callers:
        assert all(callers.map(call, range(40)))


def test_no_rows_have_no_outcomes(make: Make) -> None:
    assert make(Doubling, 2).run(("value",), []) == []


# Workers


class Prepared(Doubling):
    """Counts on itself which thread prepared it; each test uses a subclass of its own."""

    setups: ClassVar[list[int]]
    all_there: ClassVar[threading.Barrier]

    def setup_worker(self) -> None:
        self.setups.append(threading.get_ident())
        self.thread = threading.get_ident()

    def transform(self, row: Row) -> Mapping[str, Any]:
        if 0 < row.value <= self.all_there.parties:
            self.all_there.wait(PATIENCE)  # until every worker has a row, so that each gets a share
        return {"doubled": self.thread == threading.get_ident()}


@pytest.mark.usefixtures("hand_over_at_once")
def test_each_thread_prepares_its_own_instance_once(make: Make) -> None:
    class Three(Prepared):
        setups: ClassVar[list[int]] = []
        all_there = threading.Barrier(3)

    transformer = make(Three, 3)
    assert transformer.run(("value",), numbers(4)) == [{"doubled": True}] * 4
    for _ in range(3):
        assert transformer.run(("value",), numbers(100)[4:]) == [{"doubled": True}] * 96
    assert len(Three.setups) == len(set(Three.setups)) == 4  # the calling thread, too


def test_nothing_of_one_run_is_left_for_the_next(make: Make) -> None:
    class Once(Prepared):
        setups: ClassVar[list[int]] = []
        all_there = threading.Barrier(1)

    for _ in range(2):
        make(Once, 1).run(("value",), numbers(2))
    assert len(Once.setups) == 2


@pytest.mark.parametrize("threads", [1, 2])
def test_a_worker_that_cannot_be_prepared_stops_the_run(make: Make, threads: int) -> None:
    class Unprepared(Doubling):
        def setup_worker(self) -> None:
            raise RuntimeError("no key")

    with pytest.raises(RuntimeError, match="no key"):
        make(Unprepared, threads).run(("value",), [(1,), (2,)])


@pytest.mark.usefixtures("hand_over_at_once")
def test_closing_finishes_what_has_begun_and_cancels_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, cancelled = threading.Event(), threading.Event()
    ended: list[int] = []

    class Closing(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            cancelled.set()
            super().shutdown(wait=wait)

    class Waiting(Doubling):
        def transform(self, row: Row) -> Mapping[str, Any]:
            if row.value > 0:
                begun.set()
                assert cancelled.wait(PATIENCE)
                ended.append(row.value)
            return {"doubled": 0}

    monkeypatch.setattr(executors, "ThreadPoolExecutor", Closing)
    transformer = Transformer(Waiting, 2)
    with ThreadPoolExecutor(1) as caller:
        run = caller.submit(transformer.run, ("value",), numbers(100))
        assert begun.wait(PATIENCE)
        transformer.close()
        assert 0 < len(ended) < 100
        assert isinstance(run.exception(PATIENCE), CancelledError)


def test_nothing_is_handed_to_a_transformer_that_was_closed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closing(Doubling):
        transformer: ClassVar[Transformer]

        def transform(self, row: Row) -> Mapping[str, Any]:
            self.transformer.close()
            return {"doubled": 0}

    monkeypatch.setattr(executors, "INLINE_SECONDS", 0)
    Closing.transformer = Transformer(Closing, 2)
    with pytest.raises(CancelledError):
        Closing.transformer.run(("value",), numbers(5))


def test_slow_rows_after_many_quick_ones_are_soon_noticed(make: Make) -> None:
    class Uneven(Noting):
        def transform(self, row: Row) -> Mapping[str, Any]:
            end = time.monotonic() + executors.INLINE_SECONDS
            while row.value >= 1000 and time.monotonic() < end:
                pass
            return super().transform(row)

    outcomes = make(Uneven, 2).run(("value",), numbers(1030))
    assert {"doubled": threading.get_ident()} not in outcomes[1000 + executors._LOOK_EVERY :]


def test_when_its_time_is_over_it_returns_what_there_is_in_order(make: Make) -> None:
    """In the calling thread alone, and from a pool, which drops the slices that have not begun."""

    class Sluggish(Doubling):
        def transform(self, row: Row) -> Mapping[str, Any]:
            time.sleep(0.03)
            return super().transform(row)

    for threads in (1, 2):
        outcomes = make(Sluggish, threads).run(("value",), numbers(200), seconds=0.3)
        assert 0 < len(outcomes) < 200
        assert outcomes == [{"doubled": 2 * value} for value in range(len(outcomes))]


# Slow rows


def test_a_row_that_takes_too_long_is_reported_once_while_it_is_at_it(make: Make) -> None:
    reported = threading.Event()
    records: list[logging.LogRecord] = []

    class Tell(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)
            reported.set()

    class Hanging(Doubling):
        row_seconds = 0.02

        def transform(self, row: Row) -> Mapping[str, Any]:
            assert reported.wait(PATIENCE)
            return {"doubled": row.value}

    logger = logging.getLogger("system_migration.batching.slow_rows")
    handler = Tell()
    logger.addHandler(handler)
    try:
        assert make(Hanging, 1).run(("value",), [(314159,), (2,)]) == [{"doubled": 314159}, {"doubled": 2}]
    finally:
        logger.removeHandler(handler)
    (record,) = records
    assert "001-doubling: a row has been transformed for" in record.getMessage()
    assert "--processes" in record.getMessage()
    assert "314159" not in record.getMessage()


def test_quick_rows_are_not_reported(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    class Quick(Doubling):
        row_seconds = PATIENCE

    make(Quick, 1).run(("value",), numbers(100))
    assert caplog.records == []
