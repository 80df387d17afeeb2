"""Frozen values: what the store returns and the doors render. `as_json` spells them in camelCase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from math import isfinite
from typing import Any

from system_migration.states import Outcome, RunKind, Status


def as_json(record: Any) -> Any:
    """A record as plain JSON values: camelCase names, UTC times as ISO 8601 with a Z, and null for nothing.

    What JSON has no form for, such as NaN, or a Decimal in a migration's own metadata, becomes its text.
    """
    match record:
        case None | bool() | int() | str():
            return record
        case float():
            return record if isfinite(record) else str(record)
        case datetime():
            return record.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case bytes() | bytearray() | memoryview():
            return record.hex()
        case Mapping():
            return {str(key): as_json(value) for key, value in record.items()}
        case list() | tuple() | set() | frozenset():
            return [as_json(item) for item in record]
    if hasattr(record, "__dataclass_fields__"):
        return {
            _camel(f.name): as_json(getattr(record, f.name)) for f in fields(record) if f.metadata.get("json", True)
        }
    return str(record)


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


@dataclass(frozen=True)
class Pulse:
    """What a runner last said of its own run, and `at` when it was last heard of, in the database's time.

    `done` of `total` rows are finished (None: unknown). `waiting` is why the run waits, None while it works. `cluster`
    names the workers of a cluster, and how many were lost; None where there is no cluster. Rows, size
    and number are as the runner sees them at the moment: committed work is counted in `Tally`.
    """

    at: datetime
    phase: str | None
    done: int | None
    total: int | None
    waiting: str | None
    batch_size: int | None
    workers: int | None
    cluster: str | None = None


@dataclass(frozen=True)
class MigrationStatus:
    """Where one migration stands in one environment.

    `request` is what `requested_by` asks of the run that is going: "pause" or "cancel". Of a `cancelled` one,
    `requested_by` is who cancelled it. `waits_for` are those of its `requires` that are not done, and that no plain run
    would do; `waits_for_schema` is the schema revision that is not applied yet, and where the database is. `pulse` is
    what the runner last said, of a run that goes on or that its runner left unfinished. `revision`
    is another one after every change of status, of the runner, of `request` and of the approval; 0 before the first. A
    pause that is taken back leads back to the one from before it. Who acts by what it saw says so with it:
    `Migrator.acting_as(..., seen=revision)`; with an `origin` too, a pause that is sent again acts once all the same.
    `run_id` is the newest attempt that changed, or is changing, where it stands.
    """

    name: str
    version: str
    description: str
    status: Status
    stale: bool
    verified: bool
    rollbackable: bool
    executed_at: datetime | None
    executed_by: str | None
    finished_at: datetime | None
    records_processed: int
    issues: int
    error: str | None
    code_changed: bool
    held_by: str | None
    waits_for_schema: str | None = None
    interrupted: bool = field(default=False, metadata={"json": False})
    manual: bool = field(default=False, metadata={"json": False})
    blocks_startup: bool = field(default=False, metadata={"json": False})
    code_missing: bool = field(default=False, metadata={"json": False})
    request: str | None = field(default=None, metadata={"json": False})
    requested_by: str | None = field(default=None, metadata={"json": False})
    cancelled: bool = field(default=False, metadata={"json": False})
    undoing: bool = field(default=False, metadata={"json": False})
    unjournalled: bool = field(default=False, metadata={"json": False})
    waits_for: tuple[str, ...] = field(default=(), metadata={"json": False})
    pulse: Pulse | None = field(default=None, metadata={"json": False})
    revision: int = field(default=0, metadata={"json": False})
    run_id: str | None = field(default=None, metadata={"json": False})


@dataclass(frozen=True)
class StatusReport:
    """Every migration of an environment in order, and the names a plain `run` would take.

    `in_line` has with them those that another runner works on or that are paused: a run comes to them in this order.
    `newer` are records of later migrations than this program has: a newer one wrote them.
    """

    environment: str
    migrations: list[MigrationStatus]
    pending: list[str]
    warnings: list[str] = field(default_factory=list, metadata={"json": False})
    in_line: list[str] = field(default_factory=list, metadata={"json": False})
    newer: list[str] = field(default_factory=list, metadata={"json": False})


@dataclass(frozen=True)
class Listed:
    """What a migration file declares."""

    name: str
    version: str
    description: str
    rollbackable: bool
    manual: bool
    requires: tuple[str, ...]
    file: str | None
    requires_schema: str | None = None


@dataclass(frozen=True)
class Run:
    """One attempt. `held_only` tells a retry, which works on the held rows alone, from other runs."""

    id: str
    migration: str
    kind: RunKind
    outcome: Outcome | None
    generation: int
    executed_by: str
    host: str
    started_at: datetime
    finished_at: datetime | None
    records_processed: int
    issues: int
    error: str | None
    held_only: bool = field(default=False, metadata={"json": False})


@dataclass(frozen=True)
class Tally:
    """What the committed batches of a run come to, counted from the ledger: the same from whichever process it is seen.

    `deferred` rows had changed under its hands and are done again. All zero where a migration works in no batches.
    """

    rows_read: int
    changed: int
    unchanged: int
    held: int
    vanished: int
    deferred: int


@dataclass(frozen=True)
class Followed:
    """A run as it stands now. `state` is its outcome, or "running", or "stale" when its runner stopped or died.

    `request` is what `requested_by` asks of it: "pause" or "cancel". `pulse` is what its runner last said, None where
    that has said nothing yet, and of a run that has ended.
    """

    run: Run
    state: str
    request: str | None
    requested_by: str | None
    progress: Tally
    pulse: Pulse | None = None
    last_line: int = field(default=0, metadata={"json": False})
    last_event: int = field(default=0, metadata={"json": False})

    @property
    def ended(self) -> bool:
        """Whether it has an outcome."""
        return self.run.outcome is not None


@dataclass(frozen=True)
class Start:
    """How a runner began a run, or went on with it, as the record tells: who asked, through which door, for what.

    `request` is the id of the start; `named` tells one of one migration from one of all that was pending. `look` tells
    a dry run's "sample", "full" and "rollback" apart.
    """

    actor: str
    door: str | None
    request: str | None
    named: bool
    options: RunOptions
    look: str | None = None


@dataclass(frozen=True)
class Unfinished:
    """A run without an end, and how its last runner was started."""

    run_id: str
    name: str
    kind: RunKind
    stale: bool
    start: Start


@dataclass(frozen=True)
class Batch:
    """One committed batch, or, where old ones were compacted, what `batches` of them came to together.

    `pass_number` and `range` place it in the walk; `deferred` rows had changed under its hands and were done again.
    `seconds` are those from its first row transformed to its last one written, 0 where that was not measured.
    """

    pass_number: int
    range: int
    rows: int
    changed: int
    unchanged: int
    held: int
    deferred: int
    vanished: int
    seconds: float
    committed_at: datetime
    batches: int
    generation: int
    run_id: str


@dataclass(frozen=True)
class Issue:
    """A row that could not be migrated. `key` is the value of its key, or the list of them."""

    key: Any
    code: str
    message: str
    at: datetime
    id: str = field(default="", metadata={"json": False})


@dataclass(frozen=True)
class IssueCount:
    """How many rows are held for one reason."""

    code: str
    rows: int


@dataclass(frozen=True)
class LogLine:
    """One stored line of a run's log."""

    at: datetime
    level: str
    message: str
    run_id: str
    id: int = field(default=0, metadata={"json": False})


