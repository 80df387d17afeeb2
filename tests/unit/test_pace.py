"""A run that becomes slow says so once, with the part of its work that grew, and once when that ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from system_migration.batching.pace import NEEDED, Pace

USUAL = {"read_seconds": 0.1, "transform_seconds": 0.1, "write_seconds": 0.2}


def feed(pace: Pace, batches: int, rows: int = 400, **seconds: float) -> list[str]:
    """What it says over some batches of the same kind."""
    said = [pace.note(rows, **USUAL | seconds) for _ in range(batches)]
    return [sentence for sentence in said if sentence is not None]


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("read_seconds", "reading has grown most"),
        ("transform_seconds", "transforming has grown most"),
        ("write_seconds", "writing has grown most"),
        ("waiting_seconds", "waiting has grown most"),
    ],
)
def test_it_names_the_part_that_grew_and_speaks_once(part: str, named: str) -> None:
    pace = Pace()
    assert feed(pace, 50) == []
    (sentence,) = feed(pace, 50, **{part: 9.0})
    assert sentence.startswith("slow: ")
    assert "where 1,000 were usual" in sentence
    assert named in sentence
    (sentence,) = feed(pace, 50)
    assert sentence.startswith("as fast as before again: ")
    assert len(feed(pace, 50, **{part: 9.0})) == 1


def test_a_fifth_is_the_limit() -> None:
    pace = Pace()
    feed(pace, 50)
    assert feed(pace, 50, write_seconds=1.75) == []  # 205 rows/s
    pace = Pace()
    feed(pace, 50)
    assert len(feed(pace, 50, write_seconds=1.85)) == 1  # 195


def test_it_needs_to_know_what_is_usual() -> None:
    pace = Pace()
    feed(pace, NEEDED - 1)
    assert feed(pace, 1, write_seconds=100.0) == []


def test_a_last_batch_of_one_row_is_not_slow() -> None:
    pace = Pace()
    feed(pace, 50)
    assert feed(pace, 3, rows=1, read_seconds=0.01, transform_seconds=0.0, write_seconds=0.01) == []


def test_smaller_batches_that_were_made_for_the_slowness_do_not_hide_it() -> None:
    pace = Pace()
    feed(pace, 50)
    assert len(feed(pace, 50, rows=20, read_seconds=0.01, transform_seconds=0.01, write_seconds=0.25)) == 1


def test_one_stutter_among_good_batches_is_no_alarm() -> None:
    pace = Pace()
    said = [sentence for _ in range(10) for sentence in (feed(pace, 10) + feed(pace, 1, write_seconds=2.0))]
    assert said == []


def test_slowness_never_becomes_the_usual() -> None:
    pace = Pace()
    feed(pace, 50)
    assert len(feed(pace, 1_000, write_seconds=9.0)) == 1
    assert len(feed(pace, 10)) == 1


@given(st.lists(st.tuples(st.integers(0, 10_000), *[st.floats(0, 100)] * 3), max_size=200))
def test_it_alternates_between_slow_and_well_whatever_comes(batches: list[tuple[int, float, float, float]]) -> None:
    pace = Pace()
    said = [sentence for batch in batches if (sentence := pace.note(*batch)) is not None]
    assert [sentence.startswith("slow: ") for sentence in said] == [number % 2 == 0 for number in range(len(said))]
