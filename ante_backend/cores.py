"""How many hashes can be made at a time. Lowest level of the host: imports nothing of it."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """The cores that this process may use, in a container or under `taskset` fewer than the machine has."""
    usable = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(usable(0)) if usable else os.cpu_count() or 1
