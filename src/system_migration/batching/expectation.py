"""How many rows a migration may change. Pure."""

from __future__ import annotations


def max_changed(expected: range | None, max_rows: int | None) -> int | None:
    """The most rows that a generation may change: the lower of what is expected and what the operator allows."""
    limits = [] if max_rows is None else [max_rows]
    if expected is not None:
        limits.append(max(expected, default=0))
    return min(limits, default=None)


def unexpected(migration: str, rows: int, expected: range | None) -> str | None:
    """Why a migration that would change so many rows must not start, or None."""
    if expected is None or rows in expected:
        return None
    wanted = f"{min(expected):,} to {max(expected):,} rows" if expected else "no rows"
    return (
        f"Migration {migration} expects to change {wanted}, but {rows:,} need it. "
        "Check that this is the right database and that `pending` finds the right rows, or correct expected_rows."
    )
