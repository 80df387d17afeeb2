"""Every command by what is typed behind `migration`, such as `run` and, in a group, two words."""

from __future__ import annotations

from collections.abc import Iterator

import click

from system_migration.cli.catalog import COMMANDS
from system_migration.cli.group import group


def _below(path: str, command: click.Command | None) -> Iterator[tuple[str, click.Command]]:
    assert command is not None
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from _below(f"{path} {name}", each)


EVERY_COMMAND = {
    path: command for name in COMMANDS for path, command in _below(name, group.get_command(click.Context(group), name))
}


def options(path: str) -> list[click.Option]:
    """The options of a command."""
    return [each for each in EVERY_COMMAND[path].params if isinstance(each, click.Option)]


def flags(path: str) -> set[str]:
    """How its options are spelt."""
    return {text for option in options(path) for text in option.opts} | {"--help"}
