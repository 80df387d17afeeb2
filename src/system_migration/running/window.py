"""A part of the table, as an operator names it: from a first key to a last one, both included."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DataError

from system_migration.batching import keys
from system_migration.batching.keys import Key
from system_migration.batching.target import Target
from system_migration.errors import InvalidKey, Refused
from system_migration.records import RunOptions
from system_migration.store.runs import Attempt

_ORDERED_ALIKE = (int, float, Decimal)
"""What Python and every database put into the same order."""


class Window(NamedTuple):
    """The first and the last key, encoded; None leaves that side open."""

    from_key: str | None
    to_key: str | None


NO_WINDOW = Window(None, None)


def parse_window(connection: Connection, target: Target, name: str, options: RunOptions) -> Window:
    """The window that the options name, in the types in which this database answers keys.

    Raises `InvalidKey` for what cannot be a key of this table, `Refused` for a window in which nothing lies.
    """
    if options.from_key is None and options.to_key is None:
        return NO_WINDOW
    sample = connection.execute(target.lowest_keys(1)).first()
    if sample is None:
        raise Refused(f"Table {target.physical.name!r} is empty: there is no key for migration {name} to begin with.")
    types = [type(part) for part in sample]
    first = _parse(connection, target, "from_key", options.from_key, types)
    last = _parse(connection, target, "to_key", options.to_key, types)
    if first is not None and last is not None and _is_reversed(first, last):
        raise Refused(f"--from-key lies behind --to-key, so no row of migration {name} lies between. Swap them.")
    return Window(*(None if key is None else keys.encode(key) for key in (first, last)))


def _parse(connection: Connection, target: Target, option: str, text: str | None, types: Sequence[type]) -> Key | None:
    if text is None:
        return None
    try:
        key = keys.parse(text, types)
    except ValueError as reason:
        raise InvalidKey(option, target.physical.name, str(reason)) from None
    try:
        connection.execute(target.lowest_keys(1).where(*target.between(key, None)))
    except (OverflowError, DataError):  # SQLite's driver has no larger integers; the run would fail of it
        raise InvalidKey(option, target.physical.name, "no key there can be so large, or written so") from None
    return key


def _is_reversed(first: Key, last: Key) -> bool:
    return len(first) == 1 and isinstance(first[0], _ORDERED_ALIKE) and bool(first[0] > last[0])


def check_inherited(attempt: Attempt, asked: Window) -> None:
    """Raise `Refused` when a run that is taken over keeps to other keys than are asked for now."""
    if asked not in (NO_WINDOW, Window(attempt.from_key, attempt.to_key)):
        whole = window_text(attempt).lower() if attempt.is_windowed else "all keys"
        raise Refused(
            f"The unfinished run of migration {attempt.name} is for {whole}. Finish it first with "
            f"`migration run {attempt.name}`, or cancel it; then start one for other keys."
        )


def window_text(attempt: Attempt) -> str:
    """The window of an attempt in words."""
    first, last = (text and keys.shown(keys.decode(text)) for text in (attempt.from_key, attempt.to_key))
    if attempt.to_key is None:
        return f"Keys from {first!r} on"
    if attempt.from_key is None:
        return f"Keys up to {last!r}"
    return f"Keys {first!r} to {last!r}"
