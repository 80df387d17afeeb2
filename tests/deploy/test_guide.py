"""The commands of docs/how-to/deploy.md: their programs can read them, and other tests run them as they stand."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from tests.deploy.conftest import ROOT
from tests.deploy.containers import parse, unread
from tests.deploy.test_pm2 import ECOSYSTEM

GUIDE = (ROOT / "docs/how-to/deploy.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"(?m)^    (\S.*)$", GUIDE)
QUOTED = [word for word in re.findall(r"`([^`\n]+)`", GUIDE) if " " in word]
MIGRATION = sorted(
    {found for text in COMMANDS + QUOTED for found in re.findall(r"\bmigration [a-z-]+(?: [^&|<]*)?$", text)}
)


def test_there_are_commands_of_every_kind() -> None:
    programs = {shlex.split(command)[0] for command in COMMANDS}
    assert programs == {"docker", "install", "kubectl", "pm2", "python", "systemctl"}
    assert len(MIGRATION) >= 6


@pytest.mark.parametrize("command", MIGRATION)
def test_a_migration_command_can_be_read(command: str) -> None:
    parse(shlex.split(command))


def test_every_file_in_a_command_exists() -> None:
    named = {word for command in COMMANDS for word in shlex.split(command) if word.startswith(("deploy/", "scripts/"))}
    assert len(named) >= 6
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_file_of_the_folder_is_in_the_guide() -> None:
    files = [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    assert len(files) >= 8
    assert [path.name for path in files if path.name not in GUIDE] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_shell_can_read_the_command(command: str) -> None:
    subprocess.run(["bash", "-n", "-c", command], check=True)


def test_every_variable_is_read_by_something() -> None:
    named = set(re.findall(r"^\| `([A-Z_]+)` \|", GUIDE, re.MULTILINE))
    assert {"DATABASE_URL", "MIGRATION_ENVIRONMENT", "ENCRYPTION_KEY", "AUTH_SECRET"} == named
    assert unread(named) == []


def test_the_guide_quotes_what_the_tests_of_pm2_run() -> None:
    for words in (
        f"start {ECOSYSTEM} --env production",
        f"deploy {ECOSYSTEM} production setup",
        f"deploy {ECOSYSTEM} production",
    ):
        assert f"pm2 {words}" in COMMANDS
