"""How far a run is, from what its runner last said and from what is committed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from system_migration import wording
from system_migration.records import Batch, Followed, Pulse
from system_migration.web.dashboard import charts, figures


@dataclass(frozen=True)
class Progress:
    """`done` of `total` rows, at `rate` rows a second. `going`: whether more is to come of this run by itself."""

    done: int
    total: int | None
    rate: float | None
    going: bool
    took: float | None

    @property
    def percent(self) -> int | None:
        return figures.percent(self.done, self.total)

    @property
    def left(self) -> str:
        """How long the rest takes, in words; empty where that cannot be told."""
        return figures.time_left(self.done, self.total, self.rate) if self.going else ""

    @property
    def in_words(self) -> str:
        """`120 of 400 rows`, and what else is known."""
        of = f"{self.done:,} of " if self.total else ""
        rows = of + wording.counted(self.total or self.done, "row")
        percent = f"{self.percent} %" if self.percent is not None else ""
        known = [rows, percent, wording.speed(self.rate) if self.rate else "", self.left]
        return " · ".join(part for part in known if part)


def progress_of(followed: Followed, batches: Sequence[Batch]) -> Progress:
    """How far it is. `batches` are its newest, oldest first."""
    tally, pulse, run = followed.progress, followed.pulse, followed.run
    committed = tally.changed + tally.unchanged + tally.held + tally.vanished
    going = followed.state == "running"
    took = seconds_between(run.started_at, run.finished_at)
    if followed.ended:
        return Progress(committed or run.records_processed, None, None, going=False, took=took)
    total = pulse.total if pulse is not None else None
    return Progress(
        rows_done(pulse, committed, going=going), total, _rate(pulse, batches) if going else None, going, took
    )


def rows_done(pulse: Pulse | None, committed: int, *, going: bool) -> int:
    """What the runner says. One that was killed had no time to say all: then what is committed, if that can be it."""
    if pulse is None or pulse.done is None:
        return committed
    if going or pulse.total is None or committed > pulse.total:
        return pulse.done
    return max(pulse.done, committed)


def _rate(pulse: Pulse | None, batches: Sequence[Batch]) -> float | None:
    """How fast it is until the newest news of it, of whichever kind, so that a run that stands still has no speed."""
    if not batches:
        return None
    newest = batches[-1].committed_at
    return charts.recent_rate(batches, max(newest, pulse.at) if pulse is not None else newest)


def seconds_between(begin: datetime, end: datetime | None) -> float | None:
    """How long something took; None while it goes on."""
    return None if end is None else max(0.0, (end - begin).total_seconds())
