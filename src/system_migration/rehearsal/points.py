"""Points between two values of a key, as far apart as can be told without reading what lies between. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

_PRINTABLE = (0x20, 0x7F)
_DIGITS = 6


def between(low: Any, high: Any, count: int) -> list[Any]:
    """Up to `count` different values strictly between `low` and `high`; none for a type without a measure.

    They need not be values of any row: rows are looked for from there on.
    """
    walk = _walk(low, high) if low != high else None
    if walk is None:
        return []
    found = dict.fromkeys(walk(place, count + 1) for place in range(1, count + 1))
    return [point for point in found if point not in (low, high)]


def _walk(low: Any, high: Any) -> Callable[[int, int], Any] | None:
    """A function of `place` and `of`: the value that is so many parts of the way from `low` to `high`."""
    match low, high:
        case (bool(), _):
            return None
        case (int(), int()):
            return lambda place, of: low + (high - low) * place // of
        case (float(), float()) | (Decimal(), Decimal()):
            return lambda place, of: low + (high - low) * place / of
        case (datetime(), datetime()) | (date(), date()):
            return lambda place, of: low + (high - low) * place / of
        case (UUID(), UUID()):
            return lambda place, of: UUID(int=low.int + (high.int - low.int) * place // of)
        case (str(), str()):
            return lambda place, of: _text(low, high, place, of)
        case (bytes(), bytes()):
            return lambda place, of: _bytes(low, high, place, of)
    return None


def _text(low: str, high: str, place: int, of: int) -> str:
    """By the characters after what both begin with. Collations order otherwise: then the points are less even."""
    common = _common_beginning(low, high)
    base = _PRINTABLE[1] - _PRINTABLE[0]

    def number(text: str) -> int:
        digits = [min(max(ord(c), _PRINTABLE[0]), _PRINTABLE[1] - 1) - _PRINTABLE[0] for c in text[:_DIGITS]]
        return sum(digit * base ** (_DIGITS - 1 - position) for position, digit in enumerate(digits))

    first, last = number(low[len(common) :]), number(high[len(common) :])
    point, letters = first + (last - first) * place // of, ""
    for _ in range(_DIGITS):
        point, digit = divmod(point, base)
        letters = chr(digit + _PRINTABLE[0]) + letters
    return common + letters


def _bytes(low: bytes, high: bytes, place: int, of: int) -> bytes:
    width = max(len(low), len(high))
    first, last = (int.from_bytes(each.ljust(width, b"\0"), "big") for each in (low, high))
    return (first + (last - first) * place // of).to_bytes(width, "big")


def _common_beginning(one: str, other: str) -> str:
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    return one[:shared]
