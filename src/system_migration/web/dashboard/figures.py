"""Numbers for people: grouped, and what follows from two of them. Pure."""

from __future__ import annotations

from system_migration import wording


def number(count: int | float | None) -> str:
    """A count with its thousands grouped; a dash where there is none."""
    return "–" if count is None else f"{count:,}"


def plain(said: object) -> str:
    """A number as a person types it: without a decimal that says nothing."""
    return str(int(said)) if isinstance(said, float) and said.is_integer() else str(said)


def percent(done: int, total: int | None) -> int | None:
    """How much is done, in whole percent; 100 only when all is. None where the total is not known."""
    if not total:
        return None
    return 100 if done >= total else min(99, done * 100 // total)


def seconds_left(done: int, total: int | None, rate: float | None) -> float | None:
    """How long the rest takes at this rate, in rows a second."""
    if not total or not rate or rate <= 0 or done >= total:
        return None
    return (total - done) / rate


def time_left(done: int, total: int | None, rate: float | None) -> str:
    """The same in words."""
    seconds = seconds_left(done, total, rate)
    return "" if seconds is None else f"about {wording.duration(seconds)} left"
