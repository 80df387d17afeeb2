"""Charts of batches: what is drawn lies within its frame, says what it shows, and adds up to the rows there were."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta

import pytest

from system_migration.records import Batch
from system_migration.web.dashboard.charts import (
    SPAN,
    Chart,
    duration_chart,
    measured,
    milliseconds,
    rate_chart,
    recent_rate,
    speeds,
)

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def batch(at: float, seconds: float = 1.0, rows: int = 100, batches: int = 1) -> Batch:
    """A batch that was committed `at` seconds after the beginning."""
    return Batch(1, 1, rows, rows, 0, 0, 0, 0, seconds, BEGIN + timedelta(seconds=at), batches, 1, "run")


def row_of(*durations: float, rows: int = 100) -> list[Batch]:
    """Batches that follow one another without a gap."""
    at, found = 0.0, []
    for seconds in durations:
        at += seconds
        found.append(batch(at, seconds, rows))
    return found


def drawn_rate(batches: list[Batch]) -> Chart:
    chart = rate_chart(speeds(batches), batches[-1].committed_at)
    assert chart is not None
    return chart


def numbers(points: str) -> list[float]:
    return [float(number) for number in re.split("[ ,]", points)]


def test_the_rows_of_all_batches_are_in_the_rate() -> None:
    batches = row_of(0.5, 1.7, 0.2, 3.1, 0.9)
    found = speeds(batches)
    steps = [(after.at - each.at).total_seconds() for each, after in itertools.pairwise(found)]
    assert sum(each.rate for each in found) * steps[0] == pytest.approx(500)
    assert max(steps) == pytest.approx(min(steps))


def test_an_even_pace_is_an_even_line() -> None:
    chart = drawn_rate(row_of(*[1.0] * 20))
    assert set(numbers(chart.line)[1::2]) == {0.0}
    assert chart.label == "Rate of 20 s. Newest 100 rows/s, lowest 100 rows/s, highest 100 rows/s."
    assert chart.ticks == ("100 rows/s", "50 rows/s", "0 rows/s")


def test_one_batch_is_drawn() -> None:
    only = row_of(2.0)
    chart, durations = drawn_rate(only), duration_chart(only)
    assert numbers(chart.line) == [0.0, 0.0, SPAN, 0.0]
    assert "Newest 50 rows/s" in chart.label
    assert durations is not None
    assert durations.label.startswith("Duration of 1 batch. Newest 2 s")
    (bar,) = durations.bars
    assert bar.width <= 60
    assert bar.x + bar.width / 2 == SPAN / 2


def test_a_gap_is_a_time_without_rows() -> None:
    found = speeds([*row_of(1.0, 1.0, 1.0), *(batch(60 + at) for at in range(7))])
    assert [each.rate for each in found[1:8]] == [0.0] * 7
    assert found[0].rate > 0
    assert found[-1].rate > 0
    assert "lowest 0.0 rows/s" in drawn_rate([*row_of(1.0), *(batch(60 + at) for at in range(7))]).label


def test_batches_side_by_side_add_up() -> None:
    found = speeds([batch(1.0), batch(1.0), batch(1.0), batch(1.0)])
    assert {round(each.rate) for each in found} == {400}


def test_no_time_at_all_is_no_rate_and_no_durations() -> None:
    at_once = [batch(1.0, seconds=0.0) for _ in range(3)]
    assert speeds(at_once) == []
    assert rate_chart([], BEGIN) is None
    assert duration_chart(at_once) is None
    assert speeds([]) == []
    assert duration_chart([]) is None
    assert recent_rate([], BEGIN) is None


def test_unmeasured_durations_still_have_a_rate() -> None:
    chart = drawn_rate([batch(at, seconds=0.0) for at in range(1, 11)])
    assert chart.label.startswith("Rate of 9 s. Newest ")


def test_a_very_high_rate_has_short_ticks() -> None:
    chart = drawn_rate(row_of(1.0, 1.0, rows=10**9))
    assert chart.ticks == ("1G rows/s", "500M rows/s", "0 rows/s")
    assert "1,000,000,000 rows/s" in chart.label


@pytest.mark.parametrize(
    ("highest", "top"),
    [(0.07, "100 ms"), (0.21, "250 ms"), (0.3, "500 ms"), (1.0, "1 s"), (61, "100 s"), (3e-4, "under 1 ms")],
)
def test_the_ground_is_zero_and_the_top_is_round(highest: float, top: str) -> None:
    chart = duration_chart(row_of(highest / 2, highest))
    assert chart is not None
    assert (chart.ticks[0], chart.ticks[2]) == (top, "0 s")


def test_all_that_is_drawn_lies_in_its_frame() -> None:
    batches = row_of(*(0.1 + (number * 37 % 11) / 7 for number in range(200)))
    rate, durations = drawn_rate(batches), duration_chart(batches)
    assert durations is not None
    assert len(durations.bars) == 200
    for bar in durations.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= SPAN
        assert bar.y >= 0
        assert bar.y + bar.height == pytest.approx(SPAN)
    assert all(0 <= number <= SPAN for number in numbers(rate.line) + numbers(rate.area))


def test_sums_of_old_batches_are_not_drawn() -> None:
    newest_first = [batch(3), batch(2), batch(1, rows=10**6, batches=900)]
    assert [each.committed_at for each in measured(newest_first)] == [each.committed_at for each in newest_first[1::-1]]


def test_only_the_last_minute_counts_in_the_present_rate() -> None:
    batches = [batch(1, rows=10**6), *(batch(100 + at) for at in range(10))]
    assert recent_rate(batches, BEGIN + timedelta(seconds=109)) == pytest.approx(100)
    assert recent_rate(batches, BEGIN + timedelta(seconds=129)) == pytest.approx(1000 / 30)
    assert recent_rate(batches, BEGIN + timedelta(seconds=300)) is None
    assert recent_rate([batch(1.0, seconds=0.001)], BEGIN + timedelta(seconds=1)) == 100


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (0.0004, "under 1 ms"), (0.0123, "12.3 ms"), (0.25, "250 ms"), (2.5, "2.5 s")]
)
def test_short_durations_are_in_milliseconds(seconds: float, words: str) -> None:
    assert milliseconds(seconds) == words
