"""The lease: taken, renewed and released by compare-and-set, in the database's time, under a fence that only grows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, event, select, update

from system_migration.clock import SystemClock
from system_migration.errors import LeaseLost
from system_migration.lease import HeldLease, ensure_row
from system_migration.store import leases, tables, tracking
from system_migration.store.database import Database
from system_migration.store.leases import Claim
from system_migration.store.times import after, now
from tests.db.test_workbench import quick
from tests.support.chains import head_last

LEASE = ("test", "001-x")
US, THEM = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"


@pytest.fixture(autouse=True)
def _with_the_head_locked_last() -> Iterator[None]:
    with head_last():
        yield


class FakeClock:
    """Monotonic time that passes when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def database(engine: Engine) -> Iterator[Database]:
    """A database with the tracking tables and a lease nobody holds."""
    made = Database(quick(engine))
    tracking.ensure(made, "test")
    ensure_row(made, *LEASE)
    yield made
    made.close()


def acquire(database: Database, holder: str = US, seconds: float = 30.0) -> Claim | None:
    with database.write() as connection:
        return leases.acquire(connection, *LEASE, holder, f"{holder[-1]} on host", seconds)


def taken(database: Database, holder: str = US, seconds: float = 30.0) -> Claim:
    claim = acquire(database, holder, seconds)
    assert claim is not None
    return claim


def renew(database: Database, claim: Claim) -> bool:
    with database.write() as connection:
        return leases.renew(connection, claim)


def release(database: Database, claim: Claim) -> None:
    with database.write() as connection:
        leases.release(connection, claim)


def holder(database: Database) -> str | None:
    with database.read() as connection:
        return leases.holder(connection, *LEASE)


def let_pass(database: Database, *, expired: float, takeover: float) -> None:
    """Move the lease's times, in seconds from the database's now."""
    with database.write() as connection:
        connection.execute(update(tables.lease).values(expires_at=after(expired), takeover_at=after(takeover)))


def test_one_holder_at_a_time(database: Database) -> None:
    assert holder(database) is None
    ours = taken(database)
    assert (ours.holder, ours.fence) == (US, 1)
    assert holder(database) == "1 on host"
    assert acquire(database, THEM) is None
    release(database, ours)
    assert holder(database) is None
    assert taken(database, THEM).fence == 2


def test_a_claim_whose_answer_was_lost_knows_its_lease_again(database: Database) -> None:
    """The holder is a UUID of the claim: only an earlier attempt of the same claim can have taken it."""
    lost = taken(database)
    again = taken(database)
    assert again.fence == lost.fence + 1
    assert (renew(database, lost), renew(database, again)) == (False, True)
    assert acquire(database, THEM) is None


def test_only_the_holder_of_the_newest_fence_renews(database: Database) -> None:
    ours = taken(database)
    assert renew(database, ours)
    stranger = Claim(*LEASE, THEM, ours.fence, 30.0)
    older = Claim(*LEASE, US, ours.fence - 1, 30.0)
    elsewhere = Claim("production", LEASE[1], US, ours.fence, 30.0)
    assert not any(renew(database, claim) for claim in (stranger, older, elsewhere))
    release(database, stranger)
    release(database, older)
    assert holder(database) == "1 on host"  # releasing what is not ours changes nothing
    release(database, ours)
    assert not renew(database, ours)


def test_it_is_taken_over_only_after_its_expiry_and_a_sixth_more(database: Database) -> None:
    ours = taken(database)
    let_pass(database, expired=-1.0, takeover=60.0)
    assert holder(database) is None  # nobody alive holds it ...
    assert acquire(database, THEM) is None  # ... but it may not be taken yet
    assert renew(database, ours)  # and the holder may come back
    let_pass(database, expired=-1.0, takeover=-0.001)
    theirs = taken(database, THEM)
    assert theirs.fence == ours.fence + 1
    assert not renew(database, ours)
    release(database, ours)
    assert holder(database) == "2 on host"


