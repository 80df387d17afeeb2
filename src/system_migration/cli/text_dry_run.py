"""The report of a dry run as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from system_migration.cli.text import table_without_heading
from system_migration.wording import counted, duration, paragraph, shown, size, speed, value

if TYPE_CHECKING:
    from system_migration.records import ChangedSample, DryRunReport

KEYS = 5


def dry_run_lines(reports: Sequence[DryRunReport], told: str = "") -> list[str]:
    """The reports, one after the other with an empty line between them, each complete in itself."""
    lines: list[str] = []
    for report in reports:
        lines += ["", *_one(report)] if lines else _one(report)
    return lines


def dry_rollback_lines(reports: Sequence[DryRunReport], told: str = "") -> list[str]:
    """The reports of what a rollback would do."""
    lines = []
    for report in reports:
        lines.append(f"{shown(report.name)}: dry run of a rollback, no data was changed")
        if report.refusal:
            lines.append(f"  REFUSED: {paragraph(report.refusal)}")
            continue
        if report.rows is not None:
            figures = [("changes in the journal", f"{report.rows:,}"), ("would be undone", f"{report.would_change:,}")]
            figures.append(("would be left as they are", f"{report.would_hold:,}"))
            lines += _indented(table_without_heading(figures))
        if report.held:
            lines += ["  Rows that are not what the migration made of them:", *_indented(_held(report), 4)]
        lines += ["  Not covered by a dry run:", *_items(report.not_covered)]
    return lines


def _one(report: DryRunReport) -> list[str]:
    lines = [f"{shown(report.name)}: dry run, no data was changed"]
    if report.refusal:
        lines.append(f"  REFUSED: {paragraph(report.refusal)}")
    if report.error:
        lines.append(f"  FAILED: {paragraph(report.error)}")
    lines += [f"  WARNING: {paragraph(warning)}" for warning in report.warnings]
    lines += _indented(_figures(report))
    if report.held:
        lines += ["  Rows that would be held:", *_indented(_held(report), 4)]
    if report.samples:
        lines += ["  Samples (before -> after):", *_indented(_samples(report.samples), 4)]
    if report.schema_changes:
        lines += ["  Changes that `prepare` would make first:", *_items(report.schema_changes)]
    return [*lines, "  Not covered by a dry run:", *_items(report.not_covered or ["(nothing was named)"])]


def _figures(report: DryRunReport) -> list[str]:
    extent = "all" if report.complete else "a sample; --full takes all"
    rows = [
        ("rows to read", "unknown" if report.rows is None else f"{report.rows:,}"),
        ("examined", f"{report.examined:,} ({extent})"),
        ("would change", f"{report.would_change:,}"),
        ("would be held", f"{report.would_hold:,}"),
    ]
    if report.unchanged:
        rows.append(("already right", f"{report.unchanged:,}"))
    workers = counted(report.workers, "worker")
    if report.rows_per_second is not None:
        rows.append(("speed", f"{speed(report.rows_per_second)} with {workers}"))
    if report.estimated_seconds is not None:
        rows.append(("estimate", f"{duration(report.estimated_seconds)} with {workers}"))
    if report.journal_bytes is not None:
        rows.append(("journal", f"about {size(report.journal_bytes)}, for an automatic rollback"))
    if report.rollback:
        rows.append(("afterwards", f"it {report.rollback}"))
    if report.hash is not None:
        rows.append(("report", report.hash))
    rows += [(name, value(item)) for name, item in report.metadata.items()]
    return table_without_heading(rows)


def _held(report: DryRunReport) -> list[str]:
    cells = []
    for sample in report.held:
        keys = "; ".join(value(key) for key in sample.keys[:KEYS])
        more = sample.rows - min(len(sample.keys), KEYS)
        cells.append((sample.code, counted(sample.rows, "row"), f"{keys} and {more:,} more" if more > 0 else keys))
    return table_without_heading(cells)


def _samples(samples: Sequence[ChangedSample]) -> list[str]:
    cells = []
    for sample in samples:
        for column, after in sample.after.items():
            change = f"{value(sample.before.get(column))} -> {value(after)}"
            cells.append((value(sample.key), column, change))
    return table_without_heading(cells)


def _items(texts: Sequence[str]) -> list[str]:
    return [f"    - {paragraph(text)}" for text in texts]


def _indented(lines: Sequence[str], by: int = 2) -> list[str]:
    return [" " * by + line for line in lines]
