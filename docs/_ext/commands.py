"""The command line as Markdown: what `--help` says of every command, made from the same click commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from docs._ext.listing import table
from system_migration.cli.catalog import SECTIONS
from system_migration.cli.group import group
from system_migration.cli.options import COMMON


def commands() -> str:
    """Every command with its options, in the sections of `migration --help`; the common options come first."""
    with click.Context(group, info_name="migration") as context:
        parts = ["## Every command", "Takes these, before its name or behind it.", _options(context, common=True)]
        for section, names in SECTIONS.items():
            parts.append(f"## {section}")
            for name in names:
                command = group.get_command(context, name)
                assert command is not None
                parts += _described(click.Context(command, context, name))
    return "\n\n".join(parts)


def _described(context: click.Context) -> Iterator[str]:
    """A command with its own options; behind a group the commands that are in it."""
    command = context.command
    yield f"### `{context.command_path}`"
    yield f"```sh\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```"
    yield inspect.cleandoc(command.help or "").replace("\b", "")
    yield _options(context, common=False)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from _described(click.Context(command.commands[name], context, name))


def _options(context: click.Context, *, common: bool) -> str:
    options = [each for each in context.command.params if isinstance(each, click.Option)]
    shown = [option for option in options if (option.name in COMMON or option.name == "version") is common]
    records = filter(None, (option.get_help_record(context) for option in shown))
    return table("Option | Means", [(f"`{option}`", text) for option, text in records]) if shown else ""
