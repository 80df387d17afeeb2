"""How records are worded for people, whichever door shows them: numbers, times, odd characters. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from system_migration.states import Status

if TYPE_CHECKING:
    from system_migration.records import ApprovalState, AuditVerdict, MigrationStatus, Run, StatusReport

_FEW_WORDS = 60


def shown(value: object) -> str:
    """Any text on one line: control characters, line ends and text-direction marks appear as escapes."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def paragraph(text: str) -> str:
    """A message that may have several lines: each one escaped, the later ones indented as belonging to it."""
    return "\n  ".join(shown(line) for line in text.strip().splitlines())


def counted(number: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def speed(rate: float) -> str:
    """`1,200 rows/s`, with a decimal where it matters."""
    return f"{rate:,.0f} rows/s" if rate >= 10 else f"{rate:.1f} rows/s"


def size(number: int) -> str:
    """A number of bytes in the unit a person would choose."""
    amount, unit = float(number), "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:,.0f} {unit}" if unit == "bytes" or amount >= 10 else f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """A time span in the unit a person would choose."""
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds % 1 else f"{seconds:.0f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def moment(at: datetime | None) -> str:
    """A time in UTC, to the second; headings say that it is UTC."""
    if at is None:
        return "-"
    return (at.astimezone(UTC) if at.tzinfo else at).strftime("%Y-%m-%d %H:%M:%S")


def value(item: Any) -> str:
    """A key or a column's value on one line."""
    match item:
        case None:
            return "NULL"
        case bytes() | bytearray() | memoryview():
            return "0x" + bytes(item).hex()
        case list() | tuple():
            return ", ".join(map(value, item))
        case Mapping():
            return ", ".join(f"{shown(name)} {value(each)}" for name, each in item.items())
    return shown(item)


def notes(m: MigrationStatus) -> list[str]:
    """What a person should know beside a status before trusting it."""
    possible = (
        (m.undoing, "rollback unfinished"),
        (m.interrupted, "interrupted"),
        (m.stale and not m.interrupted, "stale"),
        (m.request, f"{m.request} asked for by {m.requested_by}"),
        (m.cancelled, f"cancelled by {m.requested_by}"),
        (m.held_by and not m.stale, f"worked on by {m.held_by}"),
        (waits := waits_for(m), waits),
        (schema := waits_for_schema(m), schema),
        (m.status == Status.COMPLETED and not m.verified, "not verified"),
        (m.issues, f"{m.issues:,} {left(m.status)}"),
        (m.unjournalled, "cannot be rolled back, its journal was pruned"),
        (m.code_changed, "code changed"),
        (m.code_missing, "file missing"),
        (m.manual, "manual"),
    )
    return [note for applies, note in possible if applies]


def approval(state: ApprovalState | None) -> str:
    """Whether somebody has approved a run; nothing where none is needed, and nobody has."""
    if state is None or (state.approval is None and not state.required):
        return ""
    if (given := state.approval) is None:
        return "needed, and not given"
    told = f"by {shown(given.approved_by)} at {moment(given.approved_at)} for report {given.report[:12]}"
    return told if given.void is None else f"{told}; it holds no more, as {shown(given.void)}"


def waits_for(m: MigrationStatus) -> str:
    """Why a run that somebody works on does not get on, in a few words."""
    if m.status != Status.RUNNING or m.stale or m.pulse is None or m.pulse.waiting is None:
        return ""
    reason = m.pulse.waiting
    return f"waits: {reason if len(reason) <= _FEW_WORDS else reason[: _FEW_WORDS - 1] + '…'}"


def waits_for_schema(m: MigrationStatus) -> str:
    """Which schema revision it waits for, in a few words. Where the database is, `m.waits_for_schema` says too."""
    return f"waits for {m.waits_for_schema.partition(',')[0]}" if m.waits_for_schema else ""


def left(status: str) -> str:
    """What the listed rows of a migration with this status are."""
    return "not restored" if status == Status.ROLLED_BACK else "held"


def kind(run: Run) -> str:
    """What an attempt is called: a run of the held rows alone was asked for as a retry."""
    return "retry" if run.held_only else run.kind.value


def needs_a_person(report: StatusReport) -> list[str]:
    """The migrations that are half-done and wait for somebody to name them."""
    waiting = [m for m in report.migrations if m.status in (Status.PAUSED, Status.FAILED)]
    return [m.name for m in waiting if m.name not in report.pending]


def next_step(report: StatusReport, most: int | None = None) -> str:
    """What a plain `run` would do next, and what waits for a person, in a sentence or two.

    `most` names of each kind at the most: the others are counted.
    """
    standing = {m.name: m for m in report.migrations}
    coming, stop = _until_a_schema_is_missing(report, standing)
    blocked = {name: m.waits_for for name in coming if (m := standing.get(name)) and m.waits_for}
    steps = [step(standing.get(name), name) for name in coming if name not in blocked]
    told = [f"`migration run` would {', then '.join(_first(steps, most))}"] if steps else []
    waits = [f"{shown(name)} waits for {', '.join(map(shown, others))}" for name, others in blocked.items()]
    told = [*told, *_first(waits, most), *stop] or ["nothing; `migration run` has no work"]
    waiting = ", ".join(_first([shown(name) for name in needs_a_person(report)], most))
    return f"{'; '.join(told)}." + (f" Half-done, and waiting for you to name it: {waiting}." if waiting else "")


def _until_a_schema_is_missing(
    report: StatusReport, standing: Mapping[str, MigrationStatus]
) -> tuple[Sequence[str], Sequence[str]]:
    """What a plain run comes to before it stops for want of a schema revision, and where it does."""
    for number, name in enumerate(report.pending):
        if (m := standing.get(name)) is not None and m.waits_for_schema:
            return report.pending[:number], [f"{shown(name)} {waits_for_schema(m)}"]
    return report.pending, []


def _first(texts: Sequence[str], most: int | None) -> Sequence[str]:
    return texts if most is None or len(texts) <= most else [*texts[:most], f"{len(texts) - most:,} more"]


def step(m: MigrationStatus | None, name: str) -> str:
    """What a run would do with it: start it, continue it, try it again."""
    if m is None:
        return f"start {shown(name)}"
    if m.undoing:
        return f"continue the rollback of {shown(name)}"
    return {Status.RUNNING: f"continue {shown(name)}", Status.FAILED: f"try {shown(name)} again"}.get(
        m.status, f"start {shown(name)}"
    )


def audit_sentences(verdict: AuditVerdict) -> list[str]:
    """What checking the audit chain came to: the broken link, or up to where it holds; and what is not signed."""
    if verdict.broken is not None:
        told = [f"The audit chain is broken. {shown(verdict.broken)}"]
    elif verdict.position == 0:
        told = ["The audit chain is empty: no event was recorded yet."]
    else:
        told = [f"The audit chain holds up to event {verdict.position:,}: {counted(verdict.signed, 'signed event')}."]
    if verdict.older:
        told.append(f"{counted(verdict.older, 'event')} from before the chain: covered by its first link.")
    for span in verdict.unsigned:
        places = f"Event {span.first:,}" if span.first == span.last else f"Events {span.first:,} to {span.last:,}"
        vouched = "attested by the next signed event." if span.attested else "nothing attests them yet."
        told.append(f"{places}: written without the key; {vouched}")
    return told
