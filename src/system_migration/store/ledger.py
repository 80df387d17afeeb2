"""The ledger: what is done, told by numbers. Totals and gaps are questions to it, never kept elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    RowMapping,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    outerjoin,
    select,
    update,
)

from system_migration.batching import keys
from system_migration.batching.keys import Key
from system_migration.batching.ranges import NAMED_ROWS, CommittedEdge, Gap, Numbers, gaps
from system_migration.store import tables
from system_migration.store.runs import Attempt
from system_migration.store.times import now

ledger = tables.ledger.c


def _last_of(columns: Any) -> ColumnElement[int]:
    """A program of tracking version 1 that began before an upgrade leaves 0: its ranges had one number."""
    return case((columns.last_range == 0, columns["range"]), else_=columns.last_range)


_last = _last_of(ledger)
_AT_ONCE = 5_000
_SUMS = ("batches", "rows_read", "changed", "unchanged", "held", "vanished", "deferred", "seconds")


@dataclass(frozen=True)
class Entry:
    """One batch, as it is written into the ledger in the batch's own transaction."""

    attempt: str
    pass_number: int
    numbers: Numbers
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
        _RECORD,
        {
            "environment": run.environment,
            "name": run.name,
            "generation": run.generation,
            "pass": entry.pass_number,
            "range": entry.numbers.first,
            "last_range": entry.numbers.last,
            "batches": 1,
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
        },
    )


_RECORD = insert(tables.ledger).values(committed_at=now())
"""Built once: a run writes it with every batch."""


