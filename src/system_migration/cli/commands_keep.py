"""Commands that change the record or the project: new, init, adopt, skip, prune, reset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from system_migration import wording
from system_migration.cli import output
from system_migration.cli.options import allow_environment, command, executed_by, reason, yes
from system_migration.cli.session import Session, see_project
from system_migration.cli.terminal import confirm_start
from system_migration.errors import LoadError
from system_migration.records import as_json
from system_migration.wording import counted

if TYPE_CHECKING:
    from system_migration.records import MigrationStatus


@command("new")
@click.argument("title")
def new_command(session: Session, title: str) -> None:
    """Write the next migration file from a template that runs, and its test.

    TITLE in a few words, such as "normalize phones". The file goes into the folder or package of --migrations, its
    test into tests/migrations; nothing is overwritten. --json prints {name, file, test, position, of, after}.
    """
    from system_migration.cli import template

    see_project()
    written = template.write(title, session.settings.migrations)
    try:
        place = template.place(written, session.registry().names)
    except LoadError as error:
        raise LoadError(f"{written.file} was written, but the migrations do not load. {error}") from None
    if session.json:
        output.document(place)
        return
    after = f", after {wording.shown(place['after'])}" if place["after"] else ""
    output.lines(
        [
            f"Wrote {wording.shown(written.file)}",
            f"  and {wording.shown(written.test)}",
            f"{written.name} is number {place['position']} of {place['of']}{after}.",
            "Edit both files, run the test with pytest, then `migration dry-run`.",
        ]
    )


@command("init")
@click.option("--sql", is_flag=True, help="Print the statements instead, for a role that may create tables.")
@executed_by
def init_command(session: Session, sql: bool) -> None:
    """Create the tracking tables and bind the database to its environment.

    Safe to repeat. `run` does the same when it needs to; a SQLite file is created only here. --json prints
    {environment, created}, with --sql {sql}.
    """
    with session.migrator(create=True, files=False) as migrator:
        statements = migrator.init_sql() if sql else ""
        created = False if sql else migrator.init()
        environment = "" if sql else migrator.environment
    if session.json:
        output.document({"sql": statements} if sql else {"environment": environment, "created": created})
    elif sql:
        output.lines([statements.rstrip("\n")])
    else:
        what = "Created the tracking tables" if created else "The tracking tables are already there"
        output.lines([f"{what}; the database belongs to environment {wording.shown(environment)}."])


@command("adopt")
@executed_by
def adopt_command(session: Session) -> None:
    """Bind a restored copy of a database to this environment, with its history.

    For a dump of, say, production that was restored as staging. --json prints {environment, message}.
    """
    with session.migrator(files=False) as migrator:
        message = migrator.adopt()
        environment = migrator.environment
    if session.json:
        output.document({"environment": environment, "message": message})
    else:
        output.lines([wording.paragraph(message)])


@command("skip")
@click.argument("name")
@reason
@allow_environment
@executed_by
def skip_command(session: Session, name: str, reason: str, allow_environment: bool) -> None:
    """Mark a migration as not to be run here, with a reason.

    Only a pending or a failed one can be skipped. --json prints the migration as `status` does.
    """
    with session.migrator() as migrator:
        status = migrator.skip(name, reason, allow_environment=allow_environment)
    _show_status(session, status)


@command("reset")
@click.argument("name")
@reason
@allow_environment
@executed_by
def reset_command(session: Session, name: str, reason: str, allow_environment: bool) -> None:
    """Make a migration pending again, with a reason; a new generation starts.

    The data stays as it is; what earlier runs did stays in the history. --json prints the migration as `status` does.
    """
    with session.migrator() as migrator:
        status = migrator.reset(name, reason, allow_environment=allow_environment)
    _show_status(session, status)


@command("prune")
@click.argument("name")
@yes
@allow_environment
@executed_by
def prune_command(session: Session, name: str, yes: bool, allow_environment: bool) -> None:
    """Delete the journal of a finished migration, which can then no longer be rolled back.

    Never that of unfinished work. In production it asks for the environment's name, or needs --yes. --json prints
    {name, rows, parts}.
    """
    with session.migrator() as migrator:
        confirm_start(f"delete the journal of {wording.shown(name)} for good", migrator.environment, yes=yes)
        pruned = migrator.prune(name, allow_environment=allow_environment)
    if session.json:
        output.document(as_json(pruned))
    else:
        changes = f"{counted(pruned.rows, 'change')} in {counted(pruned.parts, 'part')}"
        output.lines([f"Deleted the journal of {wording.shown(name)}: {changes}. It can no longer be rolled back."])


def _show_status(session: Session, status: MigrationStatus) -> None:
    if session.json:
        output.document(as_json(status))
    else:
        output.lines([f"{wording.shown(status.name)} is now {status.status}."])
