"""A runner is frozen, threads and all, its lease runs out for real, another takes over, and the frozen one thaws."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter

import pytest
from sqlalchemy.exc import DBAPIError

from system_migration.errors import HeldElsewhere
from system_migration.records import RunReport
from system_migration.store.leases import GRACE
from tests.crash import controls
from tests.crash.harness import (
    COMMIT,
    STATEMENT,
    Child,
    Ending,
    Gate,
    Job,
    Moment,
    after_commit_of_a_batch,
    freeze,
)
from tests.crash.subjects import InPlace, Items, item

LEASE = 0.5
IDLE = 1.0
"""After this long the server ends a transaction of ours that does nothing."""
LATEST = LEASE + LEASE * GRACE + 1.0
FIRST_BATCH = {1, 2, 3}


@dataclass(frozen=True)
class Point:
    """Where a runner freezes."""

    name: str
    on_moment: Callable[[Moment], None] = lambda moment: None
    in_transform: bool = False


def once(when: Callable[[Moment], bool]) -> Callable[[Moment], None]:
    """Freeze at the first such moment."""
    frozen: list[Moment] = []

    def stop(moment: Moment) -> None:
        if when(moment) and not frozen:
            frozen.append(moment)
            freeze()

    return stop


def has_written(moment: Moment) -> bool:
    """The batch has written its rows, and goes on to something else."""
    return moment.kind == STATEMENT and moment.has_sent("UPDATE item") and not is_writing(moment)


def is_writing(moment: Moment) -> bool:
    return moment.transaction[-1].startswith("UPDATE item")


def holds_rows(moment: Moment) -> bool:
    """The batch has written its rows and its ledger entry, and has not passed the fence check."""
    return has_written(moment) and moment.transaction[-1].startswith("SELECT system_migration_run")


def has_passed_the_fence(moment: Moment) -> bool:
    return moment.kind == COMMIT and moment.has_sent("UPDATE item")


BETWEEN = Point("between batches", once(after_commit_of_a_batch))
IN_TRANSFORM = Point("in transform", in_transform=True)
HOLDING_ROWS = Point("in the transaction", once(holds_rows))
AFTER_THE_WRITE = Point("after the write", once(has_written))
AT_COMMIT = Point("before the commit", once(has_passed_the_fence))


@dataclass
class Rounds:
    """What the rounds of a test counted."""

    old_rows: int = 0
    told: list[str | None] = field(default_factory=list)
    takeovers: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        fenced = self.told.count("LeaseLost")
        slowest = f"slowest takeover {max(self.takeovers):.2f} s of {LATEST:.2f} s"
        return f"{len(self.told)} rounds, {self.old_rows} rows from an old fence, {fenced} fenced, {slowest}"


def zombie_at(
    point: Point, items: Items, arrange: Callable[[], None] = lambda: None, idle: float | None = None
) -> Child:
    """A runner that is about to freeze at the point."""

    def prepare() -> None:
        if idle is not None:
            controls.with_idle_seconds(idle)
        if point.in_transform:
            once_in_transform()
        arrange()

    return Job(items.url, InPlace, lease_seconds=LEASE).start(prepare, point.on_moment)


def once_in_transform() -> None:
    calls: list[None] = []

    def stop() -> None:
        calls.append(None)
        if len(calls) == 1:
            freeze()

    InPlace.before_transform = staticmethod(stop)


def heir_at(gate: Gate, items: Items) -> Child:
    """A process that starts again and again until it may take over; it stops before its first row."""

    def work(_: Child) -> list[RunReport]:
        InPlace.before_transform = staticmethod(gate.stop)
        job = Job(items.url, InPlace, lease_seconds=LEASE)
        while True:
            try:
                return job.run()
            except HeldElsewhere:
                time.sleep(0.02)

    return Child(work)


def one_round(items: Items, point: Point, rounds: Rounds, arrange: Callable[[], None] = lambda: None) -> Ending:
    """Freeze, take over, thaw while the heir has written nothing, look at the rows; then the heir ends the run, so."""
    with Gate() as gate, zombie_at(point, items, arrange) as zombie:
        zombie.wait_until_frozen()
        frozen = time.monotonic()
        with heir_at(gate, items) as heir:
            heir.wait_for(gate)
            rounds.takeovers.append(time.monotonic() - frozen)
            before = items.values()
            zombie.thaw()
            rounds.told.append(zombie.wait().error)
            after = items.values()
            rounds.old_rows += sum(before[key] != after[key] for key in before)
            gate.open()
            return heir.wait()


def points_of(kind: str) -> Iterator[Point]:
    """Frozen inside of a transaction, a runner on SQLite holds the only write lock: nobody can take over."""
    yield from (BETWEEN, IN_TRANSFORM)
    if kind != "sqlite":
        yield from (HOLDING_ROWS, AT_COMMIT)


def test_what_thaws_after_a_takeover_writes_nothing_and_says_so(
    items: Items, publish: Callable[[str], None], scale: Callable[[int, int], int]
) -> None:
    kind, rounds = items.kind, Rounds()
    for _ in range(scale(1, 5 if kind != "sqlite" else 10)):
        for point in points_of(kind):
            items.begin_anew()
            ending = one_round(items, point, rounds)
            assert ending.error is None, ending.message
            assert items.values() == items.migrated, point.name
    publish(f"zombies {kind}: {rounds}")
    assert rounds.old_rows == 0
    assert set(rounds.told) == {"LeaseLost"}
    assert max(rounds.takeovers) <= LATEST


@pytest.mark.parametrize("point", [BETWEEN, IN_TRANSFORM], ids=attrgetter("name"))
def test_without_the_fence_check_what_thaws_writes_rows(items: Items, point: Point) -> None:
    def arrange() -> None:
        controls.without_fence_check()
        controls.without_deadline()

    rounds = Rounds()
    one_round(items, point, rounds, arrange)
    assert rounds.old_rows > 0


# A frozen transaction and the rows that it has locked


def application_waits(items: Items, most: float) -> float:
    """How long the application's UPDATE of locked rows took. Raises DBAPIError when it takes more than `most`."""
    limit = {
        "postgresql": f"SET LOCAL lock_timeout = {int(most * 1000)}",
        "mysql": f"SET SESSION innodb_lock_wait_timeout = {int(most)}",
    }
    began = time.monotonic()
    with items.engine.begin() as connection:
        connection.exec_driver_sql(limit[items.engine.dialect.name])
        connection.execute(item.update().where(item.c.id.in_(FIRST_BATCH)).values(origin=0))
    return time.monotonic() - began


@pytest.mark.databases("postgresql", "mariadb")
@pytest.mark.parametrize("point", [HOLDING_ROWS, AFTER_THE_WRITE], ids=attrgetter("name"))
def test_the_server_ends_a_frozen_transaction_and_the_application_goes_on(
    items: Items, point: Point, publish: Callable[[str], None]
) -> None:
    with zombie_at(point, items) as zombie:
        zombie.wait_until_frozen()
        waited = application_waits(items, IDLE + 2)
    publish(f"frozen {point.name} {items.kind}: the application waited {waited:.2f} s of {IDLE + 1} s")
    assert waited <= IDLE + 1
    assert items.values() == items.initial


@pytest.mark.databases("postgresql", "mariadb")
def test_without_idle_timeouts_a_frozen_transaction_keeps_its_rows(items: Items) -> None:
    with zombie_at(HOLDING_ROWS, items, idle=3600) as zombie:
        zombie.wait_until_frozen()
        with pytest.raises(DBAPIError, match=r"(?i)lock (wait )?timeout"):
            application_waits(items, IDLE + 1)
