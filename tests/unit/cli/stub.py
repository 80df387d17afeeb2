"""A stub of our own facade: the command line is tested for what it asks and what it says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from system_migration import records
from system_migration.records import (
    Batch,
    ChangedSample,
    DryRunReport,
    Event,
    Finding,
    HeldSample,
    Issue,
    Listed,
    LogLine,
    MigrationStatus,
    Pruned,
    Pulse,
    Run,
    RunReport,
    StatusReport,
)
from system_migration.states import Outcome, RunKind, Status

AT = datetime(2025, 11, 22, 8, 10, 14, 123456, tzinfo=UTC)
NAME = "001-password-bcrypt"

STATUS = MigrationStatus(
    name=NAME,
    version="1.0.0",
    description="Hash passwords",
    status=Status.COMPLETED,
    stale=False,
    verified=True,
    rollbackable=False,
    executed_at=AT,
    executed_by="ada@host",
    finished_at=AT,
    records_processed=1197,
    issues=3,
    error=None,
    code_changed=False,
    held_by=None,
)
PULSE = Pulse(AT, "migrating", 50, 100, None, 500, 4)
LISTED = Listed(NAME, "1.0.0", "Hash passwords", False, False, (), "001_password_bcrypt.py")
RUN = Run("r1", NAME, RunKind.RUN, Outcome.SUCCEEDED, 1, "ada@host", "host", AT, AT, 1197, 3, None)
BATCH = Batch(1, 4096, 500, 497, 0, 3, 1, 2, 0.25, AT, 12, 1, "r1")
REPORT = RunReport(NAME, RunKind.RUN, Status.COMPLETED, True, 197, 3, 0, 0, 0, 5.44, "r1")
DRY_RUN = DryRunReport(
    name=NAME,
    rows=200,
    examined=100,
    complete=False,
    would_change=97,
    would_hold=3,
    unchanged=0,
    held=[HeldSample("bad-iv", 3, ["a", "b", "c"])],
    samples=[ChangedSample("a", {"passwordHash": None}, {"passwordHash": "***"})],
    rows_per_second=36.2,
    workers=2,
    estimated_seconds=5.5,
    schema_changes=["add column Account.passwordHash"],
    not_covered=["writes of the application meanwhile"],
)


class StubRegistry:
    """What the files declare."""

    names: tuple[str, ...] = (NAME,)

    def listed(self) -> list[Listed]:
        return [LISTED]


class StubMigrator:
    """Answers every verb with fixed records, and remembers what it was asked."""

    def __init__(self) -> None:
        self.environment = "staging"
        self.registry = StubRegistry()
        self.calls: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {
            "status": StatusReport("staging", [STATUS], []),
            "pending": [NAME],
            "run": [REPORT],
            "dry_run": [DRY_RUN],
            "verify": [replace(REPORT, kind=RunKind.VERIFY)],
            "rollback": replace(REPORT, kind=RunKind.ROLLBACK, status=Status.ROLLED_BACK),
            "dry_rollback": replace(
                DRY_RUN, rows=20, would_change=17, held=[HeldSample("changed_since", 3, ["a", "b", "c"])], samples=[]
            ),
            "prune": Pruned(NAME, 1197, 2),
            "last_completed": NAME,
            "skip": replace(STATUS, status=Status.SKIPPED),
            "reset": replace(STATUS, status=Status.PENDING),
            "pause": replace(STATUS, status=Status.RUNNING, request="pause", requested_by="ada"),
            "cancel": replace(STATUS, status=Status.FAILED, cancelled=True, requested_by="ada"),
            "resume": REPORT,
            "retry": replace(REPORT, issues=0),
            "batches": [BATCH],
            "logs": [LogLine(AT, "info", "batch 1 committed", "r1")],
            "history": [RUN],
            "issues": [Issue(["a", 1], "bad-iv", "the IV has 15 bytes", AT)],
            "issue_of": Issue(["a", 1], "bad-iv", "the IV has 15 bytes", AT),
            "init": True,
            "init_sql": "CREATE TABLE system_migration_meta (...);\n",
            "adopt": "The database now belongs to staging.",
            "doctor": [Finding("ok", "connection", "SQLite 3.45")],
        }
        if hasattr(records, "Shown"):
            event = Event(AT, NAME, "run", "ada@host", "host", {"workers": 2})
            self.answers["show"] = records.Shown(
                status=STATUS, listed=LISTED, runs=[RUN], generation=1, report=None, events=[event]
            )

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("_"):
            raise AttributeError(verb)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((verb, *args, *kwargs.items()))
            answer = self.answers[verb]
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call

    def verbs(self) -> list[str]:
        return [verb for verb, *_ in self.calls]

    def close(self, wait: float = 0) -> None:
        pass

    def flush(self, seconds: float) -> bool:
        return True

    def request_stop(self, signal_number: int) -> None:
        self.calls.append(("request_stop", signal_number))
