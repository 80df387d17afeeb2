"""What a killed runner said last: readable until somebody takes over, and gone then."""

from __future__ import annotations

from system_migration import Migrator, Registry, Settings
from system_migration.records import Pulse
from tests.crash.harness import ENVIRONMENT, Gate, Job
from tests.crash.subjects import InPlace, Items
from tests.crash.test_takeover import expect_completed, stop_in_transform
from tests.crash.waiting import wait_until


def test_the_last_pulse_outlives_its_runner_until_a_takeover(items: Items, gate: Gate, second_gate: Gate) -> None:
    looking = Migrator(items.engine, Registry([InPlace]), Settings(environment=ENVIRONMENT))

    def pulse() -> Pulse | None:
        (standing,) = looking.status().migrations
        return standing.pulse

    with Job(items.url, InPlace, lease_seconds=0.9).start(stop_in_transform(gate)) as runner:
        runner.wait_for(gate)
        wait_until(lambda: (said := pulse()) is not None and said.batch_size == 3)
        runner.kill()
    before = pulse()
    wait_until(lambda: looking.status().migrations[0].stale)
    assert before is not None
    assert (before.phase, before.done, before.total, before.workers) == ("migrating", 0, 6, 1)
    assert pulse() == before
    (run,) = looking.history()
    assert looking.run_by_id(run.id).pulse == before
    wait_until(items.lease_is_free)
    with Job(items.url, InPlace).start(stop_in_transform(second_gate)) as heir:
        heir.wait_for(second_gate)
        assert (said := pulse()) is None or said.at > before.at
        second_gate.open()
        expect_completed(items, heir)
    looking.close()
