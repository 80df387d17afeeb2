"""Keys of any type, composite too, written down without loss. Pure.

A key is only ever ordered and compared by the database; Python merely carries it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from system_migration.batching import values

Key = tuple[Any, ...]


def encode(key: Key) -> str:
    """A key as text, from which `decode` makes the same values of the same types."""
    for part in key:
        if isinstance(part, list | dict) or not values.can_pack(part):
            raise TypeError(f"a key of type {type(part).__name__} cannot be recorded")
    return values.encode(key)


def decode(text: str) -> Key:
    """The key that `encode` wrote down."""
    return values.decode(text)


def digest(key: Key) -> str:
    """A fixed-length name of a key, for an index."""
    return hashlib.sha256(encode(key).encode()).hexdigest()


def shown(key: Key) -> Any:
    """A key as people read it: the value itself, or the list of the parts."""
    parts = [part if isinstance(part, int | str | None) else _readable(part) for part in key]
    return parts[0] if len(parts) == 1 else parts


def parse(text: str, types: Sequence[type]) -> Key:
    """A key as a person writes it: the value, or for several columns a JSON list of them. Raises `ValueError`.

    `types` are those that the database's own keys of this table arrive in; bytes are written in hexadecimal.
    """
    if len(types) == 1:
        return (_parse_part(text, types[0]),)
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError):  # the latter for a list of lists of lists ...
        parts = None
    if not isinstance(parts, list) or len(parts) != len(types):
        raise ValueError(f"the key has {len(types)} columns: write it as a JSON list of {len(types)} values")
    written = (part if isinstance(part, str) else json.dumps(part) for part in parts)
    return tuple(_parse_part(part, kind) for part, kind in zip(written, types, strict=True))


_READERS: dict[type, Callable[[str], Any]] = {
    int: int,
    str: str,
    float: float,
    Decimal: Decimal,
    UUID: UUID,
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    bytes: bytes.fromhex,
    bool: lambda text: {"true": True, "false": False}[text.lower()],
}


def _parse_part(text: str, kind: type) -> Any:
    if kind not in _READERS:
        raise ValueError(f"a key of type {kind.__name__} cannot be written as text")
    try:
        part = _READERS[kind](text)
        if part != part:
            raise ValueError("not a number")  # which no order has a place for
        return part
    except (ValueError, ArithmeticError, KeyError):
        # Without its text: a key may be personal.
        raise ValueError(f"a value of type {kind.__name__} is expected") from None


def _readable(part: Any) -> str:
    return part.hex() if isinstance(part, bytes) else str(part)
