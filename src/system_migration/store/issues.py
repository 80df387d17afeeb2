"""Held rows: put down in the transaction of the batch that met them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, insert, select

from system_migration.batching import keys
from system_migration.batching.keys import Key
from system_migration.records import Issue, IssueCount
from system_migration.store import tables
from system_migration.store.runs import Attempt
from system_migration.store.times import now

issue = tables.issue.c

CHANGED, VANISHED = "changed_since", "vanished_since"
NOT_RESTORED = (CHANGED, VANISHED)
"""Why a rollback left a row as it is."""
_MESSAGE_LENGTH = 1_000
_CODE_LENGTH = 64
_PORTION = 5_000
_ID = re.compile(r"[0-9]{1,16}-(?P<digest>[0-9a-f]{64})")
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


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


def hold_anew(connection: Connection, run: Attempt, held: Sequence[tuple[Key, str, str]]) -> None:
    """As `hold`; what was noted of these rows before is replaced."""
    for start in range(0, len(held), _PORTION):
        digests = [keys.digest(key) for key, _, _ in held[start : start + _PORTION]]
        mine = _generation(run.environment, run.name, run.generation)
        connection.execute(delete(tables.issue).where(mine, issue.key_digest.in_(digests)))
    hold(connection, run, held)


def held_among(
    connection: Connection, run: Attempt, candidates: Iterable[Key], codes: Sequence[str] | None = None
) -> set[Key]:
    """Which of these rows are held in this generation, for one of these reasons if any are given."""
    digests = {keys.digest(key): key for key in candidates}
    if not digests:
        return set()
    query = select(issue.key_digest).where(
        _generation(run.environment, run.name, run.generation), issue.key_digest.in_(list(digests)), *_because(codes)
    )
    return {digests[found] for found in connection.execute(query).scalars()}


def release_rows(connection: Connection, run: Attempt, rows: Sequence[Key]) -> None:
    """Hold these rows no longer: the batch of the same transaction tries them again."""
    for start in range(0, len(rows), _PORTION):
        digests = [keys.digest(key) for key in rows[start : start + _PORTION]]
        mine = _generation(run.environment, run.name, run.generation)
        connection.execute(delete(tables.issue).where(mine, issue.key_digest.in_(digests)))


def held_keys(connection: Connection, run: Attempt, digests: Collection[str] | None = None) -> list[Key]:
    """The keys of all held rows of the generation, or of those of them with these digests."""
    query = select(issue.key).where(_generation(run.environment, run.name, run.generation)).order_by(issue.key_digest)
    if digests is not None:
        query = query.where(issue.key_digest.in_(digests))
    return [keys.decode(found) for found in connection.execute(query).scalars()]


def chosen(
    connection: Connection, environment: str, name: str, generation: int, texts: Iterable[str]
) -> dict[str, str]:
    """Those of these texts that name a held row, each with the digest of its key.

    A text is the id of an issue, or a key as `find` takes it. Raises `ValueError` where it can be neither.
    """
    mine = _generation(environment, name, generation)
    sample = connection.execute(select(issue.key).where(mine).limit(1)).scalar_one_or_none()
    if sample is None:
        return {}
    types = [type(part) for part in keys.decode(sample)]
    meant = {text: _digests_meant(text, types) for text in texts}
    asked = list(chain.from_iterable(meant.values()))
    held = set(connection.execute(select(issue.key_digest).where(mine, issue.key_digest.in_(asked))).scalars())
    return {text: digest for text, digests in meant.items() for digest in digests if digest in held}


def _digests_meant(text: str, types: Sequence[type]) -> list[str]:
    """As a key, and as an id: the last one that is held counts. A text key may look like an id, but hardly is one."""
    id = _ID.fullmatch(text)
    try:
        digests = [keys.digest(keys.parse(text, types))]
    except ValueError:
        if id is None:
            raise
        digests = []
    return [*digests, id["digest"]] if id else digests


def release(connection: Connection, environment: str, name: str, generation: int) -> int:
    """Hold no row of this generation any longer, so that they are tried again; how many there were."""
    return connection.execute(delete(tables.issue).where(_generation(environment, name, generation))).rowcount


def count(
    connection: Connection, environment: str, name: str, generation: int, codes: Sequence[str] | None = None
) -> int:
    """How many rows are held, for one of these reasons if any are given."""
    query = select(func.count()).where(_generation(environment, name, generation), *_because(codes))
    return int(connection.execute(query).scalar_one())


def listing(
    connection: Connection, environment: str, name: str, generation: int, codes: Sequence[str] | None = None
) -> list[Issue]:
    """The held rows, in the order they were met; those held for one of these reasons if any are given."""
    return [_issue(row) for row in connection.execute(_listing(environment, name, generation, codes))]


def page(
    connection: Connection,
    environment: str,
    name: str,
    generation: int,
    codes: Sequence[str] | None,
    after: str | None,
    limit: int,
) -> list[Issue]:
    """Up to `limit` held rows in the order of `listing`, from behind where the one whose id is `after` is or was.

    Raises `ValueError` where `after` is no id.
    """
    query = _listing(environment, name, generation, codes).limit(limit)
    if after is not None:
        at, digest = _place(after)
        query = query.where((issue.at > at) | ((issue.at == at) & (issue.key_digest > digest)))
    return [_issue(row) for row in connection.execute(query)]


def counts(
    connection: Connection, environment: str, name: str, generation: int, codes: Sequence[str] | None = None
) -> list[IssueCount]:
    """How many rows are held for each reason, those of the most frequent one first."""
    rows = func.count().label("rows")
    query = (
        select(issue.code, rows)
        .where(_generation(environment, name, generation), *_because(codes))
        .group_by(issue.code)
        .order_by(rows.desc(), issue.code)
    )
    return [IssueCount(row.code, int(row.rows)) for row in connection.execute(query)]


def find(
    connection: Connection, environment: str, name: str, generation: int, codes: Sequence[str] | None, key: str
) -> Issue | None:
    """The held row whose key a person writes like this. Raises `ValueError` where that is no key of the table."""
    query = _listing(environment, name, generation, codes)
    sample = connection.execute(query.limit(1)).first()
    if sample is None:
        return None
    digest = keys.digest(keys.parse(key, [type(part) for part in keys.decode(sample.key)]))
    row = connection.execute(query.where(issue.key_digest == digest)).one_or_none()
    return None if row is None else _issue(row)


def _listing(environment: str, name: str, generation: int, codes: Sequence[str] | None) -> Select[Any]:
    return (
        select(issue.key, issue.code, issue.message, issue.at, issue.key_digest)
        .where(_generation(environment, name, generation), *_because(codes))
        .order_by(issue.at, issue.key_digest)
    )


def _issue(row: Any) -> Issue:
    return Issue(keys.shown(keys.decode(row.key)), row.code, row.message, row.at, _id(row.at, row.key_digest))


def _id(at: datetime, digest: str) -> str:
    # The place in the listing, so that pages go on from there although the row may be held no longer.
    return f"{(at - _EPOCH) // _MICROSECOND}-{digest}"


def _place(id: str) -> tuple[datetime, str]:
    microseconds, _, digest = id.partition("-")
    try:
        return _EPOCH + int(microseconds) * _MICROSECOND, digest
    except (ValueError, OverflowError):
        raise ValueError("That is not the id of an issue; give that of the last one on the page before.") from None


def _because(codes: Sequence[str] | None) -> list[ColumnElement[bool]]:
    return [] if codes is None else [issue.code.in_(codes)]


def _generation(environment: str, name: str, generation: int) -> ColumnElement[bool]:
    return and_(issue.environment == environment, issue.name == name, issue.generation == generation)