@dataclass(frozen=True)
class Event:
    """One append-only audit entry."""

    at: datetime
    migration: str | None
    action: str
    actor: str
    host: str
    detail: Mapping[str, Any]
    id: int = field(default=0, metadata={"json": False})
    run_id: str | None = field(default=None, metadata={"json": False})


@dataclass(frozen=True)
class Approval:
    """A developer's word that a migration may run as a dry run has shown it.

    `report` is the hash of that dry run, and `run_id` its run; a start must have the same `parameters`. `identity` is
    what proved who approved it: an "account" or a "token". `void` says why nothing can be started on it any more.
    """

    migration: str
    report: str
    run_id: str
    approved_by: str
    identity: str
    approved_at: datetime
    generation: int
    code: str
    parameters: Mapping[str, Any]
    void: str | None = None


@dataclass(frozen=True)
class ApprovalState:
    """Whether a run of a migration is `required` to be approved here, and the newest approval there is.

    `approvable` is the hash of the newest dry run that could be approved now, and `approvable_run` its run.
    """

    required: bool
    approval: Approval | None
    approvable: str | None
    approvable_run: str | None


@dataclass(frozen=True)
class Unsigned:
    """Events that were written without the key, from the place `first` to `last`.

    They are `attested` where a later signed event vouches that they are as they were then.
    """

    first: int
    last: int
    attested: bool


@dataclass(frozen=True)
class AuditVerdict:
    """What checking the audit chain came to: `broken` names the first link that does not hold, at the place `at`.

    `position` is the last place found in order, `signed` how many events up to there bear the key's signature, `older`
    how many from before the chain its first link vouches for. `head` is the place where the chain says it ends.
    """

    intact: bool
    broken: str | None
    at: int | None
    position: int
    head: int
    signed: int
    older: int
    unsigned: list[Unsigned]
    chain: str | None
    key: str | None


@dataclass(frozen=True)
class Shown:
    """Everything about one migration on one page: newest runs and events first.

    `rollback` is a sentence that says whether it can be rolled back now, and why not. `approval` is None where the
    file is gone.
    """

    status: MigrationStatus
    listed: Listed | None
    generation: int
    runs: list[Run]
    events: list[Event]
    report: Mapping[str, Any] | None
    rollback: str = ""
    approval: ApprovalState | None = None


