"""Held rows: put down in the transaction of the batch that met them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select

from system_migration.batching import keys
from system_migration.batching.keys import Key
from system_migration.records import Issue
from system_migration.store import tables
from system_migration.store.runs import Attempt
from system_migration.store.times import now

issue = tables.issue.c
_MESSAGE_LENGTH = 1_000
_CODE_LENGTH = 64
_AT_ONCE = 5_000


def hold(connection: Connection, run: Attempt, held: Sequence[tuple[Key, str, str]]) -> None:
    """Record rows as held: (key, code, message) each."""
    if held:
        at = connection.execute(select(now())).scalar_one()
        connection.execute(
            insert(tables.issue),
            [
                {
                    "environment": run.environment,
                    "name": run.name,
                    "generation": run.generation,
                    "key_digest": keys.digest(key),
                    "key": keys.encode(key),
                    "code": code[:_CODE_LENGTH],
                    "message": message[:_MESSAGE_LENGTH],
                    "run_id": run.id,
                    "at": at,
                }
                for key, code, message in held
            ],
        )


def held_among(connection: Connection, run: Attempt, candidates: Iterable[Key]) -> set[Key]:
    """Which of these rows are held in this generation."""
    digests = {keys.digest(key): key for key in candidates}
    if not digests:
        return set()
    query = select(issue.key_digest).where(
        _generation(run.environment, run.name, run.generation), issue.key_digest.in_(list(digests))
    )
    return {digests[found] for found in connection.execute(query).scalars()}


def release_rows(connection: Connection, run: Attempt, rows: Sequence[Key]) -> None:
    """Hold these rows no longer: the batch of the same transaction tries them again."""
    for start in range(0, len(rows), _AT_ONCE):
        digests = [keys.digest(key) for key in rows[start : start + _AT_ONCE]]
        mine = _generation(run.environment, run.name, run.generation)
        connection.execute(delete(tables.issue).where(mine, issue.key_digest.in_(digests)))


def held_keys(connection: Connection, run: Attempt) -> list[Key]:
    """The keys of all held rows of the generation."""
    query = select(issue.key).where(_generation(run.environment, run.name, run.generation)).order_by(issue.key_digest)
    return [keys.decode(found) for found in connection.execute(query).scalars()]


def release(connection: Connection, environment: str, name: str, generation: int) -> int:
    """Hold no row of this generation any longer, so that they are tried again; how many there were."""
    return connection.execute(delete(tables.issue).where(_generation(environment, name, generation))).rowcount


def count(connection: Connection, environment: str, name: str, generation: int) -> int:
    """How many rows are held."""
    query = select(func.count()).where(_generation(environment, name, generation))
    return int(connection.execute(query).scalar_one())


def listing(connection: Connection, environment: str, name: str, generation: int) -> list[Issue]:
    """The held rows, in the order they were met."""
    query = (
        select(issue.key, issue.code, issue.message, issue.at)
        .where(_generation(environment, name, generation))
        .order_by(issue.at, issue.key_digest)
    )
    return [Issue(keys.shown(keys.decode(row.key)), row.code, row.message, row.at) for row in connection.execute(query)]


def _generation(environment: str, name: str, generation: int) -> ColumnElement[bool]:
    return and_(issue.environment == environment, issue.name == name, issue.generation == generation)
