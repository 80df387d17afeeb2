"""Every command by name: where its code is, and one line about it.

Plain data, so that `migration --help` answers without importing click, SQLAlchemy or any command.
"""

from __future__ import annotations

_RUNNING = "system_migration.cli.commands_run"
_LOOKING = "system_migration.cli.commands_look"
_KEEPING = "system_migration.cli.commands_keep"
_CONTROL = "system_migration.cli.commands_control"
_APPROVING = "system_migration.cli.commands_approve"
_SERVING = "system_migration.cli.commands_serve"

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Look": {
        "status": (_LOOKING, "Show where every migration stands, and what `run` would do next."),
        "list": (_LOOKING, "List the migrations that the files declare; needs no database."),
        "pending": (_LOOKING, "Name the migrations that `run` would take, in order."),
        "show": (_LOOKING, "Show everything known about one migration."),
        "issues": (_LOOKING, "List the rows that a migration could not change and holds."),
        "logs": (_LOOKING, "Print the stored log of a migration's runs, oldest line first."),
        "history": (_LOOKING, "List past runs, or the batches of a migration, newest first."),
        "audit": ("system_migration.cli.commands_audit", "Check or export the record of who did what (audit --help)."),
        "doctor": ("system_migration.cli.doctor", "Check the set-up, and say what to do about each problem."),
    },
    "Run": {
        "dry-run": (_RUNNING, "Run the real code, change no data, and report what would happen."),
        "rehearse": (
            "system_migration.cli.commands_rehearse",
            "Rehearse a migration on scratch copies: run, run again, kill, resume, damage, undo.",
        ),
        "approve": (_APPROVING, "Approve what a dry run has shown, for another developer to start in production."),
        "run": (_RUNNING, "Run every pending migration, or the one that is named."),
        "run-one": (_RUNNING, "Run one migration: another spelling of `run NAME`."),
        "retry": (_CONTROL, "Work on the held rows of a migration once more, and on no others."),
        "verify": (_RUNNING, "Check completed migrations again, on a fresh connection."),
        "rollback": (_RUNNING, "Undo a migration: the one that is named, or the last completed one."),
        "startup": (
            "system_migration.cli.commands_startup",
            "Do what a start of the application does about migrations, then become the server.",
        ),
    },
    "Control": {
        "pause": (_CONTROL, "Ask a run that is going, anywhere, to stop at a clean checkpoint and wait."),
        "resume": (_CONTROL, "Continue a paused migration here."),
        "cancel": (_CONTROL, "End a run that is going or paused; only a start by name continues it."),
    },
    "Serve": {
        "serve": (_SERVING, "Serve the REST API and the page to developers whom a file, or your own code, names."),
    },
    "Keep": {
        "new": (_KEEPING, "Write the next migration file from a template that runs, and its test."),
        "init": (_KEEPING, "Create the tracking tables and bind the database to its environment."),
        "adopt": (_KEEPING, "Bind a restored copy of a database to this environment, with its history."),
        "skip": (_KEEPING, "Mark a migration as not to be run here, with a reason."),
        "prune": (_KEEPING, "Delete the journal of a finished migration, which can then no longer be rolled back."),
        "reset": (_KEEPING, "Make a migration pending again, with a reason; a new generation starts."),
    },
}

COMMANDS: dict[str, tuple[str, str]] = {name: entry for section in SECTIONS.values() for name, entry in section.items()}

HELP_FLAGS = ("-h", "--help")

_HEAD = """\
Usage: migration COMMAND [OPTIONS]

  One-time data migrations: previewed, batched, crash-safe, verified, logged."""

_TAIL = """\
Every command takes --database-url, --environment, --migrations and --json;
`migration COMMAND --help` describes it. What no flag says is taken from the
environment (DATABASE_URL, MIGRATION_ENVIRONMENT or APP_ENV, MIGRATIONS, and for runs
DASK_SCHEDULER, DASK_FALLBACK), then from [tool.system_migration] in pyproject.toml.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 work pending (status --check),
4 another runner holds the migration, 5 refused before any write, 75 the application
must not start yet (startup), 130 or 143 interrupted at a clean checkpoint."""


def help_page() -> str:
    """What `migration --help` prints."""
    width = max(map(len, COMMANDS))
    sections = [
        "\n".join([f"{title}:", *(f"  {name:<{width}}  {line}" for name, (_, line) in commands.items())])
        for title, commands in SECTIONS.items()
    ]
    return "\n\n".join([_HEAD, *sections, _TAIL])


def function_name(command: str) -> str:
    """The name of the function that answers a command, in the command's module."""
    return command.replace("-", "_") + "_command"
