"""What a developer may do with a migration as it stands, and why not what they might look for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from system_migration.batch_migration import BatchMigration
from system_migration.records import ApprovalState, MigrationStatus, Shown, StatusReport
from system_migration.registry import Registry
from system_migration.states import Status
from system_migration.undoing import POSSIBLE, keeps_journal
from system_migration.wording import counted

_OVER = (Status.COMPLETED, Status.FAILED, Status.SKIPPED, Status.ROLLED_BACK)
_SETTLED = (Status.COMPLETED, Status.SKIPPED)


@dataclass(frozen=True)
class Verb:
    """Something that can be done. `key` is the last part of its path.

    A `destructive` one asks first. One that `starts` needs the environment's name, typed, in production. One that is
    `plain` has nothing to be asked before it is done, unless it starts something in production. The form of one that is
    `real` begins without the tick for a dry run: to go on with what is unfinished is no rehearsal.
    """

    key: str
    label: str
    hint: str
    main: bool = False
    destructive: bool = False
    starts: bool = False
    plain: bool = False
    real: bool = False

    @property
    def form(self) -> str:
        """The query of its form's address: a dry run is a run with a tick."""
        if self.key == "dry-run":
            return "verb=run&dryRun=true"
        return f"verb={self.key}&dryRun=false" if self.real else f"verb={self.key}"

    def is_done_at_once(self, *, production: bool) -> bool:
        """Whether a button does it; else one leads to its form."""
        return self.plain and not self.destructive and not (self.starts and production)


@dataclass(frozen=True)
class Standing:
    """All that the verbs depend on. `rollback` is the sentence of `Shown`; `unmet` are requirements, and how they are.

    `batched` migrations hold rows, those that `sweep` find rows they have missed, and `journalled` ones are undone from
    their journal.
    """

    status: MigrationStatus
    rollback: str
    unmet: tuple[str, ...] = ()
    batched: bool = False
    sweeps: bool = False
    journalled: bool = False
    approval: ApprovalState | None = None


@dataclass(frozen=True)
class Offer:
    """The verbs, in the order of their buttons, and sentences that say why something obvious is not among them."""

    verbs: list[Verb]
    why: list[str]

    def find(self, key: str) -> Verb | None:
        """The verb with this key, if it is offered."""
        return next((verb for verb in self.verbs if verb.key == key), None)


def standing(shown: Shown, report: StatusReport, registry: Registry) -> Standing:
    """What `offer` needs to know of a migration, from what was seen of it and of all, and from its class, if known."""
    name = shown.status.name
    migration = registry[name] if name in registry else None  # noqa: SIM401  (a registry has no `get`)
    status_of = {each.name: each.status for each in report.migrations}
    stands = {each: status_of.get(each, Status.PENDING) for each in (migration.requires if migration else ())}
    return Standing(
        shown.status,
        shown.rollback,
        tuple(f"{each}, which is {status}" for each, status in stands.items() if status not in _SETTLED),
        batched=migration is not None and issubclass(migration, BatchMigration),
        sweeps=migration is not None and issubclass(migration, BatchMigration) and migration.defines("pending"),
        journalled=migration is not None and keeps_journal(migration),
        approval=shown.approval,
    )


def offer(s: Standing) -> Offer:
    """What the state offers. Whatever it does not offer, `Migrator` would refuse, or it makes no sense there."""
    return Offer(list(_verbs(s)), list(_reasons(s)))


def _verbs(s: Standing) -> Iterator[Verb]:
    m = s.status
    if m.status is Status.RUNNING and not m.stale:
        yield from _while_it_goes(m)
    elif m.held_by and not m.stale:
        return  # somebody is just starting it: whatever else is asked would come too late
    elif m.code_missing:
        if m.status in (Status.RUNNING, Status.PAUSED):
            yield from _ending(m)
    else:
        yield from _going_on(s)
        yield from _afterwards(s)
        yield from _approving(s.approval)
        yield from _deciding(m)


def _while_it_goes(m: MigrationStatus) -> Iterator[Verb]:
    if m.request is None:
        yield Verb("pause", "Pause", "The runner finishes its batches and waits for you.", main=True, plain=True)
    elif m.request == "pause":
        hint = "The runner has not obeyed yet: it goes on as if nothing was asked."
        yield Verb("resume", "Take back the pause", hint, main=True, starts=True, plain=True)
    if m.request != "cancel":
        yield _CANCEL


def _going_on(s: Standing) -> Iterator[Verb]:
    m = s.status
    if not s.unmet and (m.undoing or not m.waits_for_schema):
        yield from _starting(s)
    if not m.undoing and (m.status is not Status.COMPLETED or s.sweeps):
        yield Verb("dry-run", "Dry run", "Changes no data and reports what a run would do.")
    if m.stale:
        yield from _ending(m)


