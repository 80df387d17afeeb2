"""The ledger: what is done, told by numbers. Totals and gaps are questions to it, never kept elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, func, insert, select

from system_migration.batching import keys
from system_migration.batching.keys import Key
from system_migration.batching.ranges import CommittedEdge, Gap, gaps
from system_migration.store import tables
from system_migration.store.runs import Attempt
from system_migration.store.times import now

ledger = tables.ledger.c


@dataclass(frozen=True)
class Entry:
    """One batch, as it is written into the ledger in the batch's own transaction."""

    attempt: str
    pass_number: int
    range_number: int
    lower: Key | None
    upper: Key | None
    rows_read: int
    changed: int
    unchanged: int
    held: int
    vanished: int
    deferred: Sequence[Key]
    seconds: float


@dataclass(frozen=True)
class Totals:
    """Sums over the batches of a generation."""

    changed: int
    unchanged: int
    held: int
    vanished: int
    deferred: int


def record(connection: Connection, run: Attempt, entry: Entry) -> None:
    """Write the entry. IntegrityError: somebody else has committed this range."""
    connection.execute(
        insert(tables.ledger).values(
            {
                "environment": run.environment,
                "name": run.name,
                "generation": run.generation,
                "pass": entry.pass_number,
                "range": entry.range_number,
                "run_id": run.id,
                "attempt": entry.attempt,
                "lower": _bound(entry.lower),
                "upper": _bound(entry.upper),
                "rows_read": entry.rows_read,
                "changed": entry.changed,
                "unchanged": entry.unchanged,
                "held": entry.held,
                "vanished": entry.vanished,
                "deferred": len(entry.deferred),
                "deferred_keys": json.dumps([keys.encode(key) for key in entry.deferred]) if entry.deferred else None,
                "seconds": entry.seconds,
                "committed_at": now(),
            }
        )
    )


def find(connection: Connection, attempts: Sequence[str]) -> Entry | None:
    """The entry that one of these attempts committed, or None: the answer a lost COMMIT did not give."""
    row = connection.execute(select(tables.ledger).where(ledger.attempt.in_(attempts))).mappings().one_or_none()
    if row is None:
        return None
    return Entry(
        attempt=row["attempt"],
        pass_number=row["pass"],
        range_number=row["range"],
        lower=_key(row["lower"]),
        upper=_key(row["upper"]),
        rows_read=row["rows_read"],
        changed=row["changed"],
        unchanged=row["unchanged"],
        held=row["held"],
        vanished=row["vanished"],
        deferred=_keys(row["deferred_keys"]),
        seconds=row["seconds"],
    )


def has_batches(connection: Connection, environment: str, name: str, generation: int) -> bool:
    """Whether a generation has committed any batch."""
    mine = and_(ledger.environment == environment, ledger.name == name, ledger.generation == generation)
    return connection.execute(select(ledger.attempt).where(mine).limit(1)).first() is not None


def totals(connection: Connection, run: Attempt) -> Totals:
    """What the generation's passes have done so far; what a rollback did (see `store.journal`) is not among it."""
    sums = [
        func.coalesce(func.sum(ledger[name]), 0) for name in ("changed", "unchanged", "held", "vanished", "deferred")
    ]
    row = connection.execute(select(*sums).where(_generation(run), ledger["pass"] > 0)).one()
    return Totals(*(int(value) for value in row))


def last_pass(connection: Connection, run: Attempt) -> int:
    """The number of the newest pass that committed a batch; 0 before the first."""
    query = select(func.coalesce(func.max(ledger["pass"]), 0)).where(_generation(run))
    return int(connection.execute(query).scalar_one())


def missing(connection: Connection, run: Attempt, pass_number: int) -> list[Gap]:
    """What a pass over the key has left to do: the numbers the ledger lacks, and its open end."""
    walked = (
        select(
            ledger["range"],
            ledger.lower,
            ledger.upper,
            func.coalesce(func.lag(ledger["range"]).over(order_by=ledger["range"]), 0).label("previous_range"),
            func.lag(ledger.upper).over(order_by=ledger["range"]).label("previous_upper"),
            func.row_number().over(order_by=ledger["range"].desc()).label("from_end"),
        )
        .where(_pass(run, pass_number))
        .subquery()
    )
    gap_edge = walked.c.range > walked.c.previous_range + 1
    rows = connection.execute(select(walked).where(gap_edge | (walked.c.from_end == 1)).order_by(walked.c.range)).all()
    if not rows:
        return gaps([], 0, None)
    edges = [
        CommittedEdge(row.range, _key(row.lower), row.previous_range, _key(row.previous_upper))
        for row in rows
        if row.range > row.previous_range + 1
    ]
    return gaps(edges, rows[-1].range, _key(rows[-1].upper))


def deferred_ranges(connection: Connection, run: Attempt, pass_number: int) -> dict[int, list[Key]]:
    """The rows a pass found changed under its hands, by range number, that the next pass has not yet done."""
    done = select(ledger["range"]).where(_pass(run, pass_number + 1))
    query = select(ledger["range"], ledger.deferred_keys).where(
        _pass(run, pass_number), ledger.deferred > 0, ledger["range"].not_in(done)
    )
    return {row.range: _keys(row.deferred_keys) for row in connection.execute(query.order_by(ledger["range"]))}


def _generation(run: Attempt) -> ColumnElement[bool]:
    return and_(ledger.environment == run.environment, ledger.name == run.name, ledger.generation == run.generation)


def _pass(run: Attempt, number: int) -> ColumnElement[bool]:
    return and_(_generation(run), ledger["pass"] == number)


def _bound(key: Key | None) -> str | None:
    return None if key is None else keys.encode(key)


def _key(text: str | None) -> Key | None:
    return None if text is None else keys.decode(text)


def _keys(text: str | None) -> list[Key]:
    return [keys.decode(key) for key in json.loads(text)] if text else []
