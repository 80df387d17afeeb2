"""Noticing that a run became slow, and which part of its work it is. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

NEEDED = 20
"""Batches before anything is said: the first ones are slow for reasons of their own."""
REMEMBERED = 200
SLOW = 1 / 5
RECOVERED = 1 / 2
_LEAST_BATCHES = 3
_LEARNED_AT_ONCE = NEEDED
_LEAST_SECONDS = 1.0
"""A moment that is judged: less is a hiccup, such as a last batch of one row."""

_PARTS = ("reading", "transforming", "writing", "waiting")
_CAUSES = {
    "reading": "the database reads more slowly, perhaps for want of an index or for other load",
    "transforming": "transform() takes longer, perhaps for larger rows or for less of the processor",
    "writing": "the database writes more slowly, perhaps for locks, triggers or a busy disk",
    "waiting": "most of the time goes into waiting for others",
}


@dataclass(frozen=True, slots=True)
class _Batch:
    rows: int
    seconds: tuple[float, ...]
    total: float


@dataclass
class Pace:
    """The speed of a run's batches, fed with each of them. It speaks once when they become slow, once when it ends."""

    slow: bool = False
    _usual: deque[_Batch] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _recent: deque[_Batch] = field(default_factory=deque)
    _recent_seconds: float = 0.0
    _learned: int = 0
    _median: float = 0.0

    def note(
        self,
        rows: int,
        read_seconds: float,
        transform_seconds: float,
        write_seconds: float,
        waiting_seconds: float = 0.0,
    ) -> str | None:
        """Take a finished batch into account. A sentence for people when the run became slow, or is itself again."""
        seconds = (read_seconds, transform_seconds, write_seconds, waiting_seconds)
        batch = _Batch(rows, seconds, sum(seconds))
        if rows <= 0 or batch.total <= 0:
            return None
        self._keep_recent(batch)
        if len(self._usual) < NEEDED or not self._is_a_moment():
            self._learn(batch)
            return None
        now, usual = _rate(self._recent), self._usual_rate()
        if not self.slow and now < usual * SLOW:
            self.slow = True
            return self._complaint(now, usual)
        if self.slow and now > usual * RECOVERED:
            self.slow = False
            return f"as fast as before again: {now:,.0f} rows/s"
        self._learn(batch)
        return None

    def _keep_recent(self, batch: _Batch) -> None:
        """The shortest tail of batches that makes a moment."""
        self._recent.append(batch)
        self._recent_seconds += batch.total
        while len(self._recent) > _LEAST_BATCHES and self._recent_seconds - self._recent[0].total >= _LEAST_SECONDS:
            self._recent_seconds -= self._recent.popleft().total

    def _is_a_moment(self) -> bool:
        return len(self._recent) >= _LEAST_BATCHES and self._recent_seconds >= _LEAST_SECONDS

    def _learn(self, batch: _Batch) -> None:
        if not self.slow:  # else slowness would become the usual, and end unnoticed
            self._usual.append(batch)
            self._learned += 1

    def _usual_rate(self) -> float:
        """The median of what is usual. Found anew after some batches only: a batch may take but a millisecond."""
        if self._learned >= _LEARNED_AT_ONCE:
            self._learned = 0
            self._median = median(batch.rows / batch.total for batch in self._usual)
        return self._median

    def _complaint(self, now: float, usual: float) -> str:
        grown = [self._growth(index) for index in range(len(_PARTS))]
        part = _PARTS[grown.index(max(grown))]
        figures = f"{now:,.1f} rows/s where {usual:,.0f} were usual"
        return f"slow: {figures}; {part} has grown most: {_CAUSES[part]}"

    def _growth(self, part: int) -> float:
        """Seconds a row that this part takes more than it used to."""
        usual = median(batch.seconds[part] / batch.rows for batch in self._usual)
        return sum(batch.seconds[part] for batch in self._recent) / sum(batch.rows for batch in self._recent) - usual


def _seconds(batches: deque[_Batch]) -> float:
    return sum(batch.total for batch in batches)


def _rate(batches: deque[_Batch]) -> float:
    return sum(batch.rows for batch in batches) / _seconds(batches)
