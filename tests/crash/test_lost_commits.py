"""Connections cut around COMMIT: before it arrives, and after the answer. What is unknown is asked, never guessed.

A proxy of ours stands between the migrator and a real server. Nothing may be done twice, nothing may be missed, and
no runner may believe that another one has taken its lease.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from system_migration import Migration, MigrationContext, MigrationRollbackResult
from system_migration.store import tables
from system_migration.store.database import Database
from tests.crash.harness import Job, engine_for
from tests.crash.subjects import Flagged, Imperative, InPlace, Items, Unprotected, fill_items, item
from tests.support.proxy import AFTER, BEFORE, CuttingProxy
from tests.support.torture import scale

pytestmark = pytest.mark.databases("postgresql", "mariadb")
CUTS = scale(30, 300)


@pytest.fixture
def counter(items: Items) -> Callable[[], int]:
    """What the item 1 was raised by."""
    return lambda: items.values()[1] - items.initial[1]


def once(decision: str) -> Callable[[], str | None]:
    """Cut the first COMMIT only."""
    left = [decision]
    return lambda: left.pop() if left else None


def raise_item(connection: sa.Connection) -> str:
    connection.execute(item.update().where(item.c.id == 1).values(y=item.c.y + 1))
    return "raised"


def is_raised(connection: sa.Connection) -> str | None:
    raised = sa.select(item.c.id).where(item.c.id == 1, item.c.y > item.c.origin)
    return "raised" if connection.execute(raised).first() else None


@pytest.mark.parametrize("decision", [BEFORE, AFTER])
def test_a_step_is_done_once_whatever_became_of_its_commit(
    items: Items, counter: Callable[[], int], decision: str
) -> None:
    with CuttingProxy(items.url, once(decision)) as proxy:
        database = Database(engine_for(proxy.url))
        assert database.transact(raise_item, landed=is_raised) == "raised"
        database.close()
    assert (proxy.cuts, counter()) == (1, 1)


def test_without_the_question_a_step_would_be_done_twice(items: Items, counter: Callable[[], int]) -> None:
    with CuttingProxy(items.url, once(AFTER)) as proxy:
        database = Database(engine_for(proxy.url))
        database.transact(raise_item)
        database.close()
    assert counter() == 2


def test_trying_again_blindly_doubles(items: Items) -> None:
    """What this is all about, in the few lines that one would write without thinking of it."""
    with CuttingProxy(items.url, lambda: random.choice([AFTER, None])) as proxy:
        engine = engine_for(proxy.url)
        for key in items.initial:
            while True:
                try:
                    with engine.begin() as connection:
                        connection.execute(item.update().where(item.c.id == key).values(y=item.c.y + 1))
                    break
                except DBAPIError:
                    engine.dispose()
        engine.dispose()
        assert sum(items.values().values()) == sum(items.migrated.values()) + proxy.cuts


# Every COMMIT of a run in its turn


class Cuts:
    """Cuts the COMMIT of a number, and counts them all."""

    def __init__(self, number: int, decision: str) -> None:
        self.number, self.decision, self.seen = number, decision, 0

    def __call__(self) -> str | None:
        self.seen += 1
        return self.decision if self.seen == self.number else None


def fresh(items: Items, migration: type[Migration]) -> None:
    with items.engine.begin() as connection:
        tables.metadata.drop_all(connection)
        fill_items(connection, items.initial)
    Job(items.url, migration).init()


def recorded(items: Items) -> tuple[list[Any], Counter[str]]:
    """How the attempts ended, and how often each action was noted."""
    with items.engine.connect() as connection:
        outcomes = list(connection.execute(sa.select(tables.run.c.outcome)).scalars())
        return outcomes, Counter(connection.execute(sa.select(tables.event.c.action)).scalars())


@pytest.mark.parametrize(("migration", "decision"), [(InPlace, BEFORE), (InPlace, AFTER), (Flagged, AFTER)])
def test_any_commit_of_a_run_may_be_lost(
    items: Items, migration: type[Migration], decision: str, publish: Callable[[str], None]
) -> None:
    number, cuts = 0, Cuts(0, decision)
    while cuts.seen >= number:  # until a run has fewer COMMITs than that
        number += 1
        fresh(items, migration)
        cuts = Cuts(number, decision)
        with CuttingProxy(items.url, cuts) as proxy:
            (report,) = Job(proxy.url, migration).run()
        assert (items.values(), items.status(), report.verified) == (items.migrated, "COMPLETED", True)
        assert recorded(items) == (["succeeded"], Counter(run_started=1, completed=1)), f"COMMIT {number}"
    publish(f"lost commits: {number - 1} of a run of {migration.name}, {decision}, each once; 0 done twice or missed")


@pytest.mark.parametrize("migration", [Imperative, Unprotected])
def test_up_is_not_repeated_when_its_commit_arrived(items: Items, migration: type[Migration]) -> None:
    number, cuts = 0, Cuts(0, AFTER)
    while cuts.seen >= number:
        number += 1
        fresh(items, migration)
        cuts = Cuts(number, AFTER)
        with CuttingProxy(items.url, cuts) as proxy:
            Job(proxy.url, migration).run()
        assert (items.values(), items.status()) == (items.migrated, "COMPLETED")
        assert recorded(items) == (["succeeded"], Counter(run_started=1, completed=1)), f"COMMIT {number}"


class Reversible(Imperative):
    rollbackable = True

    def down(self, context: MigrationContext) -> MigrationRollbackResult:
        context.connection.execute(item.update().values(y=item.c.y - 1))
        return MigrationRollbackResult()


class ReversibleUnprotected(Reversible, Unprotected):
    name = "001-unprotected"


@pytest.mark.parametrize("migration", [Reversible, ReversibleUnprotected])
def test_down_is_not_repeated_when_its_commit_arrived(items: Items, migration: type[Migration]) -> None:
    number, cuts = 0, Cuts(0, AFTER)
    while cuts.seen >= number:
        number += 1
        fresh(items, migration)
        Job(items.url, migration).run()
        cuts = Cuts(number, AFTER)
        with CuttingProxy(items.url, cuts) as proxy, Job(proxy.url, migration)._migrator() as migrator:
            migrator.rollback(migration.name)
        assert (items.values(), items.status()) == (items.initial, "ROLLED_BACK"), f"COMMIT {number}"
        assert recorded(items)[0] == ["succeeded"] * 2


# Many at once


def test_most_commits_of_a_long_run_are_lost(items: Items, publish: Callable[[str], None]) -> None:
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    initial = {key: 10 * key for key in range(1, 5 * CUTS)}
    with items.engine.begin() as connection:
        fill_items(connection, initial)
    Job(items.url, InPlace).init()
    with CuttingProxy(items.url, lambda: dice.choice([BEFORE, AFTER, AFTER, None])) as proxy:
        (report,) = Job(proxy.url, InPlace).run()
    assert items.values() == {key: y + 1 for key, y in initial.items()}, f"seed {seed}"
    assert (report.records_processed, items.status(), items.runs()) == (len(initial), "COMPLETED", 1)
    assert proxy.cuts >= CUTS
    publish(f"lost commits: {proxy.cuts} cuts in one run, seed {seed}: 0 rows twice, 0 missed, 0 false takeovers")
