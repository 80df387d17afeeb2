"""What the README shows, runs; what it lists, exists."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from system_migration.cli.catalog import COMMANDS
from system_migration.cli.commands_run import run_command
from system_migration.cli.exit_codes import EXIT_CODES, NOT_YET
from system_migration.settings import FIELDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"<!-- example: (?P<file>\S+) -->\n```python\n(?P<code>.*?)```", re.DOTALL)

ACCOUNTS = [
    (1, "+49 30 1234567", "N"),
    (2, "(020) 7946-0018", "NE"),
    (3, None, "NE"),
    (4, "call me", "S"),
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that holds the README's example files and a database they fit."""
    for example in EXAMPLE.finditer(README):
        file = tmp_path / example["file"]
        file.parent.mkdir(exist_ok=True)
        file.write_text(example["code"], encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, phone TEXT, region TEXT, was TEXT)")
        connection.executemany("INSERT INTO account (id, phone, region) VALUES (?, ?, ?)", ACCOUNTS)
    return tmp_path


def rows(project: Path, columns: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(project / "shop.db")) as connection:
        return connection.execute(f"SELECT {columns} FROM account ORDER BY id").fetchall()


def test_the_examples_migrate_a_table(project: Path) -> None:
    ran = subprocess.run([sys.executable, "use.py"], cwd=project, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [
        "001-normalize-phones COMPLETED 2 rows 1 held",
        "002-merge-regions COMPLETED 2 rows 0 held",
    ]
    assert rows(project, "phone_e164") == [("+49301234567",), ("+02079460018",), (None,), (None,)]
    assert rows(project, "region") == [("N",), ("N",), ("N",), ("S",)]


def test_the_example_that_has_a_way_back_goes_back(project: Path) -> None:
    subprocess.run([sys.executable, "use.py"], cwd=project, check=True, capture_output=True)
    command = [Path(sys.executable).with_name("migration"), "rollback", "002-merge-regions", "--yes"]
    subprocess.run([*command, "--database-url", "sqlite:///shop.db"], cwd=project, check=True, capture_output=True)
    assert rows(project, "region") == [("N",), ("NE",), ("NE",), ("S",)]


@pytest.mark.parametrize("name", ["001-normalize-phones", "002-merge-regions"])
def test_the_examples_stand_their_rehearsal(project: Path, name: str) -> None:
    more = [(n, f"+49 30 {n * 7919}", ("N", "NE", "S")[n % 3]) for n in range(5, 26)]
    with closing(sqlite3.connect(project / "shop.db")) as connection, connection:
        connection.executemany("INSERT INTO account (id, phone, region) VALUES (?, ?, ?)", more)
    command = [Path(sys.executable).with_name("migration"), "rehearse", name, "--database-url", "sqlite:///shop.db"]
    ended = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert ended.stdout.startswith(f"Rehearsal of {name}: every promise kept\n"), ended.stdout + ended.stderr


VISIT = """
from fastapi.testclient import TestClient
import api
with TestClient(api.app) as client:
    for sent in ({}, {"Authorization": "Bearer let me in"}):
        answer = client.get("/migration/status", headers=sent)
        print(answer.status_code, answer.json().get("pending"))
"""


def test_the_example_of_the_api_lets_developers_in(project: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", VISIT], cwd=project, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["401 None", "200 ['001-normalize-phones', '002-merge-regions']"]


def test_every_command_is_in_the_readme() -> None:
    missing = [name for name in COMMANDS if not re.search(rf"`(migration )?{name}\b", README)]
    assert missing == []


def test_every_setting_is_in_the_readme() -> None:
    variables = [variable for field in FIELDS for variable in field.variables]
    assert [variable for variable in variables if f"`{variable}`" not in README] == []


def test_every_exit_code_is_in_the_readme() -> None:
    listed = {int(code) for row in re.findall(r"^\| ([0-9, ]+) \|", README, re.MULTILINE) for code in row.split(",")}
    assert listed == {0, 3, NOT_YET, *(code for code in EXIT_CODES.values() if code < 128), 130, 143}


def test_every_option_of_a_start_is_in_the_readme() -> None:
    options = [text for parameter in run_command.params for text in parameter.opts if text.startswith("--")]
    assert "--workers" in options
    assert [option for option in options if not re.search(rf"`(migration [a-z-]+ )?{option}\b", README)] == []
