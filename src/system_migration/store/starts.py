"""How runs were started, as their own first events tell: enough for any later process to repeat a start."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Select, select

from system_migration.records import Run, RunOptions, Start
from system_migration.store import tables
from system_migration.store.runs import find_run

event = tables.event.c
_ACTIONS = ("run_started", "rollback_started", "takeover")
"""What a runner records when it begins, or goes on with what another began."""
_LOOKS = ("dry-run_started", "verify_started")
_OF_OTHERS = ("takeover", "pause_withdrawn")
"""What a start records that came to a run which another one began."""


def newest(connection: Connection, environment: str, name: str, run_id: str) -> Start | None:
    """How the last runner of a run was started."""
    row = connection.execute(_of_run(environment, name, run_id).order_by(event.id.desc()).limit(1)).one_or_none()
    return None if row is None else _start(row)


def first(connection: Connection, environment: str, name: str, run_id: str) -> Start | None:
    """How a run was begun, whoever has taken it over since."""
    row = connection.execute(_of_run(environment, name, run_id).order_by(event.id).limit(1)).one_or_none()
    return None if row is None else _start(row)


def by_request(connection: Connection, environment: str, request: str) -> tuple[Run, Start | None] | None:
    """The run that came of the start with this id, and that start.

    The run bears the id itself, unless the start went on with one that was there.
    """
    run = find_run(connection, environment, request)
    if run is None:
        return _of_another(connection, environment, request)
    query = _of_run(environment, run.migration, run.id, _ACTIONS + _LOOKS).order_by(event.id)
    starts = (_start(row) for row in connection.execute(query))
    return run, next((start for start in starts if start.request == request), None)


def _of_another(connection: Connection, environment: str, request: str) -> tuple[Run, Start | None] | None:
    query = (
        select(event.actor, event.detail, event.run_id)
        .where(event.environment == environment, event.action.in_(_OF_OTHERS), event.run_id.is_not(None))
        .where(event.detail.contains(request, autoescape=True))
        .order_by(event.id.desc())
    )
    for row in connection.execute(query).all():
        start = _start(row)
        if start.request == request and (run := find_run(connection, environment, row.run_id)):
            return run, start
    return None


def _of_run(environment: str, name: str, run_id: str, actions: Collection[str] = _ACTIONS) -> Select[Any]:
    return select(event.actor, event.detail).where(
        event.environment == environment, event.name == name, event.run_id == run_id, event.action.in_(actions)
    )


def _start(row: Any) -> Start:
    detail = json.loads(row.detail)
    return Start(
        actor=row.actor,
        door=detail.get("door"),
        request=detail.get("request"),
        named=detail.get("named", True),
        options=RunOptions.from_given(detail.get("options", {})),
        look=detail.get("look"),
    )
