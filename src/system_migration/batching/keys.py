"""Keys of any type, composite too, written down without loss. Pure.

A key is only ever ordered and compared by the database; Python merely carries it.
"""

from __future__ import annotations

import hashlib
from typing import Any

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


def _readable(part: Any) -> str:
    return part.hex() if isinstance(part, bytes) else str(part)
