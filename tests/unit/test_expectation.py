"""How many rows a migration may change."""

from __future__ import annotations

import pytest

from system_migration.batching.expectation import max_changed, unexpected


@pytest.mark.parametrize(
    ("expected", "max_rows", "limit"),
    [
        (None, None, None),
        (None, 7, 7),
        (range(10, 21), None, 20),
        (range(10, 21), 7, 7),
        (range(10, 21), 30, 20),
        (range(0), None, 0),
        (range(0), 5, 0),
        (range(20, 9, -1), None, 20),
    ],
)
def test_the_lower_limit_holds(expected: range | None, max_rows: int | None, limit: int | None) -> None:
    assert max_changed(expected, max_rows) == limit


def test_a_number_outside_of_what_is_expected_is_told_with_both() -> None:
    assert unexpected("001-a", 10, 0, None) is None
    assert unexpected("001-a", 1_000, 0, range(1_000, 2_001)) is None
    assert unexpected("001-a", 500, 1_500, range(1_000, 2_001)) is None
    for rows, told in ((999, "999"), (2_001, "2,001")):
        sentence = unexpected("001-a", rows, 0, range(1_000, 2_001))
        assert sentence is not None
        assert sentence.startswith(f"Migration 001-a expects to change 1,000 to 2,000 rows, but {told} need it. ")
    nothing = str(unexpected("001-a", 1, 0, range(0)))
    assert nothing.startswith("Migration 001-a expects to change no rows, but 1 need it.")
