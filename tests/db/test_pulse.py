"""The pulse: what a runner says of its own run, as any other process reads it from the lease row."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine, create_engine, event, select, text

from system_migration import Migration, MigrationContext, MigrationResult, Migrator, Registry, RunOptions, Settings
from system_migration.batching.pace import Pace
from system_migration.errors import Interrupted, Paused
from system_migration.lease import HeldLease, ensure_row
from system_migration.records import Pulse
from system_migration.store import leases, pulses, tables, tracking
from system_migration.store.database import Database
from system_migration.store.pulses import Said
from tests.db.test_lease import LEASE, THEM, FakeClock, let_pass, release, taken
from tests.db.test_workbench import quick
from tests.support.host import wait_for
from tests.web.serving import PATIENCE, Increment, gated, make_items

BRISK = Settings(environment="staging", lease_seconds=0.9)
"""Its heartbeat beats three times a second."""


@pytest.fixture
def database(engine: Engine) -> Iterator[Database]:
    """A database with the tracking tables and a lease nobody holds."""
    made = Database(quick(engine))
    tracking.ensure(made, "test")
    ensure_row(made, *LEASE)
    yield made
    made.close()


class Speaker:
    """A run that says what the test has it say."""

    def __init__(self) -> None:
        self.said = Said("migrating", 0, 10_000, None, 500, 4)

    def says(self) -> Said:
        return self.said

    def moves(self) -> None:
        self.said = self.said._replace(done=(self.said.done or 0) + 1)


@contextmanager
def pulses_written(database: Database) -> Iterator[list[str]]:
    """The statements that write one."""
    written: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE system_migration_lease") and "pulse=" in statement:
            written.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield written
    event.remove(database.engine, "before_cursor_execute", note)


def stored(database: Database) -> Pulse | None:
    with database.read() as connection:
        row = connection.execute(select(tables.lease.c.pulse, tables.lease.c.pulse_at)).one()
    return pulses.decode(row.pulse, row.pulse_at)


def held_by_us(database: Database, clock: FakeClock, speaker: Speaker) -> HeldLease:
    return HeldLease(database, taken(database), clock, clock.monotonic(), says=speaker.says)


# --- writing it, under a clock that the test moves -------------------------------------------------------------------


def test_what_is_new_is_written_once_a_second_at_the_most(database: Database) -> None:
    clock, speaker = FakeClock(), Speaker()
    held = held_by_us(database, clock, speaker)
    with pulses_written(database) as written:
        for _ in range(60 * 4):  # a minute of looks, each of them at something new
            clock.sleep(0.25)
            speaker.moves()
            held.beat_if_due()
    assert 50 <= len(written) <= 60
    assert len([each for each in written if "expires_at" in each]) == 6  # the renewals say it too, and are no more
    pulse = stored(database)
    assert pulse is not None
    assert speaker.said.done == 240
    assert (pulse.done, pulse.total, pulse.batch_size, pulse.workers) == (240, 10_000, 500, 4)


def test_what_is_not_new_is_written_with_the_renewals_alone(database: Database) -> None:
    clock, speaker = FakeClock(), Speaker()
    held = held_by_us(database, clock, speaker)
    clock.sleep(1.0)
    held.beat_if_due()
    first = stored(database)
    with pulses_written(database) as written:
        for _ in range(60 * 4):
            clock.sleep(0.25)
            held.beat_if_due()
    assert len(written) == len([each for each in written if "expires_at" in each]) == 6
    last = stored(database)
    assert first is not None
    assert last is not None
    assert last.at > first.at


def test_a_talkative_run_holds_its_lease_no_longer(database: Database) -> None:
    """Who may take over, and when, depends on the renewals; a pulse between them says nothing of it."""
    clock, speaker = FakeClock(), Speaker()
    held = held_by_us(database, clock, speaker)
    let_pass(database, expired=-1.0, takeover=-0.001)
    clock.sleep(1.0)
    held.beat_if_due()
    assert stored(database) is not None
    assert taken(database, THEM).fence == held.claim.fence + 1


def test_who_takes_the_lease_finds_no_pulse_of_another(database: Database) -> None:
    clock, speaker = FakeClock(), Speaker()
    held = held_by_us(database, clock, speaker)
    clock.sleep(1.0)
    held.beat_if_due()
    release(database, held.claim)
    assert stored(database) is not None  # it stays for who wants to know how far it was
    taken(database, THEM)
    assert stored(database) is None


@pytest.mark.parametrize("seconds", [1.0, 10.0], ids=["news", "renewal"])
def test_who_has_lost_the_lease_writes_no_pulse(database: Database, seconds: float) -> None:
    clock, speaker = FakeClock(), Speaker()
    held = held_by_us(database, clock, speaker)
    let_pass(database, expired=-1.0, takeover=-0.001)
    theirs = taken(database, THEM)
    with pulses_written(database) as written:
        clock.sleep(seconds)
        held.beat_if_due()
    assert len(written) == 1
    assert stored(database) is None
    with database.write() as connection:
        assert leases.renew(connection, theirs)


@pytest.mark.databases("postgresql", "mariadb")
def test_news_waits_for_a_locked_lease_no_longer_than_a_renewal_can(database: Database) -> None:
    clock, speaker = FakeClock(), Speaker()
    held = held_by_us(database, clock, speaker)
    with pulses_written(database) as written, database.engine.connect() as other, other.begin():
        other.execute(select(tables.lease.c.name).with_for_update())
        clock.sleep(1.0)
        began = time.monotonic()
        held.beat_if_due()
        assert time.monotonic() - began < 3.0  # seconds for a slow machine, and fewer than any other lock is waited for
    assert len(written) == 1
    assert stored(database) is None


def test_a_database_that_takes_no_pulse_is_left_alone_until_a_renewal_gets_through(
    database: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, speaker = FakeClock(), Speaker()
    held = held_by_us(database, clock, speaker)

    def rename(old: str, new: str) -> None:
        with database.write() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    rename("system_migration_lease", "away")
    with pulses_written(database) as tried:
        for _ in range(9 * 4):
            clock.sleep(0.25)
            speaker.moves()
            held.beat_if_due()
    assert len(tried) == 1
    assert caplog.records == []  # nothing is lost yet, and the next renewal would say so
    rename("away", "system_migration_lease")
    clock.sleep(1.0)
    held.beat_if_due()
    clock.sleep(1.0)
    speaker.moves()
    held.beat_if_due()
    pulse = stored(database)
    assert pulse is not None
    assert pulse.done == speaker.said.done == 37


# --- reading it, in another process's place --------------------------------------------------------------------------


class Hesitant(Increment):
    """Held up until the test lets it go on."""

    name = "002-increment"
    reason: ClassVar[str | None] = None

    def healthy(self, context: MigrationContext) -> str | None:
        return Hesitant.reason


@pytest.fixture
def other(engine: Engine) -> Iterator[Migrator]:
    """Somebody who only looks, through connections of their own."""
    with Migrator(engine, Registry([Increment]), Settings(environment="staging")) as migrator:
        yield migrator


@contextmanager
def at_work(
    engine: Engine, work: Callable[[Migrator], Any], *migrations: type[Migration], rows: int = 20
) -> Iterator[None]:
    """Something that goes on in a thread, under a migrator of its own. It is stopped with the block."""
    make_items(engine, rows)
    with Migrator(engine, Registry(migrations or [Increment]), BRISK, executed_by="cli") as runner:

        def go() -> None:
            with suppress(Paused, Interrupted):
                work(runner)

        thread = threading.Thread(target=go)
        thread.start()
        try:
            yield
        finally:
            runner.request_stop(15)
            thread.join(PATIENCE)
            assert not thread.is_alive()


def pulse_of(other: Migrator) -> Pulse | None:
    newest = other.history(limit=1)
    return other.run_by_id(newest[0].id).pulse if newest else None


def see(other: Migrator, wanted: Callable[[Pulse], bool]) -> Pulse:
    """The first pulse of the newest run that is as it is wanted."""
    seen: list[Pulse] = []

    def look() -> bool:
        pulse = pulse_of(other)
        if pulse is not None and wanted(pulse):
            seen.append(pulse)
        return bool(seen)

    wait_for(look, PATIENCE, "the pulse")
    return seen[0]


def test_another_process_sees_how_a_run_goes(engine: Engine, other: Migrator) -> None:
    def run(runner: Migrator) -> None:
        runner.run(options=RunOptions(batch_size=5, workers=2))

    with gated(row=8) as gate, at_work(engine, run):
        assert gate.reached.wait(PATIENCE)
        pulse = see(other, lambda pulse: pulse.done is not None and pulse.done >= 5)
        assert (pulse.phase, pulse.total, pulse.waiting) == ("migrating", 20, None)
        assert (pulse.batch_size, pulse.workers) == (5, 2)
        (status,) = other.status().migrations
        assert status.pulse is not None
        assert (status.pulse.phase, status.pulse.total, status.pulse.workers) == ("migrating", 20, 2)
        assert pulse.at >= other.history()[0].started_at
        gate.opened.set()
        wait_for(lambda: other.run_by_id(other.history()[0].id).ended, PATIENCE, "the end")
    assert pulse_of(other) is None  # the record says how it ended; what was said before is no news
    assert other.status().migrations[0].pulse is None


def test_a_reason_to_wait_appears_and_is_over_when_rows_move(engine: Engine, other: Migrator) -> None:
    Hesitant.reason = "the replicas lag"
    options = RunOptions(batch_size=5, workers=1)
    with gated(row=8) as gate, at_work(engine, lambda runner: runner.run(options=options), Hesitant):
        pulse = see(other, lambda pulse: pulse.waiting is not None)
        assert (pulse.phase, pulse.done, pulse.waiting) == ("migrating", 0, "the replicas lag")
        Hesitant.reason = None
        pulse = see(other, lambda pulse: pulse.waiting is None)
        assert (pulse.phase, pulse.done, pulse.total) == ("migrating", 5, 20)
        gate.opened.set()


@pytest.mark.databases("sqlite")
def test_that_a_run_is_slow_is_no_reason_to_wait(
    engine: Engine, other: Migrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "note", lambda *_: "slow: for a reason")
    options = RunOptions(batch_size=5, workers=1)
    with gated(row=8) as gate, at_work(engine, lambda runner: runner.run(options=options)):
        assert see(other, lambda pulse: pulse.done == 5).waiting is None
        gate.opened.set()


@pytest.mark.databases("sqlite")
def test_the_size_of_a_batch_is_the_one_that_it_has_come_to(engine: Engine, other: Migrator) -> None:
    options = RunOptions(workers=1, max_issues=1)
    with gated(row=700) as gate, at_work(engine, lambda runner: runner.run(options=options), rows=800):
        assert gate.reached.wait(PATIENCE)  # in the second batch: the first one was measured
        assert see(other, lambda pulse: pulse.done == 500).batch_size == 600
        gate.opened.set()


@pytest.mark.databases("postgresql", "mariadb")  # on SQLite nobody else writes while `up` is in its transaction
def test_an_up_says_how_far_it_is(engine: Engine, other: Migrator) -> None:
    opened = threading.Event()

    class Up(Migration):
        name = "001-up"

        def up(self, context: MigrationContext) -> MigrationResult:
            context.progress(7)
            assert opened.wait(PATIENCE)
            return MigrationResult()

    with at_work(engine, lambda runner: runner.run(), Up):
        pulse = see(other, lambda pulse: pulse.done is not None)
        assert (pulse.phase, pulse.done, pulse.total) == ("migrating", 7, None)
        opened.set()


@pytest.mark.databases("sqlite")
def test_of_several_dry_runs_each_speaks_for_itself(engine: Engine, other: Migrator) -> None:
    class Later(Increment):
        name = "003-later"

        def transform(self, row: Any) -> dict[str, Any]:
            reached.set()
            assert opened.wait(PATIENCE)
            return {}

    reached, opened = threading.Event(), threading.Event()
    with at_work(engine, lambda runner: runner.dry_run(), Increment, Later):
        assert reached.wait(PATIENCE)
        pulse = see(other, lambda pulse: pulse.phase == "dry run")
        assert (pulse.done, pulse.total) == (None, None)
        opened.set()


@pytest.mark.databases("sqlite")
def test_a_verification_that_had_to_wait_is_known_to_go_on(engine: Engine, other: Migrator, tmp_path: Path) -> None:
    """Its rows do not move, and it begins no phase."""
    reached, opened, waited = threading.Event(), threading.Event(), list[bool]()

    def meet_a_lock() -> None:
        busy = create_engine(f"sqlite:///{tmp_path / 'busy.sqlite'}", connect_args={"timeout": 0})
        with busy.connect() as one, busy.connect() as two:
            one.exec_driver_sql("BEGIN IMMEDIATE")
            two.exec_driver_sql("BEGIN IMMEDIATE")

    class Checked(Increment):
        def check(self, row: Any) -> bool:
            if not waited:
                waited.append(True)
                meet_a_lock()
            reached.set()
            return opened.wait(PATIENCE)

    with at_work(engine, lambda runner: runner.run(), Checked):
        assert reached.wait(PATIENCE)
        assert see(other, lambda pulse: pulse.phase == "verifying").waiting is None
        opened.set()


@pytest.mark.parametrize("look", ["dry run", "verify"])
def test_what_only_looks_has_a_pulse_of_its_own(engine: Engine, other: Migrator, look: str) -> None:
    reached, opened = threading.Event(), threading.Event()

    class Slow(Increment):
        def wait(self) -> None:
            reached.set()
            assert opened.wait(PATIENCE)

        def transform(self, row: Any) -> dict[str, Any]:
            if look == "dry run" and row.origin == 20:
                self.wait()
            return {"y": row.y + 1}

        def check(self, row: Any) -> bool:
            if look == "verify" and verifying:
                self.wait()
            return True

    verifying: list[bool] = []

    def work(runner: Migrator) -> None:
        if look == "dry run":
            runner.dry_run(Slow.name)
        else:
            runner.run()
            verifying.append(True)
            runner.verify(Slow.name)

    with at_work(engine, work, Slow):
        assert reached.wait(PATIENCE)
        wanted = "dry run" if look == "dry run" else "verifying"
        pulse = see(other, lambda pulse: pulse.phase == wanted)
        assert pulse.waiting is None
        assert other.status().migrations[0].pulse is None  # it is no run of the migration
        opened.set()
