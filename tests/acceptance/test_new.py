"""`migration new` in an empty folder: its two files work as they are."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from tests.support.command import Project

PYTHON = Path(sys.executable)


def test_the_new_files_work_as_they_are(sqlite_project: Project) -> None:
    project = sqlite_project
    made = project.run("new", "normalize phones")
    file = project.folder / "migrations" / "001_normalize_phones.py"
    assert "migrations/001_normalize_phones.py" in made.out
    assert "tests/migrations/test_001_normalize_phones.py" in made.out
    assert "001-normalize-phones is number 1 of 1" in made.out
    first = file.read_text()

    (listed,) = project.json("list")
    assert (listed["name"], Path(listed["file"])) == ("001-normalize-phones", file)
    assert "001-normalize-phones" in project.run("list").out

    second = project.json("new", "drop the old column")
    assert set(second) == {"name", "file", "test", "position", "of", "after"}
    assert second["name"] == "002-drop-the-old-column"
    assert (second["position"], second["of"], second["after"]) == (2, 2, "001-normalize-phones")

    # Named, for an installation that is older than the plugin has no entry for it.
    plugins = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "system_migration.testing")
    quiet = ("-m", "pytest", "-q", *plugins, "-W", "error")
    tested = project.run(*quiet, program=PYTHON)
    assert "2 passed" in tested.out
    project.sql("CREATE TABLE account (id INTEGER PRIMARY KEY, phone VARCHAR(40))")
    project.sql("INSERT INTO account VALUES (1, '+49 30 123456'), (2, NULL), (3, '12')")
    assert re.search(r"would be held +1\n", project.run("dry-run", "001-normalize-phones").out)
    assert "--max-issues 1" in project.run("run", "001-normalize-phones", code=1).err
    assert project.sql("SELECT phone_e164 FROM account ORDER BY id") == [("+4930123456",), (None,), (None,)]

    assert file.read_text() == first


def test_nothing_is_overwritten(sqlite_project: Project) -> None:
    project = sqlite_project
    folder = project.folder / "tests" / "migrations"
    folder.mkdir(parents=True)
    mine = folder / "test_001_normalize_phones.py"
    mine.write_text("mine")
    refused = project.run("new", "normalize phones", code=2)
    assert "exists already" in refused.err
    assert mine.read_text() == "mine"
    assert not (project.folder / "migrations").exists()
    assert "does not make a file name" in project.run("new", "…", code=2).err
    assert os.listdir(folder) == [mine.name]
