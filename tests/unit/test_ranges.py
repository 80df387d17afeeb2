"""Gaps and spans: what is left to do, told by numbers alone."""

from __future__ import annotations

from itertools import pairwise

import pytest

from system_migration.batching.ranges import SPAN, CommittedEdge, Gap, Numbers, gaps, ordinal


def test_an_empty_ledger_leaves_the_whole_walk() -> None:
    assert list(gaps([], 0, None)) == [Gap(first=1, last=None, lower=None, upper=None)]


def test_a_ledger_without_holes_leaves_the_open_end() -> None:
    assert list(gaps([], 3 * SPAN, (30,))) == [Gap(first=3 * SPAN + 1, last=None, lower=(30,), upper=None)]


def test_a_hole_lies_between_the_bounds_of_its_neighbours() -> None:
    edge = CommittedEdge(first=2 * SPAN + 1, lower=(20,), previous_last=SPAN, previous_upper=(10,))
    hole, end = gaps([edge], 3 * SPAN, (30,))
    assert hole == Gap(first=SPAN + 1, last=2 * SPAN, lower=(10,), upper=(20,))
    assert not end.is_closed


def test_planned_ranges_are_counted_from_one() -> None:
    first = Gap(1, None, None, None)
    second = first.after(first.next_share(), (10,))
    assert [ordinal(gap.first) for gap in (first, second)] == [1, 2]
    assert second.lower == (10,)


def test_halves_cover_the_whole_and_can_be_halved_until_one_number_is_left() -> None:
    numbers, times = Numbers(SPAN + 1, 2 * SPAN), 0
    while numbers.can_split:
        front, back = numbers.halves()
        assert (front.first, back.first, back.last) == (numbers.first, front.last + 1, numbers.last)
        numbers, times = back, times + 1
    assert times >= 31


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 1000, SPAN])
def test_batches_of_a_closed_gap_never_run_out_of_numbers_before_they_close_it(count: int) -> None:
    """Whatever their size: only the last one takes all that is left, and it takes the last number."""
    gap, taken = Gap(7, 6 + count, (0,), (9,)), []
    while not gap.must_close:
        taken.append(gap.next_share())
        gap = gap.after(taken[-1], (1,))
    taken.append(gap.all_numbers())
    assert taken[0].first == 7
    assert taken[-1].last == 6 + count
    assert all(one.last + 1 == other.first for one, other in pairwise(taken))
    assert count < SPAN or len(taken) > 1_000


def test_rows_that_need_nothing_use_no_number() -> None:
    assert Gap(1, None, None, (9,)).beyond((4,)) == Gap(1, None, (4,), (9,))
