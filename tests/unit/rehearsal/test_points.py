"""Points between the ends of a key."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from system_migration.rehearsal.points import between

PAIRS: list[tuple[Any, Any]] = [
    (1, 100),
    (-(2**62), 2**62),
    (0.5, 9.5),
    (Decimal("0.1"), Decimal("0.2")),
    (date(2020, 1, 1), date(2024, 1, 1)),
    (datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)),
    (UUID(int=0), UUID(int=2**128 - 1)),
    ("account-00001", "account-90000"),
    ("a", "z"),
    (b"\x00", b"\xff\xff"),
]


@pytest.mark.parametrize(("low", "high"), PAIRS, ids=[f"{type(low).__name__}-{low}" for low, _ in PAIRS])
def test_points_ascend_between_the_ends(low: Any, high: Any) -> None:
    points = between(low, high, 9)
    assert len(points) == 9
    assert [low, *points, high] == sorted({low, *points, high})


def test_numbers_are_as_far_apart_as_can_be() -> None:
    assert between(0, 1000, 9) == list(range(100, 1000, 100))


def test_texts_are_told_apart_after_what_both_begin_with() -> None:
    assert between("order-1000", "order-9000", 7) == sorted(between("order-1000", "order-9000", 7))
    assert {point[: len("order-")] for point in between("order-1000", "order-9000", 7)} == {"order-"}
    assert len({point[len("order-")] for point in between("order-1000", "order-9000", 7)}) == 7


@pytest.mark.parametrize(("low", "high"), [(1, 1), (1, 2), ("a", "a"), (b"", b"")])
def test_there_are_none_where_nothing_lies_between(low: Any, high: Any) -> None:
    assert between(low, high, 9) == []


@pytest.mark.parametrize(("low", "high"), [(None, None), (True, False), ([1], [2]), (1, "2")])
def test_there_are_none_for_what_has_no_measure(low: Any, high: Any) -> None:
    assert between(low, high, 9) == []
