"""A list as a table of Markdown."""

from __future__ import annotations

from collections.abc import Iterable


def table(head: str, rows: Iterable[tuple[object, ...]]) -> str:
    """`head` is the first line, its cells parted by `|`."""
    cells = (" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in rows)
    return "\n".join([f"| {head} |", "|---" * (head.count("|") + 1) + "|", *(f"| {row} |" for row in cells)])
