"""A rollback is killed again and again while the application writes: it restores what is ours and touches nothing else.

`--long` takes ten times the rows, the edits and the kills; the seed chooses them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from system_migration.running import undo_batches, undo_comparison
from system_migration.store import tables
from tests.crash.harness import (
    COMMIT,
    STATEMENT,
    Child,
    Gate,
    Job,
    Moment,
    after_commit_of_a_batch,
    at_commit_of_a_batch,
)
from tests.crash.subjects import Items, Undoable, fill_items, forget_runs, item
from tests.support.databases import KINDS, MakeDatabaseUrl
from tests.support.torture import SEED, scale

SCALE = scale(1, 10)
ROWS, EDITS, KILLS = 2_000 * SCALE, 50 * SCALE, 10 * SCALE
BATCH = 50
STRIDE = 1 if SCALE > 1 else 6
pytestmark = pytest.mark.timeout(600)


class Application:
    """Its edits: what each edited row became, or None for a deleted one. No row is edited twice."""

    def __init__(self, items: Items, initial: Mapping[int, int], numbers: random.Random) -> None:
        self._items, self._initial = items, initial
        self._keys = numbers.sample(sorted(initial), len(initial))
        self.edited: dict[int, int | None] = {}

    def choose(self, count: int) -> list[int]:
        chosen, self._keys = self._keys[:count], self._keys[count:]
        self.edited |= {key: None if key % 7 == 0 else -key for key in chosen}
        return chosen

    def write(self, keys: Iterable[int]) -> None:
        for key in keys:
            if (y := self.edited[key]) is None:
                self._items.change(item.delete().where(item.c.id == key))
            else:
                self._items.write(key, y=y)

    def edit(self, count: int) -> None:
        self.write(self.choose(count))

    def expect(self, found: Mapping[int, int], listed: Mapping[Any, str]) -> None:
        """All others are what they were; the edited ones are what the application made of them, and are listed."""
        expected = {key: self.edited.get(key, y) for key, y in self._initial.items()}
        assert found == {key: y for key, y in expected.items() if y is not None}
        reasons = {key: "vanished_since" if y is None else "changed_since" for key, y in self.edited.items()}
        assert listed == reasons


def migrated(url: str, initial: Mapping[int, int], batch: int) -> tuple[Items, Job]:
    """Items that were migrated by a run, and the job that rolls them back."""
    items = Items(url)
    with items.engine.begin() as connection:
        fill_items(connection, initial)
    Job(url, Undoable, batch_size=batch).run()
    assert items.values() == {key: y + 1 for key, y in initial.items()}
    return items, Job(url, Undoable, undo=True)


def within_some_part(numbers: random.Random) -> Callable[[Moment], bool]:
    """A moment in or shortly after the first part that this child undoes; now and then one before all of them."""
    early = numbers.randrange(4) == 0
    number, seen = numbers.randint(1, 40 if early else 12), 0

    def when(moment: Moment) -> bool:
        nonlocal seen
        seen += bool(early or seen or moment.has_sent("UPDATE item"))
        return seen == number

    return when


def at_the_end(kind: str) -> Callable[[Moment], bool]:
    """A moment of the transaction that records the rollback."""
    return lambda moment: (
        moment.kind == kind
        and moment.has_sent(f"INSERT INTO {tables.event.name}")
        and any(
            statement.startswith(f"UPDATE {tables.migration.name}") and "generation" in statement.partition("WHERE")[0]
            for statement in moment.transaction
        )
    )


@pytest.mark.parametrize("kind", KINDS)
def test_killed_again_and_again_it_restores_all_but_what_the_application_changed(
    kind: str, make_database_url: MakeDatabaseUrl, publish: Callable[[str], None]
) -> None:
    numbers = random.Random(f"{SEED} {kind}")
    initial = {key: numbers.randrange(1_000) for key in range(1, ROWS + 1)}
    items, job = migrated(make_database_url(kind), initial, BATCH)
    application = Application(items, initial, numbers)
    application.edit(EDITS // 2)
    kills: list[Moment] = []
    during = [EDITS // 2 * n // (KILLS - 1) - EDITS // 2 * (n - 1) // (KILLS - 1) for n in range(1, KILLS)]
    for whenever in [*(within_some_part(numbers) for _ in range(KILLS - 1)), at_the_end(COMMIT)]:
        ending = job.start_and_kill(whenever)
        assert ending.killed_at is not None, ending.message
        kills.append(ending.killed_at)
        items.expire_lease()
        if during:
            application.edit(during.pop())
    job.roll_back()
    application.expect(items.values(), job.listed())
    assert items.status() == "ROLLED_BACK"
    items.close()
    publish(
        f"rollback {kind}: {ROWS - len(application.edited):,} restored, {len(application.edited)} edited and listed, "
        f"0 others touched, {len(kills)} kills"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_rows_edited_while_their_part_is_locked_are_listed(
    kind: str, make_database_url: MakeDatabaseUrl, gate: Gate, second_gate: Gate
) -> None:
    """The application's write waits for the part and comes after it; others come before their part's turn."""
    initial = {key: key for key in range(1, 31)}
    items, job = migrated(make_database_url(kind), initial, 10)
    application = Application(items, initial, random.Random(SEED))
    chosen = application.choose(9)

    def stop_before_verifying() -> None:
        original = undo_batches.UndoBatches._verify

        def verify(self: Any, total: int) -> None:
            second_gate.stop()
            original(self, total)

        undo_batches.UndoBatches._verify = verify  # type: ignore[method-assign]

    def in_a_part(moment: Moment) -> None:
        if moment.kind == STATEMENT and moment.transaction[-1].startswith("UPDATE item"):
            gate.stop()

    with ExitStack() as stack:
        rollback = stack.enter_context(job.start(stop_before_verifying, in_a_part))
        rollback.wait_for(gate)
        if kind != "sqlite":  # which has one lock for everything
            with pytest.raises(DBAPIError), items.engine.connect() as connection:
                connection.execute(sa.select(item.c.id).where(item.c.id == 30).with_for_update(nowait=True))
        editor = stack.enter_context(Child(lambda _: application.write(sorted(chosen, reverse=True))))
        gate.open()
        rollback.wait_for(second_gate)
        assert editor.wait().error is None
        second_gate.open()
        ending = rollback.wait()
        assert ending.error is None, ending.message
    application.expect(items.values(), job.listed())
    items.close()


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_moment_the_next_rollback_ends_it(
    kind: str, make_database_url: MakeDatabaseUrl, publish: Callable[[str], None]
) -> None:
    initial = {key: 10 * key for key in range(1, 7)}
    url, number, kills = make_database_url(kind), 1, []
    while True:
        items, job = migrated_anew(url, initial)
        items.write(5, y=-5)
        items.engine.dispose()
        ending = job.start_and_kill(lambda moment, number=number: moment.number == number)
        assert ending.error is None, ending.message
        ended = items.status() == "ROLLED_BACK"
        items.write(1, y=-1)
        if not ended:
            items.expire_lease()
            job.roll_back()
        expect_all_but(items, job, initial, listed={5} if ended else {1, 5})
        items.close()
        if ending.killed_at is None:
            break
        kills.append(ending.killed_at)
        number += STRIDE
    assert len(kills) >= 40 // STRIDE
    publish(f"rollback {kind}: {len(kills)} kill points, every one resumed, 0 rows lost, 0 edits lost")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", [at_commit_of_a_batch, after_commit_of_a_batch])
def test_the_journal_of_a_run_that_was_killed_is_whole(
    kind: str, when: Callable[[Moment], bool], make_database_url: MakeDatabaseUrl
) -> None:
    """Its rows, its ledger entry and its journal commit together; a journal that has more or less is refused."""
    items = Items(make_database_url(kind))
    run = Job(items.url, Undoable)
    assert run.start_and_kill(when).killed_at is not None
    items.expire_lease()
    run.run()
    Job(items.url, Undoable, undo=True).roll_back()
    assert items.values() == items.initial
    items.close()


def migrated_anew(url: str, initial: Mapping[int, int]) -> tuple[Items, Job]:
    items = Items(url)
    with items.engine.begin() as connection:
        if sa.inspect(connection).has_table(tables.meta.name):
            forget_runs(connection)
    items.close()
    return migrated(url, initial, 3)


def expect_all_but(items: Items, job: Job, initial: Mapping[int, int], *, listed: set[int]) -> None:
    """Item 5 was edited before the rollback; item 1 after the kill."""
    assert items.status() == "ROLLED_BACK"
    assert items.values() == dict(initial) | {5: -5, 1: -1}
    assert job.listed() == dict.fromkeys(listed, "changed_since")


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_comparison_the_applications_edits_are_lost(
    kind: str, make_database_url: MakeDatabaseUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of this file."""
    monkeypatch.setattr(undo_comparison, "same", lambda left, right: True)
    initial = {key: 10 * key for key in range(1, 21)}
    items, job = migrated(make_database_url(kind), initial, 5)
    items.write(7, y=-7)
    items.engine.dispose()
    job.roll_back()
    assert items.values()[7] == initial[7]
    items.close()
