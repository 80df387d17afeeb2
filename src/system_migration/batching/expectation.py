"""How many rows a migration may change. Pure."""

from __future__ import annotations


def max_changed(expected: range | None, max_rows: int | None) -> int | None:
    """The most rows that a generation may change: the lower of what is expected and what the operator allows."""
    limits = [] if max_rows is None else [max_rows]
    if expected is not None:
        limits.append(max(expected, default=0))
    return min(limits, default=None)


def unexpected(migration: str, left: int, changed: int, expected: range | None) -> str | None:
    """Why a migration must not start that changed so many rows before, and has so many left; or None.

    Nothing tells whether the application made a row pending again that was changed before: such a row counts twice.
    """
    if expected is None or left + changed in expected:
        return None
    wanted = f"{min(expected):,} to {max(expected):,} rows" if expected else "no rows"
    before = f" and {changed:,} were changed before" if changed else ""
    return (
        f"Migration {migration} expects to change {wanted}, but {left:,} need it{before}. "
        "Check that this is the right database and that `pending` finds the right rows, or correct expected_rows."
    )
