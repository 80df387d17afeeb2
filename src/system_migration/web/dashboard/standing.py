"""A migration as the overview shows it: what its status leaves unsaid, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from system_migration import wording
from system_migration.records import MigrationStatus, StatusReport
from system_migration.states import Status
from system_migration.web.dashboard import figures
from system_migration.web.dashboard.progress import rows_done

_LONGEST_REASON = 300


@dataclass(frozen=True)
class Reason:
    """Why it stands as it does. `at` is when its runner was last heard of, where that is what matters."""

    text: str
    bad: bool = False
    at: datetime | None = None


@dataclass(frozen=True)
class Standing:
    """One migration. `rate` is in rows a second, None where nothing was committed lately.

    `in_hand` are those that run or are paused now, each with how it stands.
    """

    m: MigrationStatus
    rate: float | None
    in_hand: Mapping[str, str] = field(default_factory=dict)

    @property
    def going(self) -> bool:
        """Whether a runner works on it now."""
        return is_going(self.m)

    @property
    def done(self) -> int:
        """Rows that are finished: by the same rule as on the screen of its run."""
        return rows_done(self.m.pulse, self.m.records_processed, going=self.going)

    @property
    def total(self) -> int | None:
        """Of how many, while that is of interest."""
        return self.m.pulse.total if self.m.pulse is not None else None

    @property
    def phase(self) -> str:
        """What its runner does now."""
        return self.m.pulse.phase or "" if self.m.pulse is not None and self.going else ""

    @property
    def pace(self) -> str:
        """How fast it goes, and how long that takes."""
        if not self.going or self.rate is None:
            return ""
        left = figures.time_left(self.done, self.total, self.rate)
        return f"{wording.speed(self.rate)}, {left}" if left else wording.speed(self.rate)

    @property
    def notes(self) -> list[str]:
        """What a person should know beside the status: without what other columns say."""
        elsewhere = (
            f"{self.m.issues:,} {wording.left(self.m.status)}",
            wording.waits_for(self.m),
            wording.waits_for_schema(self.m),
        )
        return [note for note in notes(self.m) if note not in elsewhere]

    @property
    def reasons(self) -> list[Reason]:
        """Why it stands as it does, and what to do about it."""
        return [*_reasons(self.m), *_waiting(self.m, self.in_hand)]


def notes(m: MigrationStatus) -> list[str]:
    """What a person should know beside the badge, which says itself that it is stale."""
    return [note for note in wording.notes(m) if note != "stale"]


def is_going(m: MigrationStatus) -> bool:
    """Whether a runner works on it now."""
    return m.status is Status.RUNNING and not m.stale


def in_hand(report: StatusReport) -> Mapping[str, str]:
    """Those that somebody works on, or has paused, each with how it stands."""
    return {m.name: m.status.value.lower() for m in report.migrations if is_going(m) or m.status is Status.PAUSED}


def needs_attention(m: MigrationStatus) -> bool:
    """Whether it stays as it is until a person decides: failed, paused, or its runner is gone."""
    return m.status in (Status.FAILED, Status.PAUSED) or m.stale


def _reasons(m: MigrationStatus) -> Iterator[Reason]:
    if m.stale:
        yield _stale(m)
    elif is_going(m) and m.pulse is not None and m.pulse.waiting:
        yield Reason(f"Waiting: {m.pulse.waiting}")
    if m.error and m.status in (Status.FAILED, Status.PAUSED):
        yield Reason(first_line(m.error), bad=m.status is Status.FAILED and not m.cancelled)


def _waiting(m: MigrationStatus, in_hand: Mapping[str, str]) -> Iterator[Reason]:
    """What it waits for: those that are worked on stand in the way for a while, others until a person names them."""
    if m.waits_for_schema:
        yield Reason(f"Waits for {m.waits_for_schema}.")
    found: dict[str, list[str]] = {}
    for name in m.waits_for:
        found.setdefault(f"is {in_hand[name]}" if name in in_hand else "no run would do by itself", []).append(name)
    for how, names in found.items():
        yield Reason(f"Waits for {', '.join(names)}, which {how}.")


def _stale(m: MigrationStatus) -> Reason:
    heard = m.pulse.at if m.pulse is not None else None
    what = "Its runner stopped at a clean checkpoint." if m.interrupted else "Its runner is gone."
    return Reason(f"{what} Run it again: it goes on from there.", at=heard)


def first_line(text: str) -> str:
    """The first line of an error, shortened."""
    line = next(iter(text.strip().splitlines()), "").rstrip()
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}…"
