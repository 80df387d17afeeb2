"""In threads a row that takes too long cannot be stopped; it can be reported, while it is still at it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

log = logging.getLogger(__name__)


class SlowRows:
    """Watches the rows that are being transformed and warns once when one takes longer than `row_seconds`."""

    def __init__(self, migration: str, row_seconds: float | None) -> None:
        self._migration, self._limit = migration, row_seconds
        self._begun: dict[int, float] = {}
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None
        if row_seconds is not None:
            self._watcher = threading.Thread(target=self._watch, args=(row_seconds,), name="slow-rows", daemon=True)
            self._watcher.start()

    def watched(self, rows: Iterable[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
        """The rows, each noted as begun when it is handed out. Costs nothing where there is no limit."""
        return rows if self._limit is None else self._noted(rows)

    def close(self) -> None:
        """End the watch."""
        self._closed.set()
        if self._watcher is not None:
            self._watcher.join()

    def _noted(self, rows: Iterable[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
        me = threading.get_ident()
        try:
            for row in rows:
                self._begun[me] = time.monotonic()
                yield row
        finally:
            self._begun.pop(me, None)

    def _watch(self, limit: float) -> None:
        while not self._closed.wait(limit / 4):
            longest = time.monotonic() - min([*self._begun.copy().values()], default=time.monotonic())
            if longest > limit:
                log.warning(
                    "%s: a row has been transformed for %.1f s, and row_seconds is %g. "
                    "Threads cannot stop it; start with --processes to have the limit enforced.",
                    *(self._migration, longest, limit),
                )
                return
