"""The size of the next batch follows the time that the last one took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from system_migration.batching.sizing import BATCH_SECONDS, FIRST, LARGEST, WRITE_SECONDS, BatchSize

SECONDS = st.floats(0, 1000)


def settled(write: float, transform: float, steps: int = 60) -> BatchSize:
    """The size after `steps` batches whose rows each cost this many seconds."""
    size = BatchSize.starting(None)
    for _ in range(steps):
        size = size.after(size.rows, size.rows * (write + transform), size.rows * write)
    return size


def test_the_first_batch_is_cautious_or_what_the_operator_said() -> None:
    assert BatchSize.starting(None) == BatchSize(FIRST, fixed=False)
    assert BatchSize.starting(7) == BatchSize(7, fixed=True)


@given(st.integers(1, LARGEST), SECONDS, SECONDS)
def test_a_step_grows_by_at_most_a_fifth_or_one_row_and_stays_within_bounds(
    rows: int, total: float, write: float
) -> None:
    after = BatchSize(rows).after(rows, total, write).rows
    assert 1 <= after <= min(max(rows * 1.2, rows + 1), LARGEST)


def test_a_fast_batch_is_followed_by_one_a_fifth_larger() -> None:
    assert BatchSize(100).after(100, 0.01, 0.01).rows == 120


@given(st.floats(1e-6, 0.2), st.floats(0, 4))
def test_it_settles_on_the_largest_size_that_meets_both_time_targets(write: float, transform: float) -> None:
    rows = settled(write, transform).rows
    allowed = min(WRITE_SECONDS / write, BATCH_SECONDS / (write + transform), LARGEST)
    assert allowed - 2 <= rows <= allowed * 1.000001


@pytest.mark.parametrize(
    ("total", "write", "expected"),
    [(1.0, 0.5, 500), (10.0, 0.1, 500), (10.0, 0.5, 500), (50.0, 0.1, 100), (5000.0, 0.1, 1), (9e9, 0.1, 1)],
)
def test_a_slow_batch_shrinks_the_next_at_once_to_the_tighter_target(total: float, write: float, expected: int) -> None:
    assert BatchSize(1000).after(1000, total, write).rows == expected


def test_even_one_row_grows_again_when_it_is_fast() -> None:
    assert [BatchSize(rows).after(rows, 0.01, 0.01).rows for rows in (1, 4, 5)] == [2, 5, 6]


def test_a_batch_of_fewer_rows_can_make_the_next_larger_but_not_smaller() -> None:
    """Several batches are under way at once, so some were planned before the size grew; the last one has few rows."""
    assert BatchSize(100).after(50, 0.001, 0.001).rows == 120
    assert BatchSize(100).after(1, 2.0, 2.0).rows == 100
