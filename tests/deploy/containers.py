"""What the compose file and the Kubernetes examples say of a container, held against the code that runs in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import click

from ante_backend.app_settings import AppSettings
from system_migration.cli.group import group
from system_migration.settings import FIELDS
from tests.deploy.conftest import ROOT

OTHERS_READ = {"PGPASSWORD"}
"""Variables of the database's own client library."""


def unread(names: Iterable[str]) -> list[str]:
    """The variables among these that no program of ours reads: a name mistyped in a deployment file says nothing."""
    library = {variable for field in FIELDS for variable in field.variables}
    host = set(re.findall(r'"([A-Z][A-Z0-9_]+)"', (ROOT / "ante_backend/settings.py").read_text(encoding="utf-8")))
    application = {name.upper() for name in AppSettings.model_fields}
    return sorted(set(names) - library - host - application - OTHERS_READ)


def parse(command: list[str]) -> None:
    """Read a command line as the program does. Raises click's error where it would."""
    program, name, *arguments = command
    assert program == "migration"
    with click.Context(group) as context:
        found = group.get_command(context, name)
        assert found is not None
        found.make_context(name, arguments, parent=context).close()


def interpolate(text: str, given: Mapping[str, str]) -> str:
    """What compose makes of `${NAME:?sentence}` and `${NAME:-default}`. A demanded one that is missing: KeyError."""

    def value(found: re.Match[str]) -> str:
        return given.get(found[1], found[3]) if found[2] == ":-" else given[found[1]]

    return re.sub(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}", value, text)
