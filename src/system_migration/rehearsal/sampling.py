"""Which rows of a large table stand for all of them: both ends of its key, and the rest spread between.

Nothing here sorts or counts the table: every look but those for the two ends reads a bounded number of index entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, func, literal, not_, select
from sqlalchemy.types import NullType

from system_migration.rehearsal.points import between
from system_migration.rehearsal.tables import Key

POINTS = 40
"""At how many places between its ends a key is looked at."""
WINDOW = 2_000
"""How many rows are looked at from each of them, to find some that are pending."""
OTHERS = 10
"""One row in so many is one that is not pending."""

Ask = Callable[[Select[Any]], Sequence[Any]]


class TooSlow(Exception):
    """A look at the source ran into its time limit."""


@dataclass
class Sample:
    """Picks `rows` keys of one table. `ask` runs one query, and raises `TooSlow` past the time limit.

    `pending` says which rows need the change. `notes` says what could not be done as well as it should.
    """

    ask: Ask
    table: FromClause
    key: tuple[ColumnElement[Any], ...]
    rows: int
    pending: ColumnElement[bool] | None = None
    notes: list[str] = field(default_factory=list)
    _chosen: dict[Key, None] = field(default_factory=dict)

    def keys(self) -> list[Key]:
        """The keys that were picked, pending ones first."""
        if self.pending is None:
            self._pick(None, self.rows)
        else:
            pending = func.coalesce(self.pending, literal(False))
            others = max(1, self.rows // OTHERS)
            self._pick(pending, self.rows - others)
            self._pick(not_(pending), self.rows - len(self._chosen), ends=False)
        self._fill()
        return list(self._chosen)

    def _pick(self, condition: ColumnElement[bool] | None, wanted: int, *, ends: bool = True) -> None:
        """Add `wanted` keys of rows that meet the condition, a quarter of them from each end."""
        limit = len(self._chosen) + wanted
        quarter = max(1, wanted // 4)
        look = self._end if ends else self._window_at_end
        for backwards in (False, True):
            found = look(condition, quarter, backwards)
            self._add(found, limit)
            if ends and len(found) < quarter and not self.notes:
                return  # there are no more: looking for them again would be another walk over the whole table
        points = self._points(min(POINTS, limit - len(self._chosen)))
        for number, point in enumerate(points):
            share = (limit - len(self._chosen)) // (len(points) - number)
            self._add(self._from(point, condition, share), len(self._chosen) + share)

    def _add(self, keys: Sequence[Any], limit: int) -> None:
        for key in keys:
            if len(self._chosen) >= limit:
                return
            self._chosen.setdefault(tuple(key))

    def _fill(self) -> None:
        """Where rows are still wanting, take what comes next from the lower end, whatever it is."""
        if len(self._chosen) < self.rows:
            self._add(self.ask(self._ordered(False).limit(self.rows + len(self._chosen))), self.rows)

    def _end(self, condition: ColumnElement[bool] | None, limit: int, backwards: bool) -> Sequence[Any]:
        query = self._ordered(backwards)
        try:
            return self.ask((query if condition is None else query.where(condition)).limit(limit))
        except TooSlow:
            note = "the sample may have few pending rows: to look for them took too long, as no index serves `pending`"
            if note not in self.notes:
                self.notes.append(note)
            return self._window_at_end(condition, limit, backwards)

    def _window_at_end(self, condition: ColumnElement[bool] | None, limit: int, backwards: bool) -> Sequence[Any]:
        return self._within(self._ordered(backwards), condition, limit)

    def _from(self, point: Any, condition: ColumnElement[bool] | None, limit: int) -> Sequence[Any]:
        return self._within(self._ordered(False).where(self.key[0] >= literal(point, NullType())), condition, limit)

    def _within(self, query: Select[Any], condition: ColumnElement[bool] | None, limit: int) -> Sequence[Any]:
        """Of the first rows of a query, those that meet the condition: never a walk to the table's end."""
        if condition is None:
            return self.ask(query.limit(limit))
        window = query.add_columns(condition.label("system_migration_meets")).limit(WINDOW).subquery()
        *key, meets = window.c
        return self.ask(select(*key).where(meets).limit(limit))

    def _ordered(self, backwards: bool) -> Select[Any]:
        named = [part.label(f"system_migration_key_{number}") for number, part in enumerate(self.key)]
        order = [part.desc() for part in self.key] if backwards else list(self.key)
        return select(*named).select_from(self.table).order_by(*order)

    def _points(self, count: int) -> list[Any]:
        ends = [self.ask(self._ordered(backwards).limit(1)) for backwards in (False, True)]
        if not all(ends):
            return []
        (low,), (high,) = ends
        return between(low[0], high[0], count)
