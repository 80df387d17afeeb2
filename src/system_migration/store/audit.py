"""The append-only record of control actions, and the stored log of runs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select

from system_migration.records import Event, LogLine
from system_migration.store import chain, tables

LINES_PER_RUN = 10_000
_LINE_LENGTH = 2_000
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class Actor:
    """Who acts, and from which host. `identity` is what proved it: an "account" or a "token"; None of a mere word."""

    name: str
    host: str
    identity: str | None = None


def add_event(
    connection: Connection,
    environment: str,
    name: str | None,
    action: str,
    actor: Actor,
    detail: Mapping[str, Any] | None = None,
    run_id: str | None = None,
) -> None:
    """Append one audit entry, with its place in the chain: the last step of its transaction (see `store.chain`)."""
    values = {
        "environment": environment,
        "name": name,
        "run_id": run_id,
        "action": action,
        "actor": actor.name,
        "host": actor.host,
        "detail": json.dumps(detail or {}, ensure_ascii=False),
    }
    chain.append(connection, values)


def newest_action(connection: Connection, run_id: str) -> str | None:
    """What the newest entry of a run says was done."""
    event = tables.event.c
    query = select(event.action).where(event.run_id == run_id).order_by(event.id.desc()).limit(1)
    return connection.execute(query).scalar_one_or_none()


def newest_id(connection: Connection, environment: str, name: str) -> int:
    """The id of a migration's newest entry; 0 without one."""
    event = tables.event.c
    query = select(func.coalesce(func.max(event.id), 0)).where(event.environment == environment, event.name == name)
    return int(connection.execute(query).scalar_one())


def did(
    connection: Connection, environment: str, name: str, actor: Actor, actions: Collection[str], after: int
) -> bool:
    """Whether the actor is on record with one of these actions, in an entry newer than the one with the id `after`."""
    event = tables.event.c
    query = select(event.id).where(
        event.environment == environment,
        event.name == name,
        event.id > after,
        event.action.in_(actions),
        event.actor == actor.name,
        event.host == actor.host,
    )
    return connection.execute(query.limit(1)).first() is not None


def of_request(connection: Connection, environment: str, name: str, request: str) -> Event | None:
    """The newest entry of a migration that came of the request with this id."""
    event = tables.event.c
    query = (
        select(tables.event)
        .where(event.environment == environment, event.name == name)
        .where(event.detail.contains(request, autoescape=True))
        .order_by(event.id.desc())
    )
    found = (_event(row) for row in connection.execute(query))
    return next((each for each in found if each.detail.get("request") == request), None)


def trail(connection: Connection, environment: str, name: str | None, before: int | None, limit: int) -> list[Event]:
    """Up to `limit` entries, newest first: of one migration or of all, of those older than the entry `before`."""
    event = tables.event.c
    query = select(tables.event).where(event.environment == environment).order_by(event.id.desc()).limit(limit)
    if name is not None:
        query = query.where(event.name == name)
    if before is not None:
        query = query.where(event.id < before)
    return [_event(row) for row in connection.execute(query)]


def events_after(
    connection: Connection, environment: str, name: str, run_id: str, after: int, limit: int
) -> list[Event]:
    """Up to `limit` entries of a run that are newer than the entry `after`, oldest first."""
    event = tables.event.c
    query = (
        select(tables.event)
        .where(event.environment == environment, event.name == name, event.run_id == run_id, event.id > after)
        .order_by(event.id)
        .limit(limit)
    )
    return [_event(row) for row in connection.execute(query)]


def _event(row: Any) -> Event:
    return Event(row.at, row.name, row.action, row.actor, row.host, json.loads(row.detail), row.id, row.run_id)


def add_lines(connection: Connection, run_id: str, lines: Sequence[tuple[datetime, str, str]]) -> None:
    """Store log lines, (time, level, message) each, until the run has as many as it may."""
    log = tables.log.c
    stored = connection.execute(select(func.count()).where(log.run_id == run_id)).scalar_one()
    kept = lines[: max(0, LINES_PER_RUN - stored)]
    if kept:
        connection.execute(
            insert(tables.log),
            [
                {"run_id": run_id, "at": at, "level": level, "message": message[:_LINE_LENGTH]}
                for at, level, message in kept
            ],
        )


def lines(
    connection: Connection, environment: str, name: str, run_id: str | None, level: str, limit: int
) -> list[LogLine]:
    """The newest `limit` lines at or above `level`, oldest first."""
    log, run = tables.log.c, tables.run.c
    query = (
        select(log.at, log.level, log.message, log.run_id, log.id)
        .join_from(tables.log, tables.run, log.run_id == run.id)
        .where(
            run.environment == environment,
            run.name == name,
            log.level.in_(_from_level(level)),
        )
        .order_by(log.id.desc())
        .limit(limit)
    )
    if run_id is not None:
        query = query.where(log.run_id == run_id)
    return [_line(row) for row in connection.execute(query)][::-1]


def lines_after(connection: Connection, run_id: str, after: int, limit: int, level: str = "debug") -> list[LogLine]:
    """Up to `limit` lines of a run, at or above `level`, that are newer than the line `after`, oldest first."""
    log = tables.log.c
    query = (
        select(log.at, log.level, log.message, log.run_id, log.id)
        .where(log.run_id == run_id, log.id > after, log.level.in_(_from_level(level)))
        .order_by(log.id)
        .limit(limit)
    )
    return [_line(row) for row in connection.execute(query)]


def lines_before(connection: Connection, run_id: str, before: int | None, limit: int, level: str) -> list[LogLine]:
    """The newest `limit` lines of a run at or above `level`, or of those older than the line `before`; oldest first."""
    log = tables.log.c
    query = (
        select(log.at, log.level, log.message, log.run_id, log.id)
        .where(log.run_id == run_id, log.level.in_(_from_level(level)))
        .order_by(log.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(log.id < before)
    return [_line(row) for row in connection.execute(query)][::-1]


def _from_level(level: str) -> Sequence[str]:
    return LEVELS[LEVELS.index(level.upper()) :]


def _line(row: Any) -> LogLine:
    return LogLine(row.at, row.level, row.message, row.run_id, row.id)
