"""The projects in which pages are followed, and what happens in them meanwhile."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import sys
import textwrap
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from ante_backend.passwords import hash_password
from tests.docs.pages import ROOT, Events
from tests.support.accounts import NAME, change, create_table, insert, make
from tests.support.command import Project, make_project
from tests.support.databases import MakeDatabaseUrl, application_engine
from tests.support.workload import GATE

README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"<!-- example: (?P<file>\S+) -->\n```python\n(?P<code>.*?)```", re.DOTALL)

QUICK = """
import dataclasses
import importlib

from system_migration import BatchMigration

shipped = importlib.import_module("ante_backend.migrations.{stem}")


class Quick(shipped.{name}):
    \"\"\"As it is shipped, but with the cheapest hashes there are.\"\"\"

    def settings(self):
        return dataclasses.replace(super().settings(), bcrypt_cost=4)
"""


def _project(folder: Path, database: str) -> Project:
    """A project on a SQLite file, whose shell finds our programs, in an environment of no name."""
    project = make_project(folder / "project", f"sqlite:///{folder / 'project' / database}")
    project.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), project.environ["PATH"]])
    project.environ["DATABASE_URL"] = f"sqlite:///{database}"
    del project.environ["MIGRATION_ENVIRONMENT"]
    (project.folder / database).touch()
    return project


def passwords(_: pytest.FixtureRequest, folder: Path) -> tuple[Project, Events]:
    """The accounts of the legacy application: the oldest under a former key, one with a password over 72 bytes."""
    project = _project(folder, "erp.db")
    for stem, name in (("001_password_bcrypt", "PasswordBcrypt"), ("002_drop_legacy_passwords", "DropLegacyPasswords")):
        project.write(stem, QUICK.format(stem=stem, name=name))
    engine = application_engine(project.url)
    create_table(engine)
    former = [make(number, f"old secret {number}", "the former key") for number in range(1, 13)]
    present = [make(number, f"secret {number}", "the legacy key") for number in range(13, 30)]
    insert(engine, [*former, *present, make(30, "x" * 80, "the legacy key")])

    def change_password(project: Project) -> None:
        change(engine, "account-00030", password=None, key=None, passwordHash=hash_password(b"short", 4, "hold"))

    def write_old_columns(project: Project) -> None:
        newest = make(31, "the newest password", "the legacy key")
        change(engine, "account-00021", password=newest["password"], key=newest["key"])

    return project, {
        "the owner of account-00030 sets a new password": change_password,
        "a forgotten job of the old application changes a password": write_old_columns,
        "two weeks pass": lambda project: _age(project, 14),
    }


def _age(project: Project, days: int) -> None:
    then = datetime.now(UTC) - timedelta(days=days, minutes=1)
    project.sql(
        "UPDATE system_migration_migration SET finished_at = :then WHERE name = :name",
        then=then.strftime("%Y-%m-%d %H:%M:%S.000"),
        name=NAME,
    )


def tutorial(_: pytest.FixtureRequest, folder: Path) -> tuple[Project, Events]:
    """An empty folder, and whoever follows the tutorial, who saves its files and adds its lines."""
    project = _project(folder, "shop.db")
    (project.folder / "shop.db").unlink()
    examples = {each["file"]: each["code"] for each in EXAMPLE.finditer(TUTORIAL)}
    lines = examples.pop("the-way-back")
    for name, code in examples.items():
        (project.folder / name).write_text(code, encoding="utf-8")

    def add_lines(project: Project) -> None:
        (file,) = (project.folder / "migrations").glob("001_*.py")
        before, line, after = re.split(r"(    max_issues = .*\n)", file.read_text(encoding="utf-8"))
        file.write_text(before + line + lines + after, encoding="utf-8")

    return project, {"you add the way back": add_lines}


def phones(_: pytest.FixtureRequest, folder: Path) -> tuple[Project, Events]:
    """The README's example project, with a hundred accounts."""
    return _phones(folder), {}


def _phones(folder: Path, *more: str) -> Project:
    project = _project(folder, "shop.db")
    for example in EXAMPLE.finditer(README):
        file = project.folder / example["file"]
        file.parent.mkdir(exist_ok=True)
        file.write_text(example["code"], encoding="utf-8")
    with closing(sqlite3.connect(project.folder / "shop.db")) as connection, connection:
        connection.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, phone TEXT, region TEXT, was TEXT)")
        numbers = [*(f"030 {number:07}" for number in range(1, 101)), *more]
        connection.executemany("INSERT INTO account (phone, region) VALUES (?, 'NE')", [(each,) for each in numbers])
    return project


