"""The log a migration writes to: standard logging, and kept until it can be stored with its run."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, event

from system_migration.store import audit

_logger = logging.getLogger("system_migration.run")


class RunLog(logging.LoggerAdapter[logging.Logger]):
    """Passes every line on to the host's logging, and keeps it for `store`."""

    def __init__(self, migration: str) -> None:
        super().__init__(_logger, {"action": "run.log", "migration": migration})
        self._lines: list[tuple[datetime, str, str]] = []

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        super().log(level, msg, *args, **kwargs)
        try:
            text = logging.LogRecord("", level, "", 0, msg, args, None).getMessage()
        except (TypeError, ValueError, KeyError):
            text = str(msg)  # a mistake in a log line must not end a run
        if len(self._lines) < audit.LINES_PER_RUN:
            self._lines.append((datetime.now(UTC), logging.getLevelName(level), text))

    def store(self, connection: Connection, run_id: str) -> None:
        """Write the lines kept so far into the run's log. They are kept on until the transaction commits."""
        lines = list(self._lines)
        if lines:
            audit.add_lines(connection, run_id, lines)
            event.listen(connection, "commit", lambda _: self._forget(len(lines)), once=True)

    def _forget(self, count: int) -> None:
        del self._lines[:count]
