"""What a runner says of its own run, as it stands in the lease row: short JSON, read with patience.

A look must never fail for a pulse: what another version wrote, or nobody can read, is left out.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

from system_migration.records import Pulse

LONGEST_PHASE = 64
LONGEST_REASON = 200
_LARGEST = 2**63 - 1


class Said(NamedTuple):
    """What a runner has to say at one moment; None where it does not know, or has said nothing yet."""

    phase: str | None = None
    done: int | None = None
    total: int | None = None
    waiting: str | None = None
    batch_size: int | None = None
    workers: int | None = None
    cluster: str | None = None


NOTHING = Said()


def number(value: Any) -> int | None:
    """The value as a number that can be kept; None for what is none. Migrations count in types of their own."""
    try:
        counted = int(value)
    except Exception:  # whatever it is, a number that cannot be shown is not worth a run
        return None
    return counted if abs(counted) <= _LARGEST else None


def shortened(text: str, longest: int) -> str:
    """The text, cut where it is longer than may be kept."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def encode(said: Said) -> str:
    """The pulse as it is stored. ASCII only, so that no text can be one that a database refuses."""
    return json.dumps({name: value for name, value in said._asdict().items() if value is not None})


def decode(text: str | None, at: datetime | None) -> Pulse | None:
    """What `encode` wrote, with the time at which it was; None where nothing is, or nothing that can be read."""
    try:
        found = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or at is None:
        return None
    words = {name: _text(found.get(name)) for name in ("phase", "waiting", "cluster")}
    numbers = {name: _number(found.get(name)) for name in ("done", "total", "batch_size", "workers")}
    return Pulse(at=at, **words, **numbers)  # type: ignore[arg-type]


def _text(value: Any) -> str | None:
    # What stands for a byte that nobody could read comes through ASCII, but could neither be sent nor printed.
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


def _number(value: Any) -> int | None:
    return value if type(value) is int else None