@pytest.mark.parametrize("seconds", [30.0, 0.6])
def test_its_times_are_the_databases(database: Database, seconds: float) -> None:
    def span() -> tuple[timedelta, timedelta, datetime, datetime]:
        with database.read() as connection:
            row = connection.execute(select(tables.lease, now().label("now"))).one()
        return row.expires_at - row.renewed_at, row.takeover_at - row.renewed_at, row.renewed_at, row.now

    def near(found: timedelta, wanted: float) -> bool:
        return abs(found.total_seconds() - wanted) < 0.05  # three readings of a clock in one statement

    claim = taken(database, seconds=seconds)
    lasts, guarded, renewed, current = span()
    assert near(lasts, seconds)
    assert near(guarded, seconds * 7 / 6)
    assert renewed.tzinfo is UTC
    assert abs(datetime.now(UTC) - current) < timedelta(minutes=1)  # the same machine, so about the same clock
    assert renew(database, claim)
    assert near(span()[0], seconds)
    assert span()[2] >= renewed


def test_the_fence_only_grows(database: Database) -> None:
    fences = []
    with database.write() as connection:
        for turn in range(200):
            claim = leases.acquire(connection, *LEASE, (US, THEM)[turn % 2], "somebody", 30.0)
            assert claim is not None
            leases.release(connection, claim)
            fences.append(claim.fence)
    assert fences == list(range(1, 201))


def test_the_row_is_made_once(database: Database) -> None:
    claim = taken(database)
    ensure_row(database, *LEASE)
    assert holder(database) == "1 on host"
    release(database, claim)
    ensure_row(database, *LEASE)
    assert taken(database).fence == 2


# --- holding it ------------------------------------------------------------------------------------------------------


def test_a_held_lease_asks_the_database_only_after_its_local_deadline(database: Database) -> None:
    clock = FakeClock()
    held = HeldLease(database, taken(database), clock, clock.monotonic())
    writes: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *event: writes.append(event[2]))
    clock.sleep(19.9)
    held.check()
    assert writes == []
    clock.sleep(0.2)  # two thirds of thirty seconds
    held.check()
    assert any(statement.startswith("UPDATE system_migration_lease") for statement in writes)
    writes.clear()
    clock.sleep(19.9)
    held.check()
    assert writes == []


def test_a_lease_that_was_taken_over_is_lost_for_good(database: Database) -> None:
    clock = FakeClock()
    held = HeldLease(database, taken(database), clock, clock.monotonic())
    let_pass(database, expired=-1.0, takeover=-0.001)
    theirs = taken(database, THEM)
    held.check()  # within the deadline: the fence protects the data meanwhile
    clock.sleep(25.0)
    with pytest.raises(LeaseLost, match="another runner took it over"):
        held.check()
    release(database, theirs)
    with pytest.raises(LeaseLost):
        held.check()


def test_the_deadline_counts_from_before_the_claim_was_sent(database: Database) -> None:
    clock = FakeClock()
    held = HeldLease(database, taken(database), clock, anchor=clock.monotonic() - 25.0)  # the answer took 25 s
    let_pass(database, expired=-1.0, takeover=-0.001)
    taken(database, THEM)
    with pytest.raises(LeaseLost):
        held.check()


def test_leaving_the_block_releases_it(database: Database) -> None:
    clock = FakeClock()
    with HeldLease(database, taken(database), clock, clock.monotonic()).beating():
        assert holder(database) == "1 on host"
    assert holder(database) is None
    with pytest.raises(ZeroDivisionError):
        with HeldLease(database, taken(database), clock, clock.monotonic()).beating():
            raise ZeroDivisionError
    assert holder(database) is None


def test_the_heartbeat_renews_from_its_own_thread(database: Database) -> None:
    """Waits for the beat itself, not for a time."""
    import threading

    beaten = threading.Event()
    main = threading.get_ident()

    def hear(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE system_migration_lease") and threading.get_ident() != main:
            beaten.set()

    clock = SystemClock()
    event.listen(database.engine, "before_cursor_execute", hear)
    with HeldLease(database, taken(database, seconds=0.3), clock, clock.monotonic()).beating():
        assert beaten.wait(60)