@dataclass(frozen=True)
class RunReport:
    """How a run, a verification or a rollback ended."""

    name: str
    kind: RunKind
    status: Status
    verified: bool
    records_processed: int
    issues: int
    unchanged: int
    vanished: int
    changed_meanwhile: int
    seconds: float
    run_id: str | None
    error: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HeldSample:
    """The rows a dry run would hold for one reason: how many, and the keys of the first of them."""

    code: str
    rows: int
    keys: list[Any]


@dataclass(frozen=True)
class ChangedSample:
    """One row before and after, values of sensitive columns masked."""

    key: Any
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True)
class DryRunReport:
    """What a dry run found. Nothing but this report was written.

    `rows` is what a run would read, `examined` how many of them were transformed here; `would_change` and `unchanged`
    count among the examined, `would_hold` also what the preflight foresees of the others.
    `refusal` is the sentence with which a run would be refused; `warnings` would go to its log. `journal_bytes` is
    about what a run's journal takes, None for a migration that keeps none; `rollback` whether it could be undone.
    `undoing` tells that it is a rollback that was rehearsed: then all of it is about the journal's rows.
    `hash` is over the counts and the `basis`: version, code, environment, generation and the parameters of the start.
    Without a record, and of a report that can be approved for nothing, both are None.
    """

    name: str
    rows: int | None
    examined: int
    complete: bool
    would_change: int
    would_hold: int
    unchanged: int
    held: list[HeldSample]
    samples: list[ChangedSample]
    rows_per_second: float | None
    workers: int
    estimated_seconds: float | None
    schema_changes: list[str]
    not_covered: list[str]
    warnings: list[str] = field(default_factory=list)
    refusal: str | None = None
    error: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    journal_bytes: int | None = None
    rollback: str = ""
    undoing: bool = False
    hash: str | None = None
    basis: Mapping[str, Any] | None = None


def empty_report(name: str, **values: Any) -> DryRunReport:
    """A dry-run report that has found nothing, but for these values."""
    nothing = {"rows": None, "examined": 0, "complete": False, "would_change": 0, "would_hold": 0, "unchanged": 0}
    lists: dict[str, Any] = {"held": [], "samples": [], "schema_changes": [], "not_covered": []}
    speed: dict[str, Any] = {"rows_per_second": None, "workers": 1, "estimated_seconds": None}
    return DryRunReport(**{"name": name, **nothing, **lists, **speed} | values)


@dataclass(frozen=True)
class Pruned:
    """What a prune deleted of a migration's journal."""

    name: str
    rows: int
    parts: int


@dataclass(frozen=True)
class Finding:
    """One result of `doctor`: `ok`, `warning` or `problem`, what was looked at, and what to do."""

    level: str
    subject: str
    message: str


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What an operator may say at a start. None leaves the choice to the library or the migration.

    `workers` write at once, each with a connection of its own; `processes` transform in processes of their own.
    `dask` is the address of a scheduler whose workers transform; with `dask_fallback` this machine goes on where the
    cluster is lost.
    `max_rows` stops a run that changes more. `from_key` and `to_key` are the first and the last key, as text, of the
    rows to work on; `held_only` works on the held rows alone, and `keys` on those of them that are named: by their key
    as text (of several columns, a JSON list), or by the `id` of their `Issue`, which is exact for keys of any type.
    `allow_scan` accepts a range query without an index.
    An `unattended` start was asked for by nobody: it leaves FAILED ones, and what comes after them, to a person.
    """

    batch_size: int | None = None
    workers: int | None = None
    processes: int | None = None
    dask: str | None = None
    dask_fallback: bool = False
    max_rate: float | None = None
    max_issues: int | None = None
    max_rows: int | None = None
    stop_after_issues: int | None = None
    from_key: str | None = None
    to_key: str | None = None
    held_only: bool = False
    keys: tuple[str, ...] | None = None
    allow_scan: bool = False
    wait: bool = False
    unattended: bool = False
    verbose: bool = False
    accept_code_change: bool = False
    allow_environment: bool = False

    def given(self) -> dict[str, Any]:
        """What was said, as plain JSON values; `from_given` makes the same options of it."""
        values = {_camel(f.name): getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None and value is not False}

    @staticmethod
    def from_given(said: Mapping[str, Any]) -> RunOptions:
        """The options that `given` wrote down; names that this version does not know are left out."""
        values: dict[str, Any] = {f.name: said[_camel(f.name)] for f in fields(RunOptions) if _camel(f.name) in said}
        if "keys" in values:
            values["keys"] = tuple(values["keys"])  # JSON has none, and options that say the same must be equal
        return RunOptions(**values)


@dataclass(frozen=True)
class Origin:
    """Where a start came from: `door` goes into its record, so that a later process can tell its own starts.

    `run_id` is the id that its first run is to bear. `named` tells a start of one migration from one of all that is
    pending.
    """

    door: str
    run_id: str
    named: bool = True

    def detail(self) -> dict[str, Any]:
        """What the record keeps of it."""
        return {"door": self.door, "request": self.run_id, "named": self.named}
