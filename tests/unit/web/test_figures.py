"""Numbers for people."""

from __future__ import annotations

import pytest

from system_migration.web.dashboard import figures


def test_numbers_are_grouped_and_nothing_is_a_dash() -> None:
    assert [figures.number(n) for n in (None, 0, 999, 1_000, 1_234_567)] == ["–", "0", "999", "1,000", "1,234,567"]


@pytest.mark.parametrize(
    ("done", "total", "percent"),
    [(0, None, None), (5, 0, None), (0, 3, 0), (1, 3, 33), (2_999_999, 3_000_000, 99), (3, 3, 100), (7, 3, 100)],
)
def test_a_hundred_percent_means_all(done: int, total: int | None, percent: int | None) -> None:
    assert figures.percent(done, total) == percent


@pytest.mark.parametrize(
    ("done", "total", "rate", "words"),
    [
        (0, 100, 10.0, "about 10 s left"),
        (0, 36_000, 1.0, "about 10 h 0 min left"),
        (50, 100, None, ""),
        (50, 100, 0.0, ""),
        (50, 100, -1.0, ""),
        (50, None, 10.0, ""),
        (100, 100, 10.0, ""),
        (101, 100, 10.0, ""),
    ],
)
def test_the_time_left_is_told_only_where_it_is_known(
    done: int, total: int | None, rate: float | None, words: str
) -> None:
    assert figures.time_left(done, total, rate) == words
