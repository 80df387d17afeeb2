"""The ranges still to do, from the numbers that are in the ledger."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from system_migration.batching.ranges import CommittedEdge, Gap, gaps


def test_an_empty_ledger_leaves_the_whole_walk() -> None:
    assert gaps([], 0, None) == [Gap(first=1, last=None, lower=None, upper=None)]


def test_a_ledger_without_holes_leaves_the_open_end() -> None:
    assert gaps([], 3, (30,)) == [Gap(first=4, last=None, lower=(30,), upper=None)]


def test_a_hole_lies_between_the_bounds_of_its_neighbours() -> None:
    edges = [
        CommittedEdge(number=3, lower=(20,), previous_number=0, previous_upper=None),
        CommittedEdge(number=6, lower=(50,), previous_number=4, previous_upper=(40,)),
    ]
    assert gaps(edges, 6, (60,)) == [
        Gap(first=1, last=2, lower=None, upper=(20,)),
        Gap(first=5, last=5, lower=(40,), upper=(50,)),
        Gap(first=7, last=None, lower=(60,), upper=None),
    ]


@given(st.sets(st.integers(1, 40)))
def test_committed_ranges_and_gaps_cover_every_number_and_every_key_once(committed: set[int]) -> None:
    """Range n takes the keys above 10 * (n - 1) and up to 10 * n."""
    edges, previous = [], 0
    for number in sorted(committed):
        if number - 1 not in committed and number > 1:
            edges.append(CommittedEdge(number, (10 * (number - 1),), previous, (10 * previous,) if previous else None))
        previous = number
    *closed, end = gaps(edges, previous, (10 * previous,) if previous else None)

    missing = [number for gap in closed for number in range(gap.first, (gap.last or 0) + 1)]
    assert sorted([*committed, *missing]) == list(range(1, previous + 1))
    assert (end.first, end.last, end.upper) == (previous + 1, None, None)
    for gap in [*closed, end]:
        assert gap.lower == ((10 * (gap.first - 1),) if gap.first > 1 else None)
        assert gap.upper == ((10 * gap.last,) if gap.last else None)


def test_only_the_last_range_of_a_closed_gap_takes_all_that_is_left() -> None:
    closed = Gap(first=3, last=5, lower=(1,), upper=(9,))
    assert [closed.closes_with(number) for number in (3, 4, 5)] == [False, False, True]
    assert not Gap(first=3, last=None, lower=(1,), upper=None).closes_with(3)