def _starting(s: Standing) -> Iterator[Verb]:
    m, what = s.status, "rollback" if s.status.undoing else "run"
    if m.status is Status.PAUSED:
        yield Verb("resume", f"Resume the {what}", "Goes on where it stopped.", main=True, starts=True, plain=True)
    elif m.stale:
        hint = "Takes over from the runner that is gone."
        yield Verb("run", f"Continue the {what}", hint, main=True, starts=True, real=True)
    elif m.status is Status.FAILED and not (m.undoing and s.journalled):
        hint = "Goes on with what is left to do."
        yield Verb("run", "Run again", hint, main=not m.undoing, starts=True)
    elif m.status is Status.PENDING:
        yield Verb("run", "Start", "It has not run here yet.", main=True, starts=True)
    elif m.status in (Status.SKIPPED, Status.ROLLED_BACK):
        yield Verb("run", "Run", f"It is {_words(m.status)}: nothing but a start by name runs it.", starts=True)
    elif m.status is Status.COMPLETED and s.sweeps:
        yield Verb("run", "Look for missed rows", "Works on rows that are pending again, on no others.", starts=True)


def _afterwards(s: Standing) -> Iterator[Verb]:
    m = s.status
    if s.batched and m.issues and not m.undoing and m.status in (Status.COMPLETED, Status.FAILED, Status.PAUSED):
        held = counted(m.issues, "held row")
        yield Verb("retry", f"Retry {held}", "Works on the held rows once more.", starts=True, plain=True)
    if m.status is Status.COMPLETED:
        yield Verb("verify", "Verify", "Checks the result once more, on a connection of its own.", plain=True)
    worked = m.status in (Status.COMPLETED, Status.FAILED) or (m.status is Status.PAUSED and not m.undoing)
    if worked and s.rollback.startswith(POSSIBLE):
        label = "Go on rolling back" if m.undoing else "Roll back"
        hint = "Undoes what the migration did."
        yield Verb("rollback", label, hint, main=m.undoing, destructive=True, starts=True, real=m.undoing)


def _approving(a: ApprovalState | None) -> Iterator[Verb]:
    """Where a run needs it: of the newest dry run that fits the code, and of what somebody has approved."""
    if a is None or not a.required:
        return
    standing = a.approval if a.approval is not None and a.approval.void is None else None
    if a.approvable is not None and (standing is None or standing.report != a.approvable):
        yield Verb("approve", "Approve", "Lets another developer start what the dry run has shown.")
    if standing is not None:
        yield Verb("withdraw-approval", "Withdraw the approval", "Nobody can start it on it any more.", plain=True)


def _deciding(m: MigrationStatus) -> Iterator[Verb]:
    if m.status is Status.PAUSED:
        yield _CANCEL
    if m.status in (Status.PENDING, Status.FAILED):
        yield Verb("skip", "Skip", "Marks it as not to be run here, with a reason.", destructive=True)
    if m.status in _OVER:
        yield Verb("reset", "Reset", "Makes it pending again: all of its work may be done twice.", destructive=True)


def _ending(m: MigrationStatus) -> Iterator[Verb]:
    if m.status is Status.RUNNING:
        yield Verb("pause", "Pause", "Its runner is gone, so it is paused at once.", plain=True)
    yield _CANCEL


def _reasons(s: Standing) -> Iterator[str]:
    m = s.status
    if m.code_missing:
        yield "Its file is missing, so nothing can be started. Put the file back, or leave it: the record stays."
        return
    if m.held_by and not m.stale and m.status is not Status.RUNNING:
        yield f"{m.held_by} is just starting it."
    if s.unmet and m.status is not Status.COMPLETED:
        yield f"It cannot start: it requires {' and '.join(s.unmet)}."
    if m.waits_for_schema and not m.undoing:
        yield f"It cannot start: it waits for {m.waits_for_schema}."
    if m.request == "cancel":
        yield f"{m.requested_by} has cancelled it; the runner obeys within a batch."
    if m.status is Status.COMPLETED and not s.sweeps:
        yield "It cannot be run again: nothing tells which rows it missed. A reset starts all of its work over."
    if m.status is Status.FAILED and m.undoing and s.journalled:
        yield "It cannot be run: a rollback was begun. End that first, then run it again."
    worked = m.status in (Status.COMPLETED, Status.FAILED, Status.PAUSED)
    if worked and s.rollback and not s.rollback.startswith(POSSIBLE):
        yield f"It {s.rollback}"
    if m.code_changed and m.status in (Status.RUNNING, Status.PAUSED, Status.FAILED):
        yield "Its code has changed since the run began. Going on needs the change accepted, in the form."


def _words(status: Status) -> str:
    return status.value.lower().replace("_", " ")


_CANCEL = Verb(
    "cancel",
    "Cancel",
    "Ends the run for good. What is committed stays; only a start by name goes on.",
    destructive=True,
)
