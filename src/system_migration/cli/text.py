"""Records as lines of text. Pure; whatever a user or a database wrote is escaped here or in `output.table`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from system_migration.cli.output import table
from system_migration.states import Status
from system_migration.wording import (
    approval,
    counted,
    duration,
    kind,
    left,
    moment,
    next_step,
    notes,
    paragraph,
    shown,
    value,
)

if TYPE_CHECKING:
    from system_migration.records import (
        Batch,
        Finding,
        Issue,
        Listed,
        LogLine,
        MigrationStatus,
        Run,
        RunReport,
        Shown,
        StatusReport,
    )


def status_lines(report: StatusReport) -> list[str]:
    """The table of `status`, the reasons of what failed, and what `run` would do next."""
    heading = f"Environment: {shown(report.environment)}"
    if not report.migrations:
        return [heading, "There are no migrations. `migration new TITLE` writes the first."]
    rows = [
        (m.name, _standing(m), f"{m.records_processed:,}", moment(m.executed_at), m.executed_by or "-")
        for m in report.migrations
    ]
    reasons = [f"{shown(m.name)}: {paragraph(m.error)}" for m in report.migrations if m.error]
    reasons += [f"{shown(m.name)} waits for {m.waits_for_schema}." for m in report.migrations if m.waits_for_schema]
    return [
        heading,
        "",
        *table(("NAME", "STATUS", "ROWS", "STARTED (UTC)", "BY"), rows, right={2}),
        "",
        *reasons,
        f"Next: {next_step(report)}",
    ]


def _standing(m: MigrationStatus) -> str:
    """The status, and in brackets what a person should know before trusting it."""
    told = notes(m)
    return f"{m.status} ({', '.join(told)})" if told else str(m.status)


def listed_lines(listed: Sequence[Listed]) -> list[str]:
    """The table of `list`."""
    if not listed:
        return ["There are no migrations. `migration new TITLE` writes the first."]
    rows = [(m.name, m.version, "yes" if m.rollbackable else "no", _remark(m)) for m in listed]
    return table(("NAME", "VERSION", "ROLLBACK", "DESCRIPTION"), rows)


def _remark(m: Listed) -> str:
    notes = [f"after {', '.join(m.requires)}"] if m.requires else []
    notes += [f"after schema revision {shown(m.requires_schema)}"] if m.requires_schema else []
    notes += ["only when named"] if m.manual else []
    return f"{m.description} ({'; '.join(notes)})" if notes else m.description


def run_lines(reports: Sequence[RunReport], told: str = "") -> list[str]:
    """One line for each migration that was run, verified or rolled back, and what to look at next.

    A reason that `told`, the error shown beside the lines, already gives is not repeated.
    """
    lines = table_without_heading([_run_cells(report) for report in reports])
    hints = []
    for report in reports:
        if report.error and report.error not in told:
            hints.append(f"{shown(report.name)}: {paragraph(report.error)}")
        if note := report.metadata.get("note") if report.status == Status.PAUSED else None:
            hints.append(f"{shown(report.name)}: {paragraph(str(note))}")
        if report.issues:
            what = "were not restored" if report.kind == "rollback" else "are held"
            hints.append(f"See `migration issues {shown(report.name)}` for the rows that {what}.")
    return [*lines, *hints]


def table_without_heading(rows: Sequence[Sequence[object]]) -> list[str]:
    """Aligned columns that explain themselves."""
    return table([""] * len(rows[0]), rows)[1:] if rows else []


def _run_cells(report: RunReport) -> tuple[str, ...]:
    others = (
        (report.unchanged, "already right"),
        (report.changed_meanwhile, "changed meanwhile"),
        (report.vanished, "vanished"),
    )
    rows = [counted(report.records_processed, "row"), f"{report.issues:,} {left(report.status)}"]
    rows += [f"{number:,} {what}" for number, what in others if number]
    verdict = "verified" if report.verified else "not verified"
    verdict = "" if report.kind == "rollback" else verdict
    return report.name, str(report.status), ", ".join(rows), duration(report.seconds), verdict


def issue_lines(issues: Sequence[Issue]) -> list[str]:
    """The table of `issues`."""
    if not issues:
        return ["No row is held."]
    rows = [(value(issue.key), issue.code, moment(issue.at), issue.message) for issue in issues]
    return table(("KEY", "CODE", "SINCE (UTC)", "MESSAGE"), rows)


def log_lines(lines: Sequence[LogLine]) -> list[str]:
    """The lines of `logs`."""
    if not lines:
        return ["There are no log lines."]
    return table_without_heading([(moment(line.at), line.level.upper(), line.message) for line in lines])


def history_lines(runs: Sequence[Run]) -> list[str]:
    """The table of `history`."""
    if not runs:
        return ["Nothing was run yet."]
    rows = [
        (
            moment(run.started_at),
            run.migration,
            kind(run),
            run.outcome or "no outcome",
            f"{run.records_processed:,}",
            f"{run.issues:,}",
            run.executed_by,
            run.id,
        )
        for run in runs
    ]
    return table(("STARTED (UTC)", "MIGRATION", "KIND", "OUTCOME", "ROWS", "HELD", "BY", "RUN"), rows, right={4, 5})


def batch_lines(batches: Sequence[Batch]) -> list[str]:
    """The table of `history --batches`. Old batches are kept as one row, which tells how many they were."""
    if not batches:
        return ["There are no batches."]
    rows = [
        (
            moment(batch.committed_at),
            batch.generation,
            batch.pass_number,
            f"{batch.batches:,}",
            *(f"{number:,}" for number in (batch.rows, batch.changed, batch.held, batch.deferred, batch.vanished)),
            f"{batch.seconds:,.2f}",
            batch.run_id,
        )
        for batch in batches
    ]
    counts = ("ROWS", "CHANGED", "HELD", "DEFERRED", "VANISHED", "SECONDS")
    heading = ("COMMITTED (UTC)", "GENERATION", "PASS", "BATCHES", *counts, "RUN")
    return table(heading, rows, right=set(range(1, 10)))


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """The lines of `doctor`."""
    return table_without_heading([(finding.level, finding.subject, finding.message) for finding in findings])


def shown_lines(found: Shown) -> list[str]:
    """Everything about one migration."""
    m = found.status
    facts = [
        ("name", m.name),
        ("version", m.version),
        ("description", m.description),
        ("status", _standing(m)),
        ("verified", "yes" if m.verified else "no"),
        ("rollback", found.rollback or ("yes" if m.rollbackable else "no")),
        ("generation", found.generation),
        ("rows", f"{m.records_processed:,}"),
        ("started (UTC)", moment(m.executed_at)),
        ("by", m.executed_by or "-"),
        ("finished (UTC)", moment(m.finished_at)),
    ]
    if found.listed is not None:
        facts += [("requires", ", ".join(found.listed.requires) or "-")]
        facts += [("schema", found.listed.requires_schema)] if found.listed.requires_schema else []
        facts += [("file", found.listed.file or "-")]
    if told := approval(found.approval):
        facts.append(("approval", told))
    lines = table_without_heading(facts)
    if m.error:
        lines += ["", f"Error: {paragraph(m.error)}"]
    if m.waits_for_schema:
        lines += ["", f"It waits for {m.waits_for_schema}."]
    if found.report is not None:
        report = f" (report {found.report['hash']})" if found.report.get("hash") else ""
        lines += ["", f"A dry run was made{report}: `migration show {shown(m.name)} --json` has its report."]
    if found.runs:
        lines += ["", *history_lines(found.runs)]
    if found.events:
        rows = [(moment(e.at), e.action, e.actor, e.host, _detail(e.detail)) for e in found.events]
        lines += ["", *table(("WHEN (UTC)", "EVENT", "BY", "HOST", "DETAIL"), rows)]
    return lines


def _detail(detail: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value(item)}" for name, item in detail.items())
