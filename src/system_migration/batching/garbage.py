"""Fewer garbage collections while rows pass through: they are many, refer to nothing, and are freed without one."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_CONTAINERS = 5_000
"""New containers before the collector looks. With Python's own 700 it takes a sixth of a run's interpreter time; with
ten times as many as here, batches that a cycle holds pile up to dozens of megabytes."""

_turn = threading.Lock()
_runs = 0
_before: tuple[int, int, int] = gc.get_threshold()
_during = _before


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Within the block, and until the last of several at once ends, the collector looks less often; it never stops.

    The threshold is the process's, so it is put back as it was found. A host's own that is higher, or 0, stays, and so
    does what it sets meanwhile.
    """
    global _runs, _before, _during
    with _turn:
        _runs += 1
        if _runs == 1:
            _before = gc.get_threshold()
            if 0 < _before[0] < _CONTAINERS:
                gc.set_threshold(_CONTAINERS, *_before[1:])
            _during = gc.get_threshold()
    try:
        yield
    finally:
        with _turn:
            _runs -= 1
            if _runs == 0 and gc.get_threshold() == _during:
                gc.set_threshold(*_before)
