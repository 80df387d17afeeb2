"""The loop that a careful developer writes with the driver alone: short transactions, rows locked while changed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from benchmarks.contestants import BATCH, Arena
from benchmarks.harness import Timing
from system_migration import connect


@dataclass(frozen=True)
class _Words:
    """How a database begins a transaction, locks what it reads, and marks a parameter."""

    begin: str
    lock: str
    mark: str


_WORDS = {
    "postgresql": _Words("BEGIN", "FOR UPDATE", "%s"),
    "mariadb": _Words("BEGIN", "FOR UPDATE", "%s"),
    "sqlite": _Words("BEGIN IMMEDIATE", "", "?"),
}


def guarded_loop(arena: Arena) -> Timing:
    """Batches by key, each read under lock, changed and written with `executemany`, and committed."""
    engine = connect(arena.url)
    pooled = engine.raw_connection()
    driver: Any = pooled.driver_connection
    if arena.kind == "sqlite":
        driver.isolation_level = None  # else the driver begins only before the first write, after our read
    elif arena.kind == "postgresql":
        driver.autocommit = True
    began = time.monotonic()
    _loop(driver, arena, _WORDS[arena.kind])
    seconds = time.monotonic() - began
    pooled.invalidate()
    engine.dispose()
    return Timing(seconds)


def _loop(driver: Any, arena: Arena, words: _Words) -> None:
    read = f"SELECT id, v FROM item WHERE id > {words.mark} ORDER BY id LIMIT {BATCH} {words.lock}"
    write = f"UPDATE item SET v = {words.mark} WHERE id = {words.mark}"
    cursor, last = driver.cursor(), 0
    while True:
        cursor.execute(words.begin)
        cursor.execute(read, (last,))
        rows = cursor.fetchall()
        if rows:
            cursor.executemany(write, [(arena.change.changed(value), key) for key, value in rows])
        cursor.execute("COMMIT")
        if not rows:
            return
        last = rows[-1][0]
