"""Values of database rows, written down as text without loss. Pure.

What comes back has the same value and the same type: a NaN, a Decimal's trailing zeros and the sign of a zero too.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

_PLAIN = (type(None), bool, int, str)
"""Exactly these types, no subclass: an enumeration's member would come back as something else."""

_CODECS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "time": (time, time.isoformat, time.fromisoformat),
    "microseconds": (
        timedelta,
        lambda value: value // timedelta(microseconds=1),
        lambda text: timedelta(microseconds=text),
    ),
    "decimal": (Decimal, str, Decimal),
    "uuid": (UUID, str, UUID),
    "float": (float, float.hex, float.fromhex),
    "bytes": (bytes, lambda value: base64.b64encode(value).decode(), base64.b64decode),
    "list": (list, lambda items: [pack(item) for item in items], lambda items: [unpack(item) for item in items]),
    "dict": (
        dict,
        lambda items: [[pack(key), pack(item)] for key, item in items.items()],
        lambda items: {unpack(key): unpack(item) for key, item in items},
    ),
}
_BY_TYPE = {kind: (name, write) for name, (kind, write, _) in _CODECS.items()}
_SURROGATES = "surrogates"


def encode(values: Sequence[Any]) -> str:
    """Values as text, from which `decode` makes the same ones. Raises TypeError for a type it has no form for."""
    return dump([pack(value) for value in values])


def decode(text: str) -> tuple[Any, ...]:
    """The values that `encode` wrote down."""
    return tuple(unpack(value) for value in json.loads(text))


def dump(packed: Any) -> str:
    """What `pack` made, as compact text that any UTF-8 column holds."""
    return json.dumps(packed, ensure_ascii=False, separators=(",", ":"))


def pack(value: Any) -> Any:
    """A value in a form that JSON has: itself, or an object that names its type."""
    if isinstance(value, bytearray | memoryview):
        value = bytes(value)
    kind = type(value)
    if kind is str and _has_surrogates(value):
        # Half a character is no UTF-8, and JSON's own escapes would join two halves into one character.
        return {_SURROGATES: base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()}
    if kind in _PLAIN:
        return value
    if kind in _BY_TYPE:
        name, write = _BY_TYPE[kind]
        return {name: write(value)}
    raise TypeError(f"a value of type {kind.__name__} cannot be recorded")


def can_pack(value: Any) -> bool:
    """Whether there is a form for values of this type."""
    return isinstance(value, bytearray | memoryview) or type(value) in _PLAIN or type(value) in _BY_TYPE


def unpack(packed: Any) -> Any:
    """The value that `pack` was given."""
    if not isinstance(packed, dict):
        return packed
    ((name, form),) = packed.items()
    if name == _SURROGATES:
        return base64.b64decode(form).decode("utf-8", "surrogatepass")
    return _CODECS[name][2](form)


def _has_surrogates(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
