"""The guarded write of one batch: what was read must still be there, compared exactly, under lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, bindparam, update

from system_migration.batching.keys import Key
from system_migration.batching.target import OWN_NAMES, ReadRow, Target
from system_migration.batching.transform import Held, Outcome
from system_migration.errors import MigrationSystemError
from system_migration.store.dialects import Dialect

STILL_PENDING = "still_pending"


@dataclass
class Verdict:
    """What the guard decided about every row of a batch; each row is in exactly one place."""

    writes: list[tuple[Key, dict[str, Any]]] = field(default_factory=list)
    held: list[tuple[Key, str, str]] = field(default_factory=list)
    unchanged: list[Key] = field(default_factory=list)
    deferred: list[Key] = field(default_factory=list)
    vanished: list[Key] = field(default_factory=list)


def guard(
    connection: Connection,
    dialect: Dialect,
    target: Target,
    rows: Sequence[ReadRow],
    outcomes: Sequence[Outcome],
) -> Verdict:
    """Lock and re-read the batch's rows, and let only those pass that still are what was read.

    Compared here and not in SQL, where floats never match, JSON has no equality and some collations match too
    much (reliability, M9 to M11). The rows are locked in key order.
    """
    verdict = Verdict()
    current: dict[Key, tuple[ReadRow, Any]] = {}
    for keys in target.portions([row.key for row in rows]):
        for found in connection.execute(dialect.lock_rows(target.guarded(keys))):
            present = target.split(found)
            current[present.key] = present, found[-1]
    for row, outcome in zip(rows, outcomes, strict=True):
        if row.key not in current:
            verdict.vanished.append(row.key)
            continue
        present, still_pending = current[row.key]
        unchanged = same(row.values, present.values) and same(row.exact, present.exact)
        if not unchanged or still_pending in (False, 0):
            verdict.deferred.append(row.key)
        elif isinstance(outcome, Held):
            verdict.held.append((row.key, outcome.code, outcome.message))
        else:
            _settle(verdict, target, row, outcome)
    return verdict


def _settle(verdict: Verdict, target: Target, row: ReadRow, outcome: dict[str, Any]) -> None:
    before = dict(zip(target.columns, row.values, strict=True))
    after = {name: outcome.get(name, before[name]) for name in target.writes}
    if not same(tuple(before[name] for name in after), tuple(after.values())):
        verdict.writes.append((row.key, after))
    elif target.pending is not None:
        # It would be found again for ever: the values that transform returns do not end `pending`.
        verdict.held.append((row.key, STILL_PENDING, "transform leaves the row as it is, and pending stays true"))
    else:
        verdict.unchanged.append(row.key)


def same(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    """Whether two rows hold the same values of the same types; a NaN is the same as a NaN."""
    return all(map(_same, left, right))


def _same(left: Any, right: Any) -> bool:
    if left is right:
        return True
    if isinstance(left, memoryview | bytearray):
        left = bytes(left)
    if isinstance(right, memoryview | bytearray):
        right = bytes(right)
    if type(left) is not type(right):
        return False
    if isinstance(left, Decimal):
        return bool(left.as_tuple() == right.as_tuple())
    if isinstance(left, list | tuple):
        return len(left) == len(right) and same(tuple(left), tuple(right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    return bool(left == right or (left != left and right != right))


def write(connection: Connection, target: Target, rows: Sequence[tuple[Key, dict[str, Any]]]) -> None:
    """Write the new values of locked rows. They must all be matched, and none of them may still be pending."""
    if not rows:
        return
    statement = (
        update(target.physical)
        .where(target.is_key(OWN_NAMES + "key_"))
        .values({target.physical.c[name]: bindparam(f"{OWN_NAMES}new_{name}") for name in target.writes})
    )
    parameters = [
        {f"{OWN_NAMES}key_{index}": part for index, part in enumerate(key)}
        | {f"{OWN_NAMES}new_{name}": new for name, new in values.items()}
        for key, values in rows
    ]
    written = connection.execute(statement, parameters)
    if written.rowcount != len(rows):
        raise MigrationSystemError(
            f"{len(rows)} rows of {target.physical.name!r} were locked, but {written.rowcount} were written; the batch "
            "was rolled back. Look for a trigger or rule that redirects updates of this table."
        )
    if target.pending is None:
        return
    for keys in target.portions([key for key, _ in rows]):
        if still := connection.execute(target.count_pending(keys)).scalar_one():
            raise MigrationSystemError(
                f"After transform's values were written, pending is still true for {still} rows; the batch was rolled "
                "back. Correct the migration: pending(t) must become false by what transform returns."
            )
