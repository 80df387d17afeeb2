"""Records as JSON: the names, times and fields that programs rely on."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from system_migration import records
from system_migration.records import Issue, Listed, MigrationStatus, RunOptions, StatusReport, as_json
from system_migration.states import Status

AT = datetime(2025, 11, 22, 8, 10, 14, 123456, tzinfo=UTC)
STATUS = MigrationStatus(
    name="001-a",
    version="1.0.0",
    description="First",
    status=Status.COMPLETED,
    stale=False,
    verified=True,
    rollbackable=False,
    executed_at=AT,
    executed_by="ada@host",
    finished_at=None,
    records_processed=197,
    issues=3,
    error=None,
    code_changed=False,
    held_by=None,
    interrupted=True,
    manual=True,
    code_missing=True,
)


@dataclass(frozen=True)
class Sample:
    plain: int
    two_words: str | None
    of_three_words: bool
    kept_to_us: str = field(default="hidden", metadata={"json": False})


def test_names_are_camel_case_and_hidden_fields_stay_hidden() -> None:
    assert as_json(Sample(1, None, True)) == {"plain": 1, "twoWords": None, "ofThreeWords": True}


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (AT, "2025-11-22T08:10:14.123Z"),
        (datetime(2025, 1, 2, tzinfo=UTC), "2025-01-02T00:00:00.000Z"),
    ],
)
def test_times_are_utc_with_a_z_and_milliseconds(at: datetime, text: str) -> None:
    assert as_json(at) == text


def test_records_are_found_inside_lists_tuples_and_mappings() -> None:
    nested = {"at": AT, 7: [(Sample(1, "x", False),)]}
    assert as_json(nested) == {
        "at": "2025-11-22T08:10:14.123Z",
        "7": [[{"plain": 1, "twoWords": "x", "ofThreeWords": False}]],
    }


def test_the_keys_of_a_mapping_are_the_user_s_and_stay_as_they_are() -> None:
    assert as_json({"rows_read": 1}) == {"rows_read": 1}


def test_a_status_report_has_exactly_the_agreed_keys() -> None:
    document = as_json(StatusReport("production", [STATUS], ["002-b"], warnings=["not shown"]))
    assert document == {
        "environment": "production",
        "migrations": [
            {
                "name": "001-a",
                "version": "1.0.0",
                "description": "First",
                "status": "COMPLETED",
                "stale": False,
                "verified": True,
                "rollbackable": False,
                "executedAt": "2025-11-22T08:10:14.123Z",
                "executedBy": "ada@host",
                "finishedAt": None,
                "recordsProcessed": 197,
                "issues": 3,
                "error": None,
                "codeChanged": False,
                "heldBy": None,
                "waitsForSchema": None,
            }
        ],
        "pending": ["002-b"],
    }
    assert list(document) == ["environment", "migrations", "pending"]
    assert list(document["migrations"][0])[:4] == ["name", "version", "description", "status"]
    assert json.loads(json.dumps(document)) == document


@pytest.mark.parametrize("status", Status)
def test_a_status_is_spelled_in_json_as_it_is_stored(status: Status) -> None:
    assert json.loads(json.dumps(as_json(replace(STATUS, status=status))))["status"] == status.value


def test_an_issue_has_exactly_the_agreed_keys() -> None:
    assert as_json(Issue(key=[1, "a"], code="nul", message="It has a NUL.", at=AT)) == {
        "key": [1, "a"],
        "code": "nul",
        "message": "It has a NUL.",
        "at": "2025-11-22T08:10:14.123Z",
    }


def test_a_tuple_of_requirements_becomes_a_list() -> None:
    listed = Listed("002-b", "1.0.0", "", False, True, ("001-a",), None)
    assert as_json(listed)["requires"] == ["001-a"]


def test_options_that_nobody_gave_leave_the_choice() -> None:
    assert set(as_json(RunOptions()).values()) == {None, False}


def classes_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def test_what_is_told_shares_its_name_with_nothing_else() -> None:
    """Except the batch, which is the same thing before and after its commit."""
    told = Path(records.__file__)
    others = [classes_of(file) for file in told.parent.rglob("*.py") if file != told]
    assert classes_of(told) & set().union(*others) == {"Batch"}
