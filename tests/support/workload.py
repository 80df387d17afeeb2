"""What the acceptance tests migrate: a table of items, and migrations as a user would write them."""

from __future__ import annotations

from tests.support.command import Project

GATE = '''
"""Lets a test stop a migration at a place, and let it go on."""

import time
from pathlib import Path

FOLDER = Path(__file__).parent / "gates"


def stop(name):
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.reached").touch()
    end = time.monotonic() + 120
    while not (FOLDER / f"{name}.open").exists():
        if time.monotonic() > end:
            raise TimeoutError(f"nobody opened the gate {name}")
        time.sleep(0.005)
'''

MARK = """
import sqlalchemy as sa

from system_migration import Migration, MigrationResult, MigrationRollbackResult


class Mark(Migration):
    name = "001-mark"
    description = "Mark every item"
    rollbackable = True

    def up(self, context):
        print("a migration may print")
        context.log.info("marking")
        done = context.connection.execute(sa.text("UPDATE item SET note = 'marked'"))
        return MigrationResult(records_processed=done.rowcount)

    def verify(self, context):
        return context.connection.scalar(sa.text("SELECT count(*) FROM item WHERE note IS NULL")) == 0

    def down(self, context):
        done = context.connection.execute(sa.text("UPDATE item SET note = NULL"))
        return MigrationRollbackResult(records_processed=done.rowcount)
"""

INCREMENT = """
import gate

from system_migration import BatchMigration, RowIssue


class Increment(BatchMigration):
    name = "002-increment"
    version = "2.1.0"
    description = "Add one to every item"
    table = "item"
    reads = ("origin", "y")
    writes = ("y",)
    max_issues = 1

    def transform(self, row):
        if row.origin == 13:
            raise RowIssue("unlucky", "thirteen stays as it is")
        if row.origin == 8:
            gate.stop("transform")
        return {"y": row.y + 1}

    def check(self, row):
        return row.y == row.origin + 1
"""
"""In place and without `pending`. In row 8 it waits at the gate "transform"; row 13 it holds."""

ROWS = 20


def prepare(project: Project, *migrations: tuple[str, str], rows: int = ROWS, open_gate: bool = True) -> None:
    """Fill the item table of a project, and write its migrations."""
    project.sql(
        "CREATE TABLE item (id INTEGER PRIMARY KEY, origin INTEGER NOT NULL, y INTEGER NOT NULL, note VARCHAR(20))"
    )
    values = ", ".join(f"({number}, {number}, {number})" for number in range(1, rows + 1))
    project.sql(f"INSERT INTO item (id, origin, y) VALUES {values}")
    (project.folder / "gate.py").write_text(GATE, encoding="utf-8")
    for stem, text in migrations:
        project.write(stem, text)
    if open_gate:
        project.open("transform")


def increments(project: Project) -> dict[int, int]:
    """By how much each item was changed."""
    return {identity: y - origin for identity, origin, y in project.sql("SELECT id, origin, y FROM item")}


ONCE = {number: 0 if number == 13 else 1 for number in range(1, ROWS + 1)}
"""What `increments` says when INCREMENT has done its work exactly once."""
