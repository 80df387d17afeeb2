"""Logging of the command line: one handler on stderr, as text or as JSON lines, without tracebacks."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from system_migration import wording
from system_migration.errors import RUN_ENDED

_EXTRAS = {"action": "action", "migration": "migration", "run_id": "runId"}


def configure_logging(log_format: str, *, verbose: bool, tells_endings: bool = False) -> None:
    """Set up the root logger, once: warnings, or with `verbose` every step.

    A command that `tells_endings` says on stderr itself how its run ended; text leaves out the line that says the same.
    """
    root = logging.getLogger()
    if not any(isinstance(handler, StderrHandler) for handler in root.handlers):
        root.addHandler(StderrHandler())
    for handler in root.handlers:
        if isinstance(handler, StderrHandler):
            handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
            handler.filters = [_is_no_ending] if tells_endings and log_format == "text" else []
    root.setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.raiseExceptions = False


def _is_no_ending(record: logging.LogRecord) -> bool:
    return getattr(record, "action", None) != RUN_ENDED


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at that moment: a progress bar takes its place for a while."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class TextLines(logging.Formatter):
    """`WARNING system_migration.runner: what happened`. An exception appears by its type alone."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname} {wording.shown(record.name)}: {wording.shown(_message(record))}"


class JsonLines(logging.Formatter):
    """One JSON object a line, with the action, migration and run that the library names."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"at": at, "level": record.levelname.lower(), "logger": record.name, "message": _message(record)}
        extras = {name: getattr(record, field) for field, name in _EXTRAS.items() if hasattr(record, field)}
        return json.dumps(line | extras, default=str)


def _message(record: logging.LogRecord) -> str:
    """The sentence. The text of an exception may carry a row's values, so only its type is told."""
    kind = record.exc_info[0] if record.exc_info else None
    return f"{record.getMessage()} ({kind.__name__})" if kind else record.getMessage()
