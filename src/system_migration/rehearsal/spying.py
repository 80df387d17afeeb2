"""Which clocks and which chance the migration's code asks, learnt while it runs.

Values alone do not tell: what depends on the day is the same all day.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from types import FrameType
from typing import Any

from system_migration.rehearsal import user_code

_CLOCKS = {"time", "time_ns", "localtime", "gmtime", "ctime", "strftime"}
_OF_DATES = {"now", "utcnow", "today"}
_CHANCE = {"urandom", "getrandom"}


@dataclass
class Spied:
    """The first place at which a clock was read, and at which chance was asked."""

    clock: str | None = None
    chance: str | None = None


@contextmanager
def spying(files: frozenset[str]) -> Iterator[Spied]:
    """Watch the calls of this thread that come from these files, within the block."""
    spied, before = Spied(), sys.getprofile()

    def note(frame: FrameType, what: str, called: Any) -> None:
        if what != "c_call":
            return
        if spied.clock is None and _reads_clock(called) and frame.f_code.co_filename in files:
            spied.clock = f"{called.__name__}() at {user_code.place(frame)}"
        if spied.chance is None and _asks_chance(called):
            caller = user_code.caller_among(files, frame)
            spied.chance = None if caller is None else f"at {user_code.place(caller)}"

    sys.setprofile(note)
    try:
        yield spied
    finally:
        sys.setprofile(before)


def _reads_clock(called: Any) -> bool:
    """Clocks that tell the date. Those that only measure how long something takes do no harm."""
    name, owner = called.__name__, getattr(called, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, date):
        return name in _OF_DATES
    return name in _CLOCKS and getattr(called, "__module__", None) == "time"


def _asks_chance(called: Any) -> bool:
    owner = getattr(called, "__self__", None)
    return isinstance(owner, random.Random) or called.__name__ in _CHANCE
