"""The pause that keeps a run below a rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from system_migration.batching.throttle import pause


@pytest.mark.parametrize(
    ("rows", "seconds", "max_rate", "expected"),
    [
        (100, 0.25, 100.0, 0.75),
        (100, 1.0, 100.0, 0.0),
        (100, 5.0, 100.0, 0.0),  # slow already: time lost is not made up for
        (0, 0.5, 100.0, 0.0),
        (1, 0.0, 0.5, 2.0),
        (100, 0.0, None, 0.0),
    ],
)
def test_the_pause(rows: int, seconds: float, max_rate: float | None, expected: float) -> None:
    assert pause(rows, seconds, max_rate) == expected


@given(st.integers(1, 10_000), st.floats(0, 100), st.floats(0.01, 100_000))
def test_the_rate_is_met_and_not_undercut(rows: int, seconds: float, max_rate: float) -> None:
    waited = pause(rows, seconds, max_rate)
    if waited > 0:
        assert rows / (seconds + waited) == pytest.approx(max_rate)
    else:
        assert rows / max_rate <= seconds
