"""Two runners and one lease: a zombie writes nothing, a living runner is left alone, a latecomer finds it done.

A test of a defence fails when the defence is deleted from the library. The test after it, `test_without_...`, takes
the defence away in the child alone and sees the damage: proof that the first test looks in the right place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from system_migration.errors import HeldElsewhere
from system_migration.lease import HeldLease
from system_migration.running import runner
from system_migration.states import RunKind
from tests.crash import controls
from tests.crash.harness import (
    STATEMENT,
    Child,
    Gate,
    Job,
    Moment,
    after_commit_of_a_batch,
    at_commit_of_a_batch,
)
from tests.crash.subjects import InPlace, Items
from tests.crash.waiting import somebody_waits_for_a_lock, wait_until

FIRST_BATCH = {key: (y + 1 if key <= 3 else y) for key, y in Items.initial.items()}


def stop_in_transform(gate: Gate) -> Callable[[], None]:
    """For a child: its first transform stops at the gate."""

    def arrange() -> None:
        InPlace.before_transform = staticmethod(gate.stop)

    return arrange


def expect_completed(items: Items, child: Child) -> None:
    ending = child.wait()
    assert ending.error is None, ending.message
    assert items.values() == items.migrated
    assert items.status() == "COMPLETED"


# The fence check, last in every batch's transaction


def test_a_zombie_writes_nothing_after_a_takeover(items: Items, gate: Gate, second_gate: Gate) -> None:
    job = Job(items.url, InPlace)
    with job.start(stop_in_transform(gate)) as zombie:
        zombie.wait_for(gate)
        items.expire_lease()
        with job.start(stop_in_transform(second_gate)) as heir:
            heir.wait_for(second_gate)  # it has taken over, and written nothing yet
            gate.open()
            assert zombie.wait().error == "LeaseLost"
            assert items.values() == items.initial
            second_gate.open()
            expect_completed(items, heir)


def test_without_the_fence_check_a_zombie_writes_after_a_takeover(items: Items, gate: Gate, second_gate: Gate) -> None:
    def arrange_the_zombie() -> None:
        stop_in_transform(gate)()
        controls.without_fence_check()

    job = Job(items.url, InPlace)
    with job.start(arrange_the_zombie) as zombie:
        zombie.wait_for(gate)
        items.expire_lease()
        with job.start(stop_in_transform(second_gate)) as heir:
            heir.wait_for(second_gate)
            gate.open()
            zombie.wait()
            assert items.values() == items.migrated  # all of it the zombie's work


@pytest.mark.databases("postgresql", "mariadb")  # on SQLite the zombie holds the only write lock anyway
def test_a_takeover_waits_for_a_batch_that_has_passed_its_fence_check(
    items: Items, gate: Gate, second_gate: Gate, third_gate: Gate
) -> None:
    """Else the heir reads rows that the zombie is about to commit, and both do them."""

    def doze(moment: Moment) -> None:
        if at_commit_of_a_batch(moment):
            gate.stop()
        if after_commit_of_a_batch(moment):
            third_gate.stop()

    job = Job(items.url, InPlace)
    with job.start(on_moment=doze) as zombie:
        zombie.wait_for(gate)
        items.expire_lease()
        with job.start(stop_in_transform(second_gate)) as heir:
            wait_until(lambda: somebody_waits_for_a_lock(items.engine) or heir.is_at(second_gate))
            assert not heir.is_at(second_gate), "the heir has taken over while a batch was being committed"
            gate.open()
            heir.wait_for(second_gate)
            assert items.values() == FIRST_BATCH
            zombie.wait_for(third_gate)
            third_gate.open()
            assert zombie.wait().error == "LeaseLost"
            assert items.values() == FIRST_BATCH
            second_gate.open()
            expect_completed(items, heir)


# Everything read again once the lease is won


def at_the_claim(gate: Gate) -> Callable[[Moment], None]:
    """For a child: it has seen what there is to do, and stops before it asks for the lease."""

    def stop(moment: Moment) -> None:
        if moment.kind == STATEMENT and moment.transaction[-1].startswith("SELECT system_migration_lease.fence"):
            gate.stop()

    return stop


def test_a_starter_whose_plan_is_old_finds_the_work_done(items: Items, gate: Gate) -> None:
    job = Job(items.url, InPlace)
    with job.start(on_moment=at_the_claim(gate)) as latecomer:
        latecomer.wait_for(gate)
        Job(items.url, InPlace).run()
        gate.open()
        ending = latecomer.wait()
    assert (ending.error, ending.value) == (None, [])
    assert items.values() == items.migrated
    assert items.runs() == 1


def test_without_reading_again_a_starter_runs_what_is_done(items: Items, gate: Gate) -> None:
    def trust_the_plan() -> None:
        runner.decide_run = lambda *_, **__: lambda _connection, _row: RunKind.RUN

    job = Job(items.url, InPlace)
    with job.start(trust_the_plan, at_the_claim(gate)) as latecomer:
        latecomer.wait_for(gate)
        Job(items.url, InPlace).run()
        gate.open()
        latecomer.wait()
    assert items.runs() == 2


# The heartbeat, and the deadline nobody outlives unknowingly

LEASE = 1.0


def start_beside(items: Items) -> bool:
    """Whether another starter gets to run; it then runs to the end."""
    try:
        Job(items.url, InPlace, lease_seconds=LEASE).run()
    except HeldElsewhere:
        return False
    return True


def heart_stands_still() -> None:
    """For a child: its heartbeat never renews."""
    HeldLease._beat = lambda self: None  # type: ignore[method-assign]


def test_a_batch_that_outlasts_its_lease_keeps_it(items: Items, gate: Gate) -> None:
    with Job(items.url, InPlace, lease_seconds=LEASE).start(stop_in_transform(gate)) as child:
        child.wait_for(gate)
        until = time.monotonic() + 2.2 * LEASE
        while time.monotonic() < until:
            assert not start_beside(items)
            time.sleep(0.05)
        assert items.values() == items.initial
        gate.open()
        expect_completed(items, child)
    assert items.fence() == 1


def test_a_runner_past_its_deadline_stops_before_it_reads_another_batch(items: Items, gate: Gate) -> None:
    """Its heart stood still, its lease ran out for real, and another runner took over."""

    def arrange() -> None:
        heart_stands_still()
        InPlace.before_transform = staticmethod(lambda: os._exit(1) if gate.passed else None)

    def doze(moment: Moment) -> None:
        if after_commit_of_a_batch(moment):
            gate.stop()

    with Job(items.url, InPlace, lease_seconds=LEASE).start(arrange, doze) as sleeper:
        sleeper.wait_for(gate)
        wait_until(lambda: start_beside(items))
        gate.open()
        ending = sleeper.wait()
    assert ending.error == "LeaseLost", ending.message
    assert items.values() == items.migrated
    assert items.fence() == 2


def test_a_runner_past_its_deadline_goes_on_when_nobody_took_over(items: Items, gate: Gate) -> None:
    def doze(moment: Moment) -> None:
        if after_commit_of_a_batch(moment):
            gate.stop()

    with Job(items.url, InPlace, lease_seconds=LEASE).start(heart_stands_still, doze) as sleeper:
        sleeper.wait_for(gate)
        wait_until(items.lease_is_free)
        gate.open()
        expect_completed(items, sleeper)
    assert items.fence() == 1
