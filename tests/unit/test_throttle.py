"""The rate limit, with time passed in."""

from __future__ import annotations

import pytest

from system_migration.batching.throttle import RateLimit


def test_without_a_limit_nothing_waits() -> None:
    assert RateLimit().wait_after(5_000, 10.0) == 0.0
    assert RateLimit().rows_at_once(5_000) == 5_000


def test_a_batch_waits_as_long_as_its_rows_take_at_the_rate() -> None:
    assert RateLimit(100.0).wait_after(50, 10.0) == pytest.approx(0.5)


def test_batches_that_follow_at_once_wait_for_all_before_them() -> None:
    rate = RateLimit(100.0)
    rate.wait_after(50, 10.0)
    assert rate.wait_after(50, 10.0) == pytest.approx(1.0)


def test_time_that_passed_idle_is_not_made_up_for() -> None:
    rate = RateLimit(100.0)
    rate.wait_after(50, 10.0)
    assert rate.wait_after(50, 99.0) == pytest.approx(0.5)


@pytest.mark.parametrize(("rate", "rows"), [(1_000_000.0, 5_000), (10_000.0, 500), (100.0, 5), (0.5, 1)])
def test_a_limited_rate_has_small_batches(rate: float, rows: int) -> None:
    """Rows of a large batch stay locked until it is committed, and somebody waits for them."""
    assert RateLimit(rate).rows_at_once(5_000) == rows
