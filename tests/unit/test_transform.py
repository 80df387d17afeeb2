"""Transforms on an executor: every row once, in order, and nothing of a row in what is said about it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from system_migration.batch_migration import BatchMigration, Row, RowIssue
from system_migration.batching.transform import (
    TRANSFORM_ERROR,
    Held,
    Outcome,
    Task,
    Transformer,
    slices,
    transform_slice,
)

PATIENCE = 20
"""Seconds that no test waits for, unless it is about to fail."""


class Doubling(BatchMigration):
    name = "001-doubling"
    table = "numbers"
    reads = ("value",)
    writes = ("doubled",)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"doubled": row.value * 2}


def outcome_of(migration: type[BatchMigration], *values: Any) -> Outcome:
    (outcome,) = transform_slice(Task(migration, migration.reads, [values]))
    return outcome


@pytest.fixture
def executors() -> Iterator[list[Transformer]]:
    opened: list[Transformer] = []
    yield opened
    for transformer in opened:
        transformer.close()


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


# One row


def test_a_row_gives_its_new_values() -> None:
    assert outcome_of(Doubling, 21) == {"doubled": 42}


def test_a_row_issue_holds_the_row_with_its_code_and_message() -> None:
    class Declining(Doubling):
        def transform(self, row: Row) -> Mapping[str, Any]:
            raise RowIssue("too_long", "It has more than 72 bytes.")

    assert outcome_of(Declining, 1) == Held("too_long", "It has more than 72 bytes.")


def test_an_unexpected_error_holds_the_row_and_its_text_stays_out() -> None:
    class Failing(Doubling):
        def transform(self, row: Row) -> Mapping[str, Any]:
            raise ValueError(f"cannot read {row.value}")

    held = outcome_of(Failing, "s3cr3t")
    assert isinstance(held, Held)
    assert held.code == TRANSFORM_ERROR == "transform_error"
    assert re.fullmatch(r"ValueError raised at test_transform\.py:\d+", held.message)


@pytest.mark.parametrize("by_item", [False, True])
def test_reading_an_undeclared_column_holds_the_row(by_item: bool) -> None:
    class Reading(Doubling):
        def transform(self, row: Row) -> Mapping[str, Any]:
            return {"doubled": row["other"] if by_item else row.other}

    held = outcome_of(Reading, "s3cr3t")
    assert isinstance(held, Held)
    assert held.code == TRANSFORM_ERROR
    assert "s3cr3t" not in held.message


def test_writing_an_undeclared_column_holds_the_row_without_quoting_it() -> None:
    class Writing(Doubling):
        def transform(self, row: Row) -> Mapping[str, Any]:
            return {"doubled": "s3cr3t", "tripled": "s3cr3t"}

    assert outcome_of(Writing, 1) == Held(
        TRANSFORM_ERROR, "transform returned more than the columns declared in writes: doubled"
    )


def test_a_transform_that_returns_nothing_holds_the_row() -> None:
    class Forgetful(Doubling):
        def transform(self, row: Row) -> Mapping[str, Any]:
            return None  # type: ignore[return-value]

    held = outcome_of(Forgetful, 1)
    assert isinstance(held, Held)
    assert held.code == TRANSFORM_ERROR


def test_a_bad_row_leaves_its_neighbours_alone() -> None:
    outcomes = transform_slice(Task(Doubling, ("value",), [(1,), (None,), (3,)]))
    assert outcomes[0::2] == [{"doubled": 2}, {"doubled": 6}]
    assert isinstance(outcomes[1], Held)


# Many rows on many threads


def test_outcomes_keep_the_order_of_the_rows_whoever_finishes_first(executors: list[Transformer]) -> None:
    last_row_done = threading.Event()

    class Backwards(Doubling):
        def transform(self, row: Row) -> Mapping[str, Any]:
            if row.value == 0:
                assert last_row_done.wait(PATIENCE)
            elif row.value == 199:
                last_row_done.set()
            return {"doubled": row.value * 2}

    executors.append(Transformer(Backwards, workers=2))
    finished: list[int] = []
    outcomes = executors[0].run(("value",), [(number,) for number in range(200)], finished.append)
    assert outcomes == [{"doubled": number * 2} for number in range(200)]
    assert sum(finished) == 200
    assert finished != [part.stop - part.start for part in slices(200, 2)]  # the first slice came in last


def test_no_rows_have_no_outcomes(executors: list[Transformer]) -> None:
    executors.append(Transformer(Doubling, workers=2))
    assert executors[0].run(("value",), []) == []


def test_a_given_executor_does_the_work() -> None:
    submitted: list[Task] = []

    class Recording(ThreadPoolExecutor):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            submitted.extend(args)
            return super().submit(function, *args, **kwargs)

    with Recording(1) as executor:
        outcomes = Transformer(Doubling, workers=1, executor=executor).run(("value",), [(1,), (2,), (3,)])
    assert outcomes == [{"doubled": 2}, {"doubled": 4}, {"doubled": 6}]
    assert [row for task in submitted for row in task.rows] == [(1,), (2,), (3,)]


# Workers


class Prepared(Doubling):
    """Counts on itself which thread prepared it; each test uses a subclass of its own."""

    setups: ClassVar[list[int]]
    all_there: ClassVar[threading.Barrier]

    def setup_worker(self) -> None:
        self.setups.append(threading.get_ident())
        self.all_there.wait(PATIENCE)  # until every worker has been here, so that each gets a share
        self.thread = threading.get_ident()

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"doubled": self.thread == threading.get_ident()}


def test_each_worker_prepares_its_own_instance_once(executors: list[Transformer]) -> None:
    class Four(Prepared):
        setups: ClassVar[list[int]] = []
        all_there = threading.Barrier(4)

    executors.append(Transformer(Four, workers=4))
    for _ in range(3):
        outcomes = executors[0].run(("value",), [(number,) for number in range(100)])
        assert outcomes == [{"doubled": True}] * 100
    assert len(Four.setups) == len(set(Four.setups)) == 4


def test_two_migrations_on_one_thread_are_each_prepared() -> None:
    class First(Prepared):
        setups: ClassVar[list[int]] = []
        all_there = threading.Barrier(1)

    class Second(First):
        setups: ClassVar[list[int]] = []

    assert [outcome_of(migration, 1) for migration in (First, Second, First)] == [{"doubled": True}] * 3
    assert (len(First.setups), len(Second.setups)) == (1, 1)


def test_a_worker_that_cannot_be_prepared_stops_the_run(executors: list[Transformer]) -> None:
    class Unprepared(Doubling):
        def setup_worker(self) -> None:
            raise RuntimeError("no key")

    executors.append(Transformer(Unprepared, workers=2))
    with pytest.raises(RuntimeError, match="no key"):
        executors[0].run(("value",), [(1,), (2,)])


def test_closing_finishes_what_has_begun_and_drops_the_rest() -> None:
    closing = threading.Event()

    class Closing(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            closing.set()
            super().shutdown(wait=wait)

    executor = Closing(1)
    begun = executor.submit(closing.wait, PATIENCE)
    waiting = executor.submit(closing.is_set)
    Transformer(Doubling, workers=1, executor=executor).close()
    assert begun.done()
    assert waiting.cancelled()
