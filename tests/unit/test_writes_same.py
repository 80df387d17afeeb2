"""The guard's comparison: the same values of the same types, and nothing less."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from system_migration.batching.writes import Sorted, _sort_by_one_column, same

NAN = float("nan")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (None, None),
        (1, 1),
        (True, True),
        (1.5, 1.5),
        (NAN, NAN),
        (float("nan"), float("nan")),
        (Decimal("1.0"), Decimal("1.0")),
        (Decimal("NaN"), Decimal("NaN")),
        ("é", "é"),
        (b"ab", memoryview(b"ab")),
        (b"ab", bytearray(b"ab")),
        (bytearray(b"ab"), memoryview(b"ab")),
        (datetime(2025, 1, 2, tzinfo=UTC), datetime(2025, 1, 2, tzinfo=UTC)),
        (UUID(int=1), UUID(int=1)),
        ({"a": [1, None]}, {"a": [1, None]}),
        ({"a": 1, "b": [float("nan")]}, {"b": [float("nan")], "a": 1}),
    ],
)
def test_the_same(left: Any, right: Any) -> None:
    assert same((left,), (right,)) is True
    assert same((right,), (left,)) is True
    assert _is_written(left, right) is _is_written(right, left) is False


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, True),
        (0, False),
        (1, 1.0),
        (1, Decimal(1)),
        (1.0, Decimal("1.0")),
        (1, "1"),
        (1, 2),
        (1.0, NAN),
        (Decimal("1.0"), Decimal("1.00")),
        (Decimal("0"), Decimal("-0")),
        (Decimal("NaN"), NAN),
        ("ab", b"ab"),
        ("ab", "AB"),
        ("ab", "ab "),
        ("é", "e\u0301"),
        (b"ab", memoryview(b"ac")),
        (b"ab", bytearray(b"ab\x00")),
        (None, 0),
        (None, ""),
        (None, False),
        (None, NAN),
        (date(2025, 1, 2), datetime(2025, 1, 2)),
        (datetime(2025, 1, 2), datetime(2025, 1, 2, tzinfo=UTC)),
        (UUID(int=1), str(UUID(int=1))),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": True}),
        ({"a": [1]}, {"a": [1.0]}),
        ({"a": 1}, {"b": 1}),
        ([1, 2], [1]),
        ([1], (1,)),
    ],
)
def test_not_the_same(left: Any, right: Any) -> None:
    assert same((left,), (right,)) is False
    assert same((right,), (left,)) is False
    assert _is_written(left, right) is _is_written(right, left) is True


@pytest.mark.parametrize("place", range(3))
def test_one_value_anywhere_in_the_row_makes_the_difference(place: int) -> None:
    row = ["a", None, 3]
    assert same(tuple(row), tuple(row))
    changed = [*row[:place], "other", *row[place + 1 :]]
    assert not same(tuple(row), tuple(changed))


def _is_written(before: Any, after: Any) -> bool:
    """Whether a row whose only written column had one value is written when transform gives the other."""
    found = Sorted(values=[[]])
    _sort_by_one_column(found, ("v", 0), [(before,)], [{"v": after}])
    return found.values == [[after]]
