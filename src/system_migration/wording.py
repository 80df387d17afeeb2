"""How records are worded for people, whichever door shows them: numbers, times, odd characters. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def shown(value: object) -> str:
    """Any text on one line: control characters, line ends and text-direction marks appear as escapes."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def paragraph(text: str) -> str:
    """A message that may have several lines: each one escaped, the later ones indented as belonging to it."""
    return "\n  ".join(shown(line) for line in text.strip().splitlines())


def counted(number: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def speed(rate: float) -> str:
    """`1,200 rows/s`, with a decimal where it matters."""
    return f"{rate:,.0f} rows/s" if rate >= 10 else f"{rate:.1f} rows/s"


def size(number: int) -> str:
    """A number of bytes in the unit a person would choose."""
    amount, unit = float(number), "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:,.0f} {unit}" if unit == "bytes" or amount >= 10 else f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """A time span in the unit a person would choose."""
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds % 1 else f"{seconds:.0f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def moment(at: datetime | None) -> str:
    """A time in UTC, to the second; headings say that it is UTC."""
    if at is None:
        return "-"
    return (at.astimezone(UTC) if at.tzinfo else at).strftime("%Y-%m-%d %H:%M:%S")


def value(item: Any) -> str:
    """A key or a column's value on one line."""
    match item:
        case None:
            return "NULL"
        case bytes() | bytearray() | memoryview():
            return "0x" + bytes(item).hex()
        case list() | tuple():
            return ", ".join(map(value, item))
        case Mapping():
            return ", ".join(f"{shown(name)} {value(each)}" for name, each in item.items())
    return shown(item)
