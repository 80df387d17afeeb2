"""Charts of a run's newest batches, as geometry for an SVG: what is drawn, its ticks, and the same in words. Pure.

What is drawn is stretched over the room that there is, so it is measured in thousandths: x from the left, y from the
top. The words around it are no part of it, and stay as large as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from system_migration import wording
from system_migration.records import Batch

SPAN = 1000
_BUCKETS = 48
_SHORTEST = 0.005
_WIDEST_BAR = 60.0
_LEAST_SECONDS = 1.0
"""What was done in less says little of a second."""
_ROUND = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Bar:
    """A rectangle from the ground up."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Chart:
    """What is drawn: an area under a `line`, or `bars`. `label` says it to somebody who does not see it.

    `ticks` are the values at the top, in the middle and on the ground.
    """

    key: str
    title: str
    label: str
    ticks: tuple[str, str, str]
    begin: str
    end: str
    line: str = ""
    area: str = ""
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Speed:
    """How many rows a second were committed from `at` on, until the next one."""

    at: datetime
    rate: float


def measured(batches: Sequence[Batch]) -> list[Batch]:
    """The batches that can be drawn, oldest first: those that were not compacted into sums."""
    return sorted((each for each in batches if each.batches == 1), key=lambda each: each.committed_at)


def speeds(batches: Sequence[Batch]) -> list[Speed]:
    """The rate over the time that these batches, oldest first, took: in equal steps, with nothing in a gap.

    The rows of a batch are spread over its duration. Empty where all of it took no time that can be told.
    """
    if not batches:
        return []
    begin = min(_began(each) for each in batches)
    whole = (batches[-1].committed_at - begin).total_seconds()
    if whole < _SHORTEST:
        return []
    steps = min(_BUCKETS, max(1, len(batches)))
    rows, step = [0.0] * steps, whole / steps
    for each in batches:
        _spread(rows, each, (_began(each) - begin).total_seconds() / step, each.seconds / step)
    return [Speed(begin + timedelta(seconds=number * step), found / step) for number, found in enumerate(rows)]


def _began(batch: Batch) -> datetime:
    return batch.committed_at - timedelta(seconds=max(0.0, batch.seconds))


def _spread(rows: list[float], batch: Batch, begin: float, length: float) -> None:
    """Add the rows of a batch to the steps that it covers, each by its share."""
    last = len(rows) - 1
    if length <= 0:
        rows[min(last, int(begin))] += batch.rows
        return
    for number in range(min(last, int(begin)), min(last, int(begin + length)) + 1):
        share = (min(begin + length, number + 1) - max(begin, number)) / length
        rows[number] += batch.rows * max(0.0, min(1.0, share))


def recent_rate(batches: Sequence[Batch], now: datetime, seconds: float = 60.0) -> float | None:
    """Rows a second over about so long until `now`; None where nothing can be told.

    `batches` are oldest first. A run that is younger counts from its first one on.
    """
    last = [each for each in batches if (now - each.committed_at).total_seconds() <= seconds]
    if not last:
        return None
    took = (now - min(_began(each) for each in last)).total_seconds()
    return sum(each.rows for each in last) / max(took, _LEAST_SECONDS)


def rate_chart(found: Sequence[Speed], end: datetime) -> Chart | None:
    """The rate over time, up to `end`; None where there is nothing to draw."""
    if not found:
        return None
    values = [each.rate for each in found]
    top = _top(values)
    step = SPAN / len(values)
    points = [point for number, value in enumerate(values) for point in _plateau(number * step, step, value, top)]
    line = " ".join(points)
    length = (end - found[0].at).total_seconds()
    return Chart(
        key="rate",
        title="Rate",
        label=f"Rate of {wording.duration(length)}. {_in_words(values, wording.speed)}",
        ticks=_ticks(top, lambda value: f"{_short(value)} rows/s"),
        begin=f"{wording.duration(length)} before",
        end="newest batch",
        line=line,
        area=f"0,{SPAN} {line} {SPAN},{SPAN}",
    )


def _plateau(x: float, width: float, value: float, top: float) -> tuple[str, str]:
    y = _from_top(value, top)
    return f"{x:.1f},{y:.1f}", f"{x + width:.1f},{y:.1f}"


def duration_chart(batches: Sequence[Batch]) -> Chart | None:
    """How long each batch took, oldest first; None where none was measured."""
    values = [each.seconds for each in batches]
    if not any(value > 0 for value in values):
        return None
    top = _top(values)
    step = SPAN / len(values)
    bars = tuple(_bar(number * step, step, value, top) for number, value in enumerate(values))
    return Chart(
        key="duration",
        title="Duration of a batch",
        label=f"Duration of {_batches(len(values))}. {_in_words(values, milliseconds)}",
        ticks=_ticks(top, milliseconds),
        begin=f"{_batches(len(values))}, oldest first",
        end="newest",
        bars=bars,
    )


def _bar(x: float, step: float, value: float, top: float) -> Bar:
    y, width = _from_top(value, top), min(step * 0.8, _WIDEST_BAR)
    return Bar(round(x + (step - width) / 2, 1), y, round(width, 1), round(SPAN - y, 1))


def _batches(count: int) -> str:
    return "1 batch" if count == 1 else f"{count:,} batches"


def _from_top(value: float, top: float) -> float:
    return round(SPAN - SPAN * value / top, 1)


def _in_words(values: Sequence[float], word: Callable[[float], str]) -> str:
    return f"Newest {word(values[-1])}, lowest {word(min(values))}, highest {word(max(values))}."


def milliseconds(seconds: float) -> str:
    """A duration that may be very short."""
    if seconds == 0 or seconds >= 1:
        return wording.duration(seconds)
    return f"{seconds * 1000:.3g} ms" if seconds >= 0.001 else "under 1 ms"


def _top(values: Sequence[float]) -> float:
    """The smallest round number that is not below any of the values."""
    highest = max(values)
    if not highest > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return float(next(step * power for step in _ROUND if step * power >= highest * (1 - 1e-9)))


def _ticks(top: float, word: Callable[[float], str]) -> tuple[str, str, str]:
    return word(top), word(top / 2), word(0)


def _short(value: float) -> str:
    """A large number in few characters."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):,.4g}{unit}"
    return f"{value:,.4g}"
