"""The guarded write of one batch: what was read must still be there, compared exactly, in the transaction that writes.

Two ways lead to the same verdict. Where SQL alone can tell that a row is unchanged, one statement compares and writes.
Else, and whenever that statement missed a row, the rows are locked, read again and compared in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import copysign
from typing import Any

from sqlalchemy import ColumnElement, Connection

from system_migration.batching.keys import Key
from system_migration.batching.target import Target
from system_migration.batching.transform import Held, Outcome
from system_migration.errors import MigrationSystemError
from system_migration.store.dialects import Dialect
from system_migration.store.writers import Written

STILL_PENDING = "still_pending"

RawRow = Sequence[Any]
"""A row as `Target` selects it."""


@dataclass
class Verdict:
    """What became of every row of a batch; each row is in exactly one place.

    `written` are the rows as they were before their change, `values` their new values, one list for each written
    column. Rows that were changed in SQL without being read are `assigned`, a number, and `before` has the images of
    those that are journalled.
    """

    written: list[RawRow] = field(default_factory=list)
    values: list[list[Any]] = field(default_factory=list)
    held: list[tuple[Key, str, str]] = field(default_factory=list)
    unchanged: list[Key] = field(default_factory=list)
    deferred: list[Key] = field(default_factory=list)
    vanished: list[Key] = field(default_factory=list)
    assigned: int = 0
    before: dict[Key, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """How many rows have new values."""
        return len(self.written) + self.assigned


_SIMPLE = frozenset({str, int, float, Decimal})


@dataclass
class Sorted:
    """The rows of a batch by what transform made of them: those to write, with their new values, and the others."""

    rows: list[RawRow] = field(default_factory=list)
    values: list[list[Any]] = field(default_factory=list)
    other_rows: list[RawRow] = field(default_factory=list)
    other_outcomes: list[Outcome] = field(default_factory=list)


def sort(target: Target, rows: Sequence[RawRow], outcomes: Sequence[Outcome]) -> Sorted:
    """Tell the rows that get new values from those that are held or stay as they are."""
    places = list(zip(target.writes, target.written_at, strict=True))
    found = Sorted(values=[[] for _ in places])
    if len(places) == 1:
        _sort_by_one_column(found, places[0], rows, outcomes)
        return found
    for row, outcome in zip(rows, outcomes, strict=True):
        new = [] if isinstance(outcome, Held) else [outcome.get(name, row[place]) for name, place in places]
        if isinstance(outcome, Held) or same([row[place] for _, place in places], new):
            found.other_rows.append(row)
            found.other_outcomes.append(outcome)
        else:
            found.rows.append(row)
            for column, value in zip(found.values, new, strict=True):
                column.append(value)
    return found


def _sort_by_one_column(
    found: Sorted, written: tuple[str, int], rows: Sequence[RawRow], outcomes: Sequence[Outcome]
) -> None:
    """The same for the most frequent case, which has to keep up with the database."""
    name, place = written
    take_row, take_value = found.rows.append, found.values[0].append
    for row, outcome in zip(rows, outcomes, strict=True):
        if outcome.__class__ is not Held:
            before = row[place]
            after = outcome.get(name, before)  # type: ignore[union-attr]
            # Of two values, neither of them a NaN, that Python finds unequal the fine print of `_same` says no other.
            if (after.__class__ in _SIMPLE and after != before and after == after) or not _same(after, before):
                take_row(row)
                take_value(after)
                continue
        found.other_rows.append(row)
        found.other_outcomes.append(outcome)


def write_exactly(
    connection: Connection, dialect: Dialect, target: Target, rows: Sequence[RawRow], outcomes: Sequence[Outcome]
) -> Verdict:
    """Compare and write in one statement. Raises `Missed` when a row is not what was read: roll back, and do it with
    `write_carefully`."""
    found = sort(target, rows, outcomes)
    verdict = guard(connection, dialect, target, found.other_rows, found.other_outcomes)
    if found.rows:
        written = target.writer.write_guarded(connection, found.rows, found.values)
        verdict.written, verdict.values = found.rows, found.values
        _demand_done(target, len(found.rows), written)
    return verdict


def write_carefully(
    connection: Connection,
    dialect: Dialect,
    target: Target,
    rows: Sequence[RawRow],
    outcomes: Sequence[Outcome],
    *,
    around_locks: bool = False,
) -> Verdict:
    """Lock the rows, read them again, and write to those that still are what was read.

    With `around_locks` rows that somebody else has locked are put off instead of being waited for.
    """
    verdict = guard(connection, dialect, target, rows, outcomes, around_locks=around_locks)
    if verdict.written:
        written = target.writer.write(connection, verdict.written, verdict.values)
        _demand_done(target, len(verdict.written), written)
    return verdict


def assign(connection: Connection, target: Target, lower: Key | None, upper: Key | None) -> Verdict:
    """Change the rows of a range by the migration's own expressions.

    The database evaluates them on the rows as they are now: there is nothing to compare (reliability, M12).
    """
    return Verdict(assigned=_assign(connection, target, target.todo(lower, upper)))


def assign_named(connection: Connection, target: Target, keys: Sequence[Key]) -> int:
    """As `assign`, for those of the named rows that still need the change; how many there were."""
    todo = target.todo(None, None)
    return sum(_assign(connection, target, [*todo, target.is_one_of(some)]) for some in target.portions(keys))


def assign_locked(connection: Connection, target: Target, keys: Sequence[Key]) -> int:
    """As `assign_named`, for rows that are locked and need the change: every one of them must be changed."""
    changed = assign_named(connection, target, keys)
    _demand_done(target, len(keys), Written(changed))
    return changed


def _assign(connection: Connection, target: Target, todo: Sequence[ColumnElement[bool]]) -> int:
    assert target.assigned is not None
    written = target.writer.assign(connection, todo, target.assigned)
    _demand_done(target, written.matched, written)
    return written.matched


def guard(
    connection: Connection,
    dialect: Dialect,
    target: Target,
    rows: Sequence[RawRow],
    outcomes: Sequence[Outcome],
    *,
    around_locks: bool = False,
) -> Verdict:
    """Lock and re-read the batch's rows, and let only those pass that still are what was read.

    Compared here and not in SQL, where floats never match, JSON has no equality and some collations match too
    much (reliability, M9 to M11). The rows are locked in key order.
    """
    verdict = Verdict(values=[[] for _ in target.writes])
    start, end = target.key_width, target.compared_end
    current, locked = _lock(connection, dialect, target, rows, around_locks=around_locks)
    for row, outcome in zip(rows, outcomes, strict=True):
        key = target.key_of(row)
        present = current.get(key)
        if present is None:
            (verdict.deferred if key in locked else verdict.vanished).append(key)
        elif present[-1] in (False, 0) or not same(row[start:end], present[start:end]):
            verdict.deferred.append(key)
        elif isinstance(outcome, Held):
            verdict.held.append((key, outcome.code, outcome.message))
        else:
            _settle(verdict, target, row, outcome)
    return verdict


def _lock(
    connection: Connection, dialect: Dialect, target: Target, rows: Sequence[RawRow], *, around_locks: bool
) -> tuple[dict[Key, RawRow], set[Key]]:
    """The rows as they are now, locked, by key; and the keys of those that are there and locked by somebody else."""
    lock = dialect.lock_free_rows if around_locks else dialect.lock_rows
    current: dict[Key, RawRow] = {}
    locked: set[Key] = set()
    for keys in target.portions([target.key_of(row) for row in rows]):
        for found in target.fetch(connection, lock(target.guarded(keys))):
            current[target.key_of(found)] = found
        absent = [key for key in keys if key not in current]
        if around_locks and absent:
            locked |= {target.key_of(found) for found in connection.execute(target.rows_by_key(absent))}
    return current, locked


def _settle(verdict: Verdict, target: Target, row: RawRow, outcome: dict[str, Any]) -> None:
    before = tuple([row[place] for place in target.written_at])
    after = tuple([outcome.get(name, old) for name, old in zip(target.writes, before, strict=True)])
    if not same(before, after):
        verdict.written.append(row)
        for column, value in zip(verdict.values, after, strict=True):
            column.append(value)
    elif target.pending is not None:
        # It would be found again for ever: the values that transform returns do not end `pending`.
        message = "transform leaves the row as it is, and pending stays true"
        verdict.held.append((target.key_of(row), STILL_PENDING, message))
    else:
        verdict.unchanged.append(target.key_of(row))


def same(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Whether two rows hold the same values of the same types; a NaN is the same as a NaN, 0.0 is not -0.0."""
    return all(map(_same, left, right))


