"""Every command is known by name, documented, takes the common options, and starts cheaply."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from system_migration.cli import catalog
from system_migration.cli.group import group
from system_migration.settings import FIELDS

COMMON = {"--database-url", "--environment", "--migrations", "--json"}
EXPECTED = {
    *("run", "run-one", "status", "list", "pending", "verify", "dry-run", "rollback", "new", "init", "adopt", "show"),
    *("logs", "history", "issues", "prune", "skip", "reset", "doctor", "pause", "resume", "cancel", "retry", "serve"),
    *("startup", "approve", "rehearse", "audit"),
}


def find(name: str) -> click.Command:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return command


def test_the_commands_are_those_of_the_design() -> None:
    assert set(catalog.COMMANDS) == EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_command_is_documented_and_takes_the_common_options(name: str) -> None:
    command = find(name)
    assert command.name == name
    assert command.help is not None
    assert command.help.splitlines()[0] == catalog.COMMANDS[name][1]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert {flag for option in options for flag in option.opts} >= COMMON
    assert all(option.help for option in options)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_help_answers_on_stdout(name: str, migration) -> None:
    told = migration(name, "--help")
    assert told.code == 0
    assert told.out.startswith(f"Usage: migration {name}")


def test_settings_name_their_variables_in_the_help() -> None:
    helps = {option.name: option.help for option in find("run").params if isinstance(option, click.Option)}
    for field in FIELDS:
        if field.name in helps:
            assert all(variable in (helps[field.name] or "") for variable in field.variables)
            assert all(variable in catalog.help_page() for variable in field.variables)


def test_the_help_page_is_the_same_however_it_is_asked_for(migration) -> None:
    assert migration("--help").out.strip() == catalog.help_page() == group.get_help(click.Context(group))
    nothing = migration()
    assert (nothing.code, nothing.out, nothing.err.strip()) == (2, "", catalog.help_page())


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from system_migration.cli.main import main; assert main(['--help']) == 0;"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {module.split(".")[0] for module in done.stderr.split()}
    assert not loaded & {"sqlalchemy", "alembic", "rich", "click", "dataclasses", "inspect"}
    assert "system_migration.cli.commands_run" not in done.stderr.split()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_command_s_own_help_loads_no_database(name: str) -> None:
    program = f"import sys; from system_migration.cli.main import main; main([{name!r}, '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {module.split(".")[0] for module in done.stdout.split()}
    assert not loaded & {"sqlalchemy", "alembic", "rich"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--batch-size", "0"), "--batch-size"),
        (("--batch-size", "100001"), "--batch-size"),
        (("--workers", "0"), "--workers"),
        (("--workers", "257"), "--workers"),
        (("--max-rate", "0"), "--max-rate"),
        (("--max-rate", "nan"), "--max-rate"),
        (("--max-rate", "inf"), "--max-rate"),
        (("--max-issues", "-1"), "--max-issues"),
        (("--stop-after-issues", "0"), "--stop-after-issues"),
    ],
)
@pytest.mark.parametrize("command", ["run", "dry-run"])
def test_options_have_bounds(command, arguments, word, migrator, migration) -> None:
    told = migration(command, *arguments)
    assert told.code == 2
    assert word in told.err
    assert migrator.calls == []


def test_the_common_options_may_stand_before_the_command(migrator, migration) -> None:
    told = migration(
        "--json", "--environment", "staging", "--database-url", "sqlite:///a", "pending", "--environment", "x"
    )
    assert told.code == 0
    assert told.json
    _, flags, _ = migrator.calls[0]
    assert flags == {"json": True, "environment": "x", "database_url": "sqlite:///a", "migrations": None}


def test_version(migration) -> None:
    told = migration("--version")
    assert told.code == 0
    assert told.out.startswith("migration ")