def find(connection: Connection, attempts: Sequence[str]) -> Entry | None:
    """The entry that one of these attempts committed, or None: the answer a lost COMMIT did not give."""
    row = connection.execute(select(tables.ledger).where(ledger.attempt.in_(attempts))).mappings().one_or_none()
    if row is None:
        return None
    return Entry(
        attempt=row["attempt"],
        pass_number=row["pass"],
        numbers=Numbers(row["range"], row["last_range"]),
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


def covers(connection: Connection, run: Attempt, pass_number: int, number: int) -> bool:
    """Whether a committed range of the pass covers this number."""
    query = select(ledger.attempt).where(_pass(run, pass_number), ledger["range"] <= number, _last >= number)
    return connection.execute(query.limit(1)).first() is not None


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


def next_named(connection: Connection, run: Attempt) -> int:
    """The first number, of those for named rows, that no pass has used: a redo takes over the number of its rows."""
    query = select(func.max(_last)).where(_generation(run), ledger["pass"] > 0)
    return max(NAMED_ROWS, (connection.execute(query).scalar_one() or 0) + 1)


def missing(connection: Connection, run: Attempt, pass_number: int) -> list[Gap]:
    """What a pass over the key has left to do: the numbers the ledger lacks, and its open end."""
    walked = (
        select(
            ledger["range"],
            _last.label("last_range"),
            ledger.lower,
            ledger.upper,
            func.coalesce(func.lag(_last).over(order_by=ledger["range"]), 0).label("previous_last"),
            func.lag(ledger.upper).over(order_by=ledger["range"]).label("previous_upper"),
            func.row_number().over(order_by=ledger["range"].desc()).label("from_end"),
        )
        .where(_pass(run, pass_number), ledger["range"] < NAMED_ROWS)
        .subquery()
    )
    gap_edge = walked.c.range > walked.c.previous_last + 1
    rows = connection.execute(select(walked).where(gap_edge | (walked.c.from_end == 1)).order_by(walked.c.range)).all()
    if not rows:
        return list(gaps([], 0, None))
    edges = [
        CommittedEdge(row.range, _key(row.lower), row.previous_last, _key(row.previous_upper))
        for row in rows
        if row.range > row.previous_last + 1
    ]
    return list(gaps(edges, rows[-1].last_range, _key(rows[-1].upper)))


@dataclass(frozen=True)
class Deferred:
    """Rows that a pass found changed under its hands, and the numbers under which the next pass does them."""

    pass_number: int
    numbers: Numbers
    keys: Sequence[Key]


def deferred_ranges(connection: Connection, run: Attempt) -> list[Deferred]:
    """What any pass put off and the next one has not done yet, in order.

    A range is done in order, so that it can be split: what the next pass has of it ends before what is left.
    """
    later, redone = (tables.ledger.alias(name).c for name in ("later", "redone"))
    newest = select(func.max(later["range"])).where(
        *_of_pass(later, run, ledger["pass"] + 1), later["range"] <= _last_of(ledger)
    )
    done = and_(*_of_pass(redone, run, ledger["pass"] + 1), redone["range"] == newest.scalar_subquery())
    query = (
        select(
            ledger["pass"],
            ledger["range"],
            _last_of(ledger).label("last_range"),
            ledger.deferred_keys,
            _last_of(redone).label("done_last"),
            redone.upper.label("done_upper"),
        )
        .select_from(outerjoin(tables.ledger, redone["range"].table, done))
        .where(_generation(run), ledger.deferred > 0)
        .where(or_(redone["range"].is_(None), _last_of(redone) < _last_of(ledger)))
    )
    rows = connection.execute(query.order_by(ledger["pass"], ledger["range"])).all()
    return [_left_of(row) for row in rows]


def _left_of(row: Row[Any]) -> Deferred:
    deferred = _keys(row.deferred_keys)
    if row.done_last is None or row.done_last < row.range:
        return Deferred(row[0], Numbers(row.range, row.last_range), deferred)
    done = [keys.encode(key) for key in deferred].index(row.done_upper)
    return Deferred(row[0], Numbers(row.done_last + 1, row.last_range), deferred[done + 1 :])


def compact(connection: Connection, run: Attempt, pass_number: int, below: int, *, keep_deferred: bool) -> int:
    """Put rows with consecutive numbers below `below` into one each; how many rows are gone.

    With `keep_deferred` those stay that put rows off: the next pass needs their keys. Dying half-way leaves all as it
    was, since the caller's transaction holds it together.
    """
    whole = _pass(run, pass_number) & (ledger.last_range > 0) & (ledger.last_range < below)
    if keep_deferred:
        whole &= ledger.deferred == 0
    rows = connection.execute(select(tables.ledger).where(whole).order_by(ledger["range"]).limit(_AT_ONCE)).mappings()
    gone = 0
    for group in _consecutive(rows):
        if len(group) > 1:
            _merge(connection, run, pass_number, group)
            gone += len(group) - 1
    return gone


def _consecutive(rows: Iterable[RowMapping]) -> Iterator[list[RowMapping]]:
    group: list[RowMapping] = []
    for row in rows:
        if group and row["range"] != group[-1]["last_range"] + 1:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _merge(connection: Connection, run: Attempt, pass_number: int, group: Sequence[RowMapping]) -> None:
    first, last = group[0], group[-1]
    connection.execute(
        delete(tables.ledger).where(
            _pass(run, pass_number), ledger["range"] > first["range"], ledger["range"] <= last["range"]
        )
    )
    sums = {name: sum(row[name] for row in group) for name in _SUMS}
    connection.execute(
        update(tables.ledger)
        .where(_pass(run, pass_number), ledger["range"] == first["range"])
        .values(
            last_range=last["last_range"],
            upper=last["upper"],
            deferred_keys=None,
            committed_at=last["committed_at"],
            run_id=last["run_id"],
            **sums,
        )
    )


def _generation(run: Attempt) -> ColumnElement[bool]:
    return and_(ledger.environment == run.environment, ledger.name == run.name, ledger.generation == run.generation)


def _pass(run: Attempt, number: int) -> ColumnElement[bool]:
    return and_(*_of_pass(ledger, run, number))


def _of_pass(columns: Any, run: Attempt, number: int | ColumnElement[int]) -> list[ColumnElement[bool]]:
    return [
        columns.environment == run.environment,
        columns.name == run.name,
        columns.generation == run.generation,
        columns["pass"] == number,
    ]


def _bound(key: Key | None) -> str | None:
    return None if key is None else keys.encode(key)


def _key(text: str | None) -> Key | None:
    return None if text is None else keys.decode(text)


def _keys(text: str | None) -> list[Key]:
    return [keys.decode(key) for key in json.loads(text)] if text else []
