"""The click group, which imports a command's module when that command is asked for, and the edge for errors."""

from __future__ import annotations

import signal
from importlib import import_module

import click

from system_migration import wording
from system_migration.cli import catalog, exit_codes, output
from system_migration.cli.options import common_parameters


class LazyGroup(click.Group):
    """Knows the commands by the catalog's names alone."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(catalog.COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in catalog.COMMANDS:
            ctx.fail(f"There is no command {cmd_name!r}.{_close_to(cmd_name)}")
        module, _ = catalog.COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), catalog.function_name(cmd_name))
        return command

    def get_help(self, ctx: click.Context) -> str:
        return catalog.help_page()


def _close_to(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, catalog.COMMANDS, cutoff=0.7)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _print_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import version

        output.lines([f"migration {version('system-migration')}"])
        context.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": list(catalog.HELP_FLAGS)})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@click.pass_context
def group(context: click.Context, /, **flags: object) -> None:
    """One-time data migrations."""
    context.obj = flags


group.params += common_parameters()


def invoke(arguments: list[str]) -> int:
    """Run one command; whatever goes wrong becomes one sentence (or one document) and an exit code."""
    try:
        result = group.main(arguments, prog_name="migration", standalone_mode=False)
    except click.ClickException as error:
        return _report(arguments, exit_codes.USAGE, "usage", _usage_message(error))
    except (click.Abort, KeyboardInterrupt):
        message = "Interrupted. `migration status` shows where things stand."
        return _report(arguments, exit_codes.SIGNAL + signal.SIGINT, "interrupted", message)
    except (Exception, SystemExit) as error:
        from system_migration.cli.failures import describe

        return _report(arguments, *describe(error))
    return result if isinstance(result, int) else exit_codes.DONE


def _report(arguments: list[str], code: int, slug: str, message: str) -> int:
    if "--json" in arguments:
        output.document({"error": {"code": slug, "message": message}})
    else:
        output.notice(f"migration: {wording.paragraph(message)}")
    return code


def _usage_message(error: click.ClickException) -> str:
    from system_migration.cli.failures import without_passwords

    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "migration"
    return f"{without_passwords(error.format_message())} See `{path} --help`."
