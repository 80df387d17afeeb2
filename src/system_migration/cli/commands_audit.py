"""`migration audit`: check the audit chain, export it as evidence, let it go on under a new key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from system_migration import wording
from system_migration.cli import catalog, exit_codes, output
from system_migration.cli.options import COMMON, allow_environment, command, common_parameters, executed_by
from system_migration.cli.session import Session
from system_migration.records import as_json
from system_migration.whole_files import write_whole

if TYPE_CHECKING:
    pass

_HELP = f"""{catalog.COMMANDS["audit"][1]}

Every event has a place in a chain, and where MIGRATION_AUDIT_KEY is set a signature over itself and the one before.
"""


@click.group("audit", help=_HELP, context_settings={"help_option_names": list(catalog.HELP_FLAGS)})
@click.pass_context
def audit_command(context: click.Context, /, **flags: object) -> None:
    before = context.obj or {}
    context.obj = {name: flags.get(name) or before.get(name) for name in COMMON}


audit_command.params += common_parameters()


@command("verify", short="Check every link, and name the first that does not hold.")
@click.option(
    "--head", metavar="EXPORTED", help="A file that `audit export` wrote, or its last line: nothing may be gone."
)
@click.option("--file", metavar="EXPORT", help="Check this export instead of the database.")
def verify_command(session: Session, head: str | None, file: str | None) -> int:
    """Check every link of the audit chain, and name the first that does not hold.

    Needs MIGRATION_AUDIT_KEY. Exits with 1 where the chain is broken. --json prints {intact, broken, at, position,
    head, signed, older, unsigned, chain, key}.
    """
    if file is not None:
        from system_migration.auditing import verify_file

        verdict = verify_file(session.settings, file, head)
    else:
        with session.migrator(files=False) as migrator:
            verdict = migrator.audit_verify(head)
    if session.json:
        output.document(as_json(verdict))
    else:
        output.lines(wording.audit_sentences(verdict))
    return exit_codes.DONE if verdict.intact else exit_codes.FAILED


@command("export", short="Write all events and the chain's head as JSON lines.")
@click.option("--output", "target", metavar="FILE", help="Into this file, whole or not at all (default: stdout).")
@click.option("--overwrite", is_flag=True, help="Replace the file of --output if there is one; it is kept otherwise.")
def export_command(session: Session, target: str | None, overwrite: bool) -> None:
    """Write all events of the audit chain as JSON lines, its head the last.

    Keep it where whoever can change the database cannot change it. With --output, --json prints {file, lines};
    without, the lines are printed as they are.
    """
    if overwrite and target is None:
        raise click.UsageError("--overwrite is for the file of --output FILE.")
    written, tell = 0, output.printer()
    with session.migrator(files=False) as migrator:
        lines = migrator.audit_export()
        if target is None:
            for line in lines:
                tell(line)
            return
        written = write_whole(Path(target), lines, overwrite=overwrite)
    if session.json:
        output.document({"file": target, "lines": written})
    else:
        events = wording.counted(written - 1, "event")
        output.lines([f"Wrote {events} and the head to {wording.shown(target)}."])


@command("rekey", short="Begin the audit chain, or let it go on, under the key that is set now.")
@allow_environment
@executed_by
def rekey_command(session: Session, allow_environment: bool) -> None:
    """Begin the audit chain, or let it go on, under the key that is set now.

    An event of its own records it. Keep the former key in MIGRATION_AUDIT_KEYS_OLD: what it signed is checked with it.
    --json prints {key}, an id that does not lead back to the key.
    """
    with session.migrator(files=False) as migrator:
        key = migrator.audit_rekey(allow_environment=allow_environment)
    if session.json:
        output.document({"key": key})
    else:
        output.lines([f"From here on the audit chain is signed with the key {key}."])


for _each in (verify_command, export_command, rekey_command):
    audit_command.add_command(_each)