def bad_phones(_: pytest.FixtureRequest, folder: Path) -> tuple[Project, Events]:
    """More numbers that cannot be changed than may be."""
    return _phones(folder, "12345", "call me", "?"), {}


def tampered_phones(_: pytest.FixtureRequest, folder: Path) -> tuple[Project, Events]:
    """Somebody spoils a migrated number."""
    spoil = "UPDATE account SET phone_e164 = '0300000007' WHERE id = 7"
    return _phones(folder), {"somebody edits account 7": lambda project: project.sql(spoil)}


def weakly_checked_phones(_: pytest.FixtureRequest, folder: Path) -> tuple[Project, Events]:
    """The example's check looks at the beginning of a number alone, until it becomes what the page says."""
    page = (ROOT / "docs/how-to/rehearse-a-migration.md").read_text(encoding="utf-8")
    [check] = re.findall(r"```python\n(def check.*?)```", page, re.DOTALL)

    def strengthen(project: Project) -> None:
        file = project.folder / "migrations" / "001_normalize_phones.py"
        before, _, _ = file.read_text(encoding="utf-8").partition("    def check(")
        file.write_text(before + textwrap.indent(check, "    "), encoding="utf-8")

    project = _phones(folder)
    file = project.folder / "migrations" / "001_normalize_phones.py"
    weak = "    def check(self, row):\n        return row.phone_e164 is None or row.phone_e164.startswith('+')\n"
    file.write_text(file.read_text(encoding="utf-8").partition("    def check(")[0] + weak, encoding="utf-8")
    return project, {"check() compares the digits of both numbers": strengthen}


def environments(_: pytest.FixtureRequest, folder: Path) -> tuple[Project, Events]:
    """A database of development, and that of production."""
    project = _phones(folder)
    shutil.copyfile(project.folder / "shop.db", project.folder / "production.db")
    return project, {}


def run_at_work(request: pytest.FixtureRequest, folder: Path) -> tuple[Project, Events]:
    """A run that stands half-way, as long as the page looks at it."""
    return _half_way(request, folder, "the run goes on to its end", code=0)


def run_to_pause(request: pytest.FixtureRequest, folder: Path) -> tuple[Project, Events]:
    """A run that stands half-way, and obeys when it goes on."""
    return _half_way(request, folder, "the runner ends its batch", code=1)


def _half_way(request: pytest.FixtureRequest, folder: Path, event: str, *, code: int) -> tuple[Project, Events]:
    """A run that stands half-way until the event, and then ends with the code."""
    project = _phones(folder)
    (project.folder / "gate.py").write_text(GATE, encoding="utf-8")
    file = project.folder / "migrations" / "001_normalize_phones.py"
    stops = '        if row.phone == "030 0000051":\n            __import__("gate").stop("half-way")\n        digits ='
    file.write_text(file.read_text(encoding="utf-8").replace("        digits =", stops), encoding="utf-8")
    running = project.start("run", "001-normalize-phones", "--workers", "1", "--batch-size", "10")
    request.addfinalizer(lambda: running.__exit__(None, None, None))
    project.wait_at("half-way", running)

    def go_on(project: Project) -> None:
        project.open("half-way")
        assert running.end().code == code

    return project, {event: go_on}


def backups(request: pytest.FixtureRequest, folder: Path) -> tuple[Project, Events]:
    """A database of each kind in turn, with the README's table, and an empty one of its kind to restore into."""
    project = _phones(folder)
    make: MakeDatabaseUrl = request.getfixturevalue("make_database_url")

    def begin(kind: str) -> None:
        project.url, copy = make(kind), make(kind)
        for number, table in enumerate(("CREATE TABLE account (id INTEGER PRIMARY KEY, phone VARCHAR(40))", *ROWS)):
            project.sql(table.format(number=number))
        project.environ |= {"DATABASE_URL": project.url, "COPY_URL": copy}
        if kind == "mariadb":
            _write_client_options(project, copy)

    return project, {
        "a PostgreSQL database": lambda _: begin("postgresql"),
        "a MariaDB database": lambda _: begin("mariadb"),
    }


ROWS = ["INSERT INTO account (id, phone) VALUES ({number}, '030 7654321')"] * 3


def _write_client_options(project: Project, copy: str) -> None:
    url = make_url(project.url)
    (project.folder / "client.cnf").write_text(f"[client]\nhost={url.host}\nport={url.port}\nuser={url.username}\n")
    project.environ |= {"DATABASE": str(url.database), "COPY": str(make_url(copy).database)}
