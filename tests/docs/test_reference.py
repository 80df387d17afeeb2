"""The reference names every declaration and every issue code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from system_migration import BatchMigration, Migration
from system_migration.batching import settling, suspicion, transform, worker, writes
from system_migration.store import issues

REFERENCE = (Path(__file__).parents[2] / "docs/reference/declarations.md").read_text(encoding="utf-8")
NOT_FOR_AUTHORS = {"defines", "keeps_journal", "table_name", "has_pending"}
CODES = [
    transform.TRANSFORM_ERROR,
    writes.STILL_PENDING,
    settling.CONSTRAINT_VIOLATION,
    settling.VALUE_REFUSED,
    worker.TIME_LIMIT,
    worker.MEMORY_LIMIT,
    worker.WORKER_DIED,
    suspicion.KILLED_THE_RUNNER,
    *issues.NOT_RESTORED,
]


@pytest.mark.parametrize("kind", [Migration, BatchMigration])
def test_every_declaration_is_described(kind: type) -> None:
    names = {name for name in {*vars(kind), *kind.__annotations__} if not name.startswith("_")} - NOT_FOR_AUTHORS
    assert "name" in names or "table" in names
    assert not [name for name in names if not re.search(rf"^\| `{name}[`(]", REFERENCE, re.MULTILINE)]


@pytest.mark.parametrize("code", CODES)
def test_every_issue_code_is_described(code: str) -> None:
    assert f"| `{code}` |" in REFERENCE
