"""A migration beside two processes that change its rows all the time: no write is lost, no row is forgotten."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa

from system_migration import BatchMigration, Row
from system_migration.records import RunReport
from tests.crash import controls
from tests.crash.harness import PATIENCE, Child, Job, engine_for
from tests.crash.oracle import SPREAD, Judgement, Writer, fill, judge, live
from tests.support.host import wait_for
from tests.support.torture import SEED

WRITERS = 2
LONG = 10 * PATIENCE
pytestmark = pytest.mark.timeout(LONG)


class Pace:
    """Keeps a migration and its writers together: neither is ever far ahead of the other."""

    def __init__(self, rows: int, changes: int) -> None:
        shared = multiprocessing.get_context("fork").Value
        self._rows, self._changes = rows, changes
        self._changed, self._reached = shared("q", 0), shared("q", 0)

    def at(self, key: int) -> None:
        """In the migration: here it is now, and waits for the writers to have done their share."""
        place = min(key // SPREAD, self._rows)
        with self._reached.get_lock():
            self._reached.value = max(self._reached.value, place)
        share = place * self._changes // self._rows
        wait_for(lambda: bool(self._changed.value >= share), PATIENCE, "the writers")

    def change(self) -> None:
        """In a writer: one more change, when it is not too early. The quarter is what is read, but not yet met."""
        with self._changed.get_lock():
            self._changed.value += 1
            mine = self._changed.value - self._changes // 4
        wait_for(lambda: bool(self._reached.value * self._changes >= mine * self._rows), PATIENCE, "the migration")

    def end(self) -> None:
        """The migration is over."""
        self._reached.value = self._rows


class Live(BatchMigration):
    """Without `pending`: done once, by the ledger."""

    name = "001-live"
    table = "live"
    reads: ClassVar[tuple[str, ...]] = ("id", "y")
    writes: ClassVar[tuple[str, ...]] = ("y", "z")
    pace: ClassVar[Pace]

    def transform(self, row: Row) -> Mapping[str, Any]:
        self.pace.at(row.id)
        return {"y": row.y + 1, "z": 10 * row.y}


class LiveFlagged(Live):
    """With `pending`: rows that appear or move are found by a later pass."""

    name = "001-live-flagged"
    writes = ("y", "z", "done")

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.done == 0

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {**super().transform(row), "done": 1}


@dataclass(frozen=True)
class Beside:
    """A run beside writers: how it ended, and what the oracle says."""

    report: RunReport
    judgement: Judgement


def run_beside_writers(
    url: str, form: type[Live], rows: int, kinds: str, arrange: Callable[[], None] = lambda: None
) -> Beside:
    """Run with two workers while two processes make half as many changes as there are rows."""
    engine, changes, flagged = engine_for(url), rows // 2, form is LiveFlagged
    notes = fill(engine, rows)
    engine.dispose()
    form.pace = Pace(rows, changes)

    def migrate(_: Child) -> RunReport:
        arrange()
        try:
            (report,) = Job(url, form, batch_size=rows // 20, workers=2).run()
        finally:
            form.pace.end()
        return report

    def write(number: int) -> Any:
        writer = Writer(engine_for(url), number, WRITERS, rows, SEED, kinds)
        return writer.work(changes // WRITERS, form.pace.change)

    with ExitStack() as stack:
        migration = stack.enter_context(Child(migrate))
        writers = [stack.enter_context(Child(lambda _, number=n: write(number))) for n in range(WRITERS)]
        endings = [child.wait(LONG) for child in (migration, *writers)]
    for ending in endings:
        assert ending.error is None, ending.message
    with engine.connect() as connection:
        found = connection.execute(sa.select(live.c.uid, live.c.y, live.c.z)).all()
    engine.dispose()
    all_notes = sum((ending.value for ending in endings[1:]), notes)
    return Beside(endings[0].value, judge(all_notes, found, lambda uid: flagged or uid <= rows))


both_forms = pytest.mark.parametrize("form", [Live, LiveFlagged])


@both_forms
def test_live_writers_lose_nothing_and_every_row_is_migrated_once(
    database_url: str,
    form: type[Live],
    request: pytest.FixtureRequest,
    publish: Callable[[str], None],
    scale: Callable[[int, int], int],
) -> None:
    kinds = "u" * 12 + "id" + ("m" if form is LiveFlagged else "")  # only a flag travels with the row
    beside = run_beside_writers(database_url, form, scale(2_000, 20_000), kinds)
    met = beside.report.changed_meanwhile
    publish(f"live writers {request.node.callspec.id}: {beside.judgement}, {met} changed under its hands")
    assert beside.judgement.examples == []
    assert met > 0


@both_forms
def test_without_the_guard_live_writers_lose_writes(database_url: str, form: type[Live]) -> None:
    beside = run_beside_writers(database_url, form, 2_000, "u", controls.without_guard)
    assert beside.judgement.lost + beside.judgement.stale > 0
