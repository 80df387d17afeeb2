"""Deaths: how often a runner died while a range of numbers was in its hands, as its successors counted."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from system_migration.batching.ranges import Gap
from system_migration.store import tables
from system_migration.store.runs import Attempt

death = tables.death.c


def count_deaths(connection: Connection, run: Attempt, pass_number: int, gaps: Iterable[Gap]) -> None:
    """Count one more death for each gap that a dead runner left in a pass, in the transaction of the takeover."""
    for gap in gaps:
        deaths = deaths_of(connection, run, pass_number, gap) + 1
        values = {"last_range": gap.last, "deaths": deaths}
        here = and_(_pass(run, pass_number), death.range == gap.first)
        if connection.execute(update(tables.death).where(here).values(**values)).rowcount == 0:
            connection.execute(insert(tables.death).values(**_key(run, pass_number), range=gap.first, **values))


def deaths_of(connection: Connection, run: Attempt, pass_number: int, gap: Gap) -> int:
    """How many runners died with this gap in their hands.

    A closed gap inherits from every closed gap that held it, and from an open end that began where it begins. The open
    end begins anew with every range that is committed: whatever killed the last runner may be done by now.
    """
    if gap.last is None:
        held_it = and_(death.range == gap.first, death.last_range.is_(None))
    else:
        whole = and_(death.range <= gap.first, death.last_range >= gap.last)
        held_it = or_(whole, and_(death.range == gap.first, death.last_range.is_(None)))
    query = select(func.coalesce(func.max(death.deaths), 0)).where(_pass(run, pass_number), held_it)
    return int(connection.execute(query).scalar_one())


def died_at(connection: Connection, run: Attempt, pass_number: int, number: int) -> bool:
    """Whether the last runner that died left a gap that begins with just this number."""
    query = select(death.deaths).where(_pass(run, pass_number), death.range == number)
    return connection.execute(query).first() is not None


def _key(run: Attempt, pass_number: int) -> dict[str, object]:
    return {"environment": run.environment, "name": run.name, "generation": run.generation, "pass": pass_number}


def _pass(run: Attempt, pass_number: int) -> ColumnElement[bool]:
    return and_(
        death.environment == run.environment,
        death.name == run.name,
        death.generation == run.generation,
        death["pass"] == pass_number,
    )
