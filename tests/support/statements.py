"""Statements compiled once for all engines of the tests, and for the processes that are forked from them.

SQLAlchemy keeps what it has compiled with an engine. A host has one or two for as long as it lives; a test makes new
ones, on a database of its own, and compiling the same statements again was a quarter of its work.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Dialect, Engine, event
from sqlalchemy.util import LRUCache

_ROOM = 1_000
"""Statements on tables that only one test knew must not be kept for ever."""


class Statements:
    """A cache for the `compiled_cache` of SQLAlchemy whose entries serve every dialect with the same settings."""

    def __init__(self) -> None:
        self._compiled: LRUCache[Any, Any] = LRUCache(_ROOM)
        self._known: WeakKeyDictionary[Dialect, frozenset[Any]] = WeakKeyDictionary()

    def get(self, key: tuple[Any, ...]) -> Any:
        return self._compiled.get(self._shared(key))

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        self._compiled[self._shared(key)] = compiled

    def _shared(self, key: tuple[Any, ...]) -> tuple[Any, ...]:
        dialect, *statement = key
        if (settings := self._known.get(dialect)) is None:
            settings = self._known[dialect] = _settings(dialect)
        return settings, *statement


def _settings(dialect: Dialect) -> frozenset[Any]:
    """All that it was told, or has found out from its server: the version, the mode, how names are quoted."""
    plain = {name: each for name, each in vars(dialect).items() if isinstance(each, str | int | tuple | None)}
    return frozenset([("class", type(dialect)), *((name, repr(each)) for name, each in plain.items())])


def share() -> None:
    """From now on every connection of this process uses what any other has compiled."""
    shared = Statements()
    event.listen(Engine, "engine_connect", lambda connection: _use(connection, shared))


def _use(connection: Connection, shared: Statements) -> None:
    connection.execution_options(compiled_cache=shared)
