"""One row after another: its new values or why it is held, and nothing of a row in what is said about it."""

from __future__ import annotations

import re
from collections import UserDict
from collections.abc import Mapping
from typing import Any

import pytest

from system_migration.batch_migration import BatchMigration, Row, RowIssue
from system_migration.batching.transform import TRANSFORM_ERROR, Held, Outcome, prepared, transform_rows


class Doubling(BatchMigration):
    name = "001-doubling"
    table = "numbers"
    reads = ("value",)
    writes = ("doubled",)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"doubled": row.value * 2}


def outcome_of(migration: type[BatchMigration], *values: Any) -> Outcome:
    (outcome,) = transform_rows(prepared(migration), migration.reads, [values])
    return outcome


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
    outcomes = transform_rows(Doubling(), ("value",), [(1,), (None,), (3,)])
    assert outcomes[0::2] == [{"doubled": 2}, {"doubled": 6}]
    assert isinstance(outcomes[1], Held)


def test_fewer_columns_than_declared_are_left_as_they_are() -> None:
    class Sparing(Doubling):
        writes = ("doubled", "tripled")

    assert outcome_of(Sparing, 1) == {"doubled": 2}


def test_any_mapping_will_do_and_becomes_a_dict() -> None:
    class Wrapping(Doubling):
        def transform(self, row: Row) -> Mapping[str, Any]:
            return UserDict(doubled=row.value)

    assert type(outcome_of(Wrapping, 1)) is dict
    assert outcome_of(Wrapping, 1) == {"doubled": 1}


def test_a_migration_that_reuses_its_dict_gives_every_row_its_own_values() -> None:
    class Reusing(Doubling):
        def setup_worker(self) -> None:
            self.values: dict[str, Any] = {}

        def transform(self, row: Row) -> Mapping[str, Any]:
            self.values["doubled"] = row.value * 2
            return self.values

    outcomes = transform_rows(prepared(Reusing), ("value",), [(1,), (2,)])
    assert outcomes == [{"doubled": 2}, {"doubled": 4}]


@pytest.mark.parametrize("error", [SystemExit, MemoryError, RecursionError])
def test_no_error_of_a_row_ends_its_worker(error: type[BaseException]) -> None:
    class Ending(Doubling):
        def transform(self, row: Row) -> Mapping[str, Any]:
            raise error

    held = outcome_of(Ending, 1)
    assert isinstance(held, Held)
    assert held.message.startswith(f"{error.__name__} raised at test_transform.py:")


def test_a_worker_may_choose_to_end_when_its_memory_does() -> None:
    class Exhausted(Exception):
        pass

    class Greedy(Doubling):
        def transform(self, row: Row) -> Mapping[str, Any]:
            raise MemoryError

    def end() -> None:
        raise Exhausted

    with pytest.raises(Exhausted):
        transform_rows(Greedy(), ("value",), [(1,)], end)


def test_columns_named_as_an_object_s_own_attributes_are_read_as_items() -> None:
    class Odd(Doubling):
        def transform(self, row: Row) -> Mapping[str, Any]:
            return {"doubled": (row["__class__"], row["_row_values"], row.value, row["value"])}

    (outcome,) = transform_rows(Odd(), ("__class__", "_row_values", "value"), [(1, 2, 3)])
    assert outcome == {"doubled": (1, 2, 3, 3)}
