"""`migration rehearse` as a process: the shipped migration passes, a wrong one is named, the database is as it was."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import sqlalchemy as sa

from tests.docs.stages import QUICK
from tests.support.accounts import KEY, create_table, insert, make
from tests.support.command import Environ, Project
from tests.support.databases import application_engine
from tests.support.workload import prepare

NAME = "001-password-bcrypt"
ACCOUNTS = 6
PRODUCTION: Environ = {"MIGRATION_ENVIRONMENT": "production"}
TWICE = """
from system_migration import BatchMigration


class Twice(BatchMigration):
    name = "001-twice"
    table = "item"
    reads = ("y",)
    writes = ("y",)

    def pending(self, t):
        return t.c.y >= 0

    def transform(self, row):
        return {"y": row.y * 2}
"""


def databases(project: Project) -> Any:
    """The databases of the server, or the files beside ours."""
    if project.url.startswith("sqlite"):
        return sorted(each.name for each in (project.folder / "tmp").iterdir())
    listing = "SELECT datname FROM pg_database" if project.url.startswith("postgresql") else "SHOW DATABASES"
    return sorted(name for (name,) in project.sql(listing) if "_rehearsal_" in name)


@pytest.fixture(autouse=True)
def own_temporary_folder(request: pytest.FixtureRequest) -> None:
    fixture = "project" if "project" in request.fixturenames else "sqlite_project"
    project: Project = request.getfixturevalue(fixture)
    (project.folder / "tmp").mkdir()
    project.environ["TMPDIR"] = str(project.folder / "tmp")


def test_the_shipped_migration_keeps_every_promise(project: Project) -> None:
    project.write("001_password_bcrypt", QUICK.format(stem="001_password_bcrypt", name="PasswordBcrypt"))
    engine = application_engine(project.url)
    create_table(engine)
    insert(engine, [make(number, f"secret {number}") for number in range(ACCOUNTS, 0, -1)])  # not as batches walk
    before = project.sql('SELECT * FROM "Account"' if engine.dialect.name != "mysql" else "SELECT * FROM Account")
    tables = sa.inspect(engine).get_table_names()
    ended = project.run("rehearse", NAME, env={"ENCRYPTION_KEY": KEY})
    assert ended.out.startswith(f"Rehearsal of {NAME}: every promise kept\n")
    assert "broken" not in ended.out
    assert "\n  kept         killed at every edge, resumed exactly" in ended.out
    assert "rehearsal: the database is only read; the work is done on scratch copies" in ended.err
    assert sa.inspect(engine).get_table_names() == tables  # no record of ours either
    after = project.sql('SELECT * FROM "Account"' if engine.dialect.name != "mysql" else "SELECT * FROM Account")
    assert after == before
    assert databases(project) == []
    engine.dispose()


def test_a_predicate_that_stays_true_is_named_with_the_rows(project: Project) -> None:
    project.write("001_twice", TWICE)
    prepare(project)
    rows = project.sql("SELECT * FROM item")
    document = project.json("rehearse", "001-twice", code=1)
    assert list(document) == ["name", "ok", "promises", "notCovered", "seconds", "firstBroken"]
    assert document["ok"] is False
    broken = document["firstBroken"]
    assert broken["outcome"] == "broken"
    assert broken["sentence"]
    assert broken in document["promises"]
    assert {promise["outcome"] for promise in document["promises"]} <= {"kept", "broken", "not covered"}
    assert project.sql("SELECT * FROM item") == rows
    assert databases(project) == []
    elsewhere = [] if project.url.startswith("sqlite") else ["--scratch", project.url]  # in production it only reads
    told = project.run("rehearse", "001-twice", *elsewhere, code=1, env=PRODUCTION if elsewhere else None).out
    assert told.startswith("Rehearsal of 001-twice: a promise is broken\n")
    assert f"  broken       {broken['name']}: {broken['sentence']}" in told


def test_what_is_refused_before_anything_is_copied(sqlite_project: Project) -> None:
    project = sqlite_project
    project.write("001_twice", TWICE)
    prepare(project)
    ended = project.run("rehearse", "001-twice", code=5, env=PRODUCTION)
    assert ended.err == (
        "migration: Nothing was started: to rehearse 001-twice on scratch databases beside the real one, in "
        "production, give --yes, as there is no terminal to ask at.\n"
    )
    assert project.run("rehearse", "001-other", "--yes", code=2, env=PRODUCTION).err.startswith(
        "migration: There is no migration named '001-other'."
    )
    assert "files in the temporary folder" in project.run("rehearse", "001-twice", "--scratch", project.url, code=2).err
    assert project.run("rehearse", "001-twice", "--rows", "0", code=2)
    assert project.run("rehearse", "001-twice", "--yes", code=1, env=PRODUCTION).out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_nothing(sqlite_project: Project, number: signal.Signals) -> None:
    project = sqlite_project
    project.write(
        "001_twice", TWICE.replace("        return {", '        __import__("gate").stop("at work")\n        return {')
    )
    prepare(project)
    with project.start("rehearse", "001-twice") as running:
        project.wait_at("at work", running)
        assert databases(project) != []
        running.signal(number)
        project.open("at work")
        ended = running.end()
    assert ended.code == 128 + number
    assert ended.err.endswith(f"Cancelled by {number.name} before its end. It changed nothing; start it anew.\n")
    assert databases(project) == []
