"""`doctor`: it must answer especially when the rest cannot start."""

from __future__ import annotations

from system_migration.cli import exit_codes, failures, output, text
from system_migration.cli.options import command
from system_migration.cli.session import Session
from system_migration.errors import ConfigurationError, LoadError
from system_migration.records import Finding, as_json


@command("doctor")
def doctor_command(session: Session) -> int:
    """Check the set-up, and say what to do about each problem.

    Looks at the settings, the migration files, the connection, the rights, the engine's settings and the
    environment that the database is bound to. Exits with 1 when there is a problem. --json prints {ok, findings}.
    """
    findings = _examine(session)
    ok = all(finding.level != "problem" for finding in findings)
    if session.json:
        output.document({"ok": ok, "findings": as_json(findings)})
    else:
        output.lines(text.finding_lines(findings))
    return exit_codes.DONE if ok else exit_codes.FAILED


def _examine(session: Session) -> list[Finding]:
    """What the `Migrator` finds; and whatever keeps it from being built, as a finding too."""
    try:
        with session.migrator() as migrator:
            return migrator.doctor()
    except LoadError as error:
        return [_problem("migrations", error), *_without_files(session)]
    except ConfigurationError as error:
        return [_problem("settings", error)]
    except Exception as error:
        return [_problem("database", error)]


def _without_files(session: Session) -> list[Finding]:
    """The same examination for the database alone, when the migration files do not load."""
    try:
        with session.migrator(files=False) as migrator:
            return migrator.doctor()
    except Exception as error:
        return [_problem("database", error)]


def _problem(subject: str, error: Exception) -> Finding:
    _, _, message = failures.describe(error)
    return Finding("problem", subject, message)
