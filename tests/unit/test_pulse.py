"""What a run says of itself: remembered, passed on, and read back from the lease row whatever stands there."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from system_migration import facts
from system_migration.records import Pulse
from system_migration.running.pulse import Voice
from system_migration.states import RunKind
from system_migration.store import pulses
from system_migration.store.pulses import LONGEST_REASON, NOTHING, Said

NAME, AT = "001-x", datetime(2026, 11, 24, 12, tzinfo=UTC)


class Watcher:
    """A host's own `Progress`, which knows nothing of pulses."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def started(self, migration: str, run_id: str) -> None:
        self.told.append(("started", migration, run_id))

    def phase(self, migration: str, phase: str) -> None:
        self.told.append(("phase", migration, phase))

    def rows(self, done: int, total: int | None, held: int) -> None:
        self.told.append(("rows", done, total, held))

    def waiting(self, reason: str) -> None:
        self.told.append(("waiting", reason))


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def voice(watcher: Watcher) -> Voice:
    return Voice(watcher)


def test_what_happens_to_a_run_is_announced_from_its_beginning_to_its_end(watcher: Watcher) -> None:
    told: list[facts.Fact] = []
    voice, run = Voice(watcher, told.append), facts.WhichRun(NAME, "test", "r1", RunKind.RUN, 1, "ada", "here")
    voice.waiting("nobody knows which run")
    voice.began(run)
    voice.waiting("the replicas lag")
    voice.waiting("the replicas lag")
    voice.ended(facts.SUCCEEDED, 7, 1)
    voice.ended(facts.FAILED)  # what comes after the end is of no run
    voice.waiting("the database is away")
    assert [type(each) for each in told] == [facts.Began, facts.Waits, facts.Ended]
    assert {each.run for each in told} == {run}


def test_all_that_a_progress_is_told_goes_on_to_the_watcher_as_it_is(voice: Voice, watcher: Watcher) -> None:
    voice.started(NAME, "r1")
    voice.phase(NAME, "migrating")
    voice.rows(3, None, 1)
    voice.waiting("the replicas lag")
    voice.sized(500, 4)
    voice.remark("slow today")
    assert watcher.told == [
        ("started", NAME, "r1"),
        ("phase", NAME, "migrating"),
        ("rows", 3, None, 1),
        ("waiting", "the replicas lag"),
        ("waiting", "slow today"),
    ]


def test_it_knows_what_was_said_last_of_each(voice: Voice) -> None:
    assert voice.said() == NOTHING
    voice.phase(NAME, "migrating")
    voice.rows(3, 10, 1)
    voice.sized(500, 4)
    assert voice.said() == Said("migrating", 3, 10, None, 500, 4)
    voice.rows(4, None, 1)
    assert voice.said() == Said("migrating", 4, None, None, 500, 4)


def test_who_works_in_a_cluster_is_kept_and_shown_to_who_wants_to_see_it(voice: Voice, watcher: Watcher) -> None:
    class Seeing(Watcher):
        def staff(self, text: str) -> None:
            self.told.append(("staff", text))

    voice.staff("2 workers: a, b")  # a host's own `Progress` need not know of clusters
    assert (voice.said().cluster, watcher.told) == ("2 workers: a, b", [])
    seeing = Seeing()
    Voice(seeing).staff("1 worker: b; 1 lost")
    assert seeing.told == [("staff", "1 worker: b; 1 lost")]
    found = pulses.decode(pulses.encode(voice.said()), AT)
    assert found is not None
    assert found.cluster == "2 workers: a, b"


def test_a_wait_is_over_as_soon_as_rows_move(voice: Voice) -> None:
    voice.rows(3, 10, 0)
    voice.waiting("the replicas lag")
    voice.rows(3, 10, 0)  # told again, and no row further
    assert voice.said().waiting == "the replicas lag"
    voice.rows(4, 10, 0)
    assert voice.said().waiting is None


def test_a_wait_is_over_as_soon_as_a_phase_begins(voice: Voice) -> None:
    voice.sized(500, 4)
    voice.waiting("the database is away")
    voice.phase(NAME, "verifying")
    assert voice.said() == Said("verifying")  # and nobody writes batches in it


def test_a_wait_is_over_when_it_is_said(voice: Voice) -> None:
    voice.waiting("the database is away")
    voice.goes_on()
    assert voice.said().waiting is None


def test_a_remark_is_no_reason_to_wait(voice: Voice) -> None:
    voice.remark("as fast as before again")
    assert voice.said().waiting is None


def test_what_is_remembered_is_short(voice: Voice, watcher: Watcher) -> None:
    voice.waiting("x" * 10_000)
    voice.phase(NAME, "y" * 10_000)
    said = voice.said()._replace(waiting="z" * LONGEST_REASON)
    assert len(pulses.encode(said)) < 400
    voice.waiting("x" * 10_000)
    assert voice.said().waiting == "x" * (LONGEST_REASON - 1) + "…"
    assert watcher.told[-1] == ("waiting", "x" * 10_000)


class Odd:
    def __int__(self) -> int:
        raise ZeroDivisionError

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("given", "kept"),
    [(Decimal(7), 7), (7.9, 7), (math.nan, None), (math.inf, None), ("many", None), (10**30, None), (Odd(), None)],
    ids=repr,
)
def test_a_migration_may_count_in_any_type_and_never_stops_the_heartbeat(voice: Voice, given: Any, kept: Any) -> None:
    voice.rows(given, given, 0)
    said = voice.said()
    assert (said.done, said.total) == (kept, kept)
    assert said == said  # as the heartbeat compares it
    pulses.encode(said)


@pytest.mark.parametrize(
    "said", [NOTHING, Said("migrating", 3, 10, 'it said "no"\n\x00 ünd', 500, 4), Said(done=0, workers=1)]
)
def test_it_is_read_as_it_was_written(said: Said) -> None:
    text = pulses.encode(said)
    assert text.isascii()
    assert pulses.decode(text, AT) == Pulse(AT, *said)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "3", '"x"', "[" * 100_000])
def test_what_cannot_be_read_is_no_pulse(text: str | None) -> None:
    assert pulses.decode(text, AT) is None


def test_what_another_version_says_is_read_as_far_as_it_is_understood() -> None:
    text = '{"phase": 3, "done": "many", "total": 10, "mood": "good"}'
    assert pulses.decode(text, AT) == Pulse(AT, None, None, 10, None, None, None)
    assert pulses.decode(text, None) is None


def test_what_is_read_can_be_sent() -> None:
    """A reason may name a file whose name is no text."""
    pulse = pulses.decode(pulses.encode(Said(waiting="no \udc80")), AT)
    assert pulse is not None
    assert (pulse.waiting or "").encode() == b"no ?"
