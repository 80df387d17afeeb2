"""Obeying an operator: the runner looks, now and then, whether it is to pause or to end."""

from __future__ import annotations

import threading

from sqlalchemy.exc import DBAPIError

from system_migration.clock import Clock
from system_migration.errors import Cancelled, Paused
from system_migration.store import control
from system_migration.store.control import Asked, Request
from system_migration.store.database import Database
from system_migration.store.runs import Attempt

EVERY_SECONDS = 0.3
"""How often the request is looked at, at most: one look by primary key."""


class Requests:
    """The requests to one attempt. Any number of threads may ask; together they look once in `EVERY_SECONDS`."""

    def __init__(self, database: Database, attempt: Attempt, clock: Clock) -> None:
        self._database, self._attempt, self._clock = database, attempt, clock
        self._turn = threading.Lock()
        self._next_look = float("-inf")
        self._asked: Asked | None = None

    def check(self) -> None:
        """Raise `Paused` or `Cancelled` when an operator asked for it; the next threads too, once one has seen it."""
        if self._asked is None and self._is_due():
            self._asked = self._look()
        self._obey()

    def check_now(self) -> None:
        """As `check`, and look in any case: at a point after which it is too late for long."""
        if self._asked is None:
            self._asked = self._look()
        self._obey()

    def _is_due(self) -> bool:
        with self._turn:
            moment = self._clock.monotonic()
            if moment < self._next_look:
                return False
            self._next_look = moment + EVERY_SECONDS
            return True

    def _look(self) -> Asked | None:
        try:
            with self._database.read() as connection:
                return control.asked(connection, self._attempt.environment, self._attempt.name)
        except DBAPIError:
            return None  # the next look asks again; what is really broken, the next batch finds and mends

    def _obey(self) -> None:
        if self._asked is None:
            return
        name, by = self._attempt.name, self._asked.by
        if self._asked.request is Request.CANCEL:
            raise Cancelled(name, by)
        raise Paused(name, pause_reason(by), f"Go on with `migration resume {name}`.")


def pause_reason(by: str) -> str:
    """Why a run is paused, as its record keeps it."""
    return f"{by} asked for it."
