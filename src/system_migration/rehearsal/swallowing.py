"""The promise that no error is swallowed: where the database refuses a statement, the run fails and says so."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event

from system_migration.errors import MigrationSystemError
from system_migration.rehearsal import user_code
from system_migration.rehearsal.edges import writes
from system_migration.rehearsal.report import Broken, Kept, Outcome
from system_migration.rehearsal.stage import Scratch, Stage

MOST_STATEMENTS = 5
_WRONG = "SELECT 1 FROM system_migration_is_refused_here"


@dataclass
class Refusal:
    """The statement that is to be refused, by its number among those of the migration's code; and where it stood."""

    number: int
    met: int = 0
    place: str | None = None


def errors_surface(stage: Stage) -> Outcome:
    """Have the database refuse one writing statement of the migration after the other, in a run each."""
    with stage.fresh() as scratch:
        for number in range(1, MOST_STATEMENTS + 1):
            refusal = Refusal(number)
            with _refusing(scratch, refusal):
                succeeded = _succeeds(scratch)
            if refusal.place is None:
                return Kept()
            if succeeded:
                return Broken(
                    f"It reported success although the database had refused its statement at {refusal.place}: it "
                    "swallows errors. Let them through."
                )
    return Kept()


def _succeeds(scratch: Scratch) -> bool:
    try:
        scratch.run()
    except MigrationSystemError:
        return False
    return True


@contextmanager
def _refusing(scratch: Scratch, refusal: Refusal) -> Iterator[None]:
    """Put a statement in its place that names a table which is not there: the database itself refuses it."""
    files = user_code.files_of(scratch.stage.migration)

    def before(_c: Connection, _cursor: Any, sql: str, parameters: Any, _x: Any, many: bool) -> tuple[str, Any]:
        frame = user_code.caller_among(files, sys._getframe(1)) if writes(sql) else None
        if frame is None:
            return sql, parameters
        refusal.met += 1
        if refusal.met != refusal.number:
            return sql, parameters
        refusal.place = user_code.place(frame)
        return _WRONG, [()] if many else ()

    engine = scratch.database.engine
    event.listen(engine, "before_cursor_execute", before, retval=True)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", before)