def _same(left: Any, right: Any) -> bool:
    if left is right:
        return True
    kind = type(left)
    if kind is type(right) and (kind is str or kind is int):  # nearly all values; the rest is the fine print
        return bool(left == right)
    if isinstance(left, memoryview | bytearray):
        left = bytes(left)
    if isinstance(right, memoryview | bytearray):
        right = bytes(right)
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return (left == right and copysign(1.0, left) == copysign(1.0, right)) or (left != left and right != right)
    if isinstance(left, Decimal):
        return bool((left == right or left != left) and left.as_tuple() == right.as_tuple())
    if isinstance(left, list | tuple):
        return len(left) == len(right) and same(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    return bool(left == right or (left != left and right != right))


def _demand_done(target: Target, wanted: int, written: Written) -> None:
    """Every row must have been matched, and none of them may still be pending."""
    name = target.physical.name
    if written.matched != wanted:
        raise MigrationSystemError(
            f"{wanted} rows of {name!r} were locked, but {written.matched} were written; the batch was rolled back. "
            "Look for a trigger or rule that redirects updates of this table."
        )
    if written.still_pending:
        raise MigrationSystemError(
            f"After transform's values were written, pending is still true for {written.still_pending} rows; the batch "
            "was rolled back. Correct the migration: pending(t) must become false by what transform returns."
        )
