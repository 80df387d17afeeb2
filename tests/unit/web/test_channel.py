"""When who listens to a run is woken: for what is new at once, for a pulse alone not more than once a second."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from system_migration.records import Followed, Pulse, Run, Tally
from system_migration.states import RunKind
from system_migration.web.following import Channel, Cursor, Entry

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
RUN = Run("r1", "001-x", RunKind.RUN, None, 1, "ada", "host", AT, None, 0, 0, None)
QUIET = Followed(RUN, "running", None, None, Tally(0, 0, 0, 0, 0, 0))


def saying(done: int) -> Followed:
    return replace(QUIET, pulse=Pulse(AT + timedelta(seconds=done), "migrating", done, 100, None, 10, 1))


class Listener:
    """Somebody who waits for the next turn of a channel."""

    def __init__(self) -> None:
        self.channel = Channel(QUIET)
        self.turn = self.channel.turn

    def is_woken_by(self, view: Followed, moment: float) -> bool:
        self.channel.update(view, moment)
        woken, self.turn = self.turn.is_set(), self.channel.turn
        return woken


@pytest.fixture
def listener() -> Listener:
    async def begin() -> Listener:
        return Listener()

    return asyncio.run(begin())


def test_a_pulse_alone_wakes_them_once_a_second(listener: Listener) -> None:
    woken = [listener.is_woken_by(saying(number), 100.0 + number / 4) for number in range(12)]
    assert woken == [True, False, False, False] * 3
    assert listener.channel.view == saying(8)


def test_what_was_held_back_is_told_when_its_second_is_over(listener: Listener) -> None:
    assert listener.is_woken_by(saying(1), 100.0)
    assert not listener.is_woken_by(saying(2), 100.5)
    assert listener.is_woken_by(saying(2), 101.0)
    assert not listener.is_woken_by(saying(2), 105.0)


def test_whatever_else_is_new_wakes_them_at_once(listener: Listener) -> None:
    assert listener.is_woken_by(saying(1), 100.0)
    assert listener.is_woken_by(replace(saying(2), request="pause"), 100.1)
    assert listener.is_woken_by(replace(saying(3), state="stale"), 100.2)
    assert listener.is_woken_by(replace(saying(4), last_line=1, state="stale"), 100.3)


def test_of_the_pages_for_whatever_was_seen_the_newest_are_kept() -> None:
    async def read() -> list[Entry]:
        return []

    async def keep() -> list[Cursor]:
        channel = Channel(QUIET)
        for line in range(40):
            page = asyncio.ensure_future(read())
            channel.keep(Cursor(line), page)
            assert await page == []
        return list(channel.pages)

    assert asyncio.run(keep()) == [Cursor(line) for line in range(24, 40)]
