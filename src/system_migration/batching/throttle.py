"""How long to wait so that a run stays below a rate. Pure."""

from __future__ import annotations


def pause(rows: int, seconds: float, max_rate: float | None) -> float:
    """Seconds to wait after `rows` took `seconds`, so that the rate stays at or below `max_rate` rows a second."""
    if not max_rate:
        return 0.0
    return max(0.0, rows / max_rate - seconds)
