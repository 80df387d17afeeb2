"""What `migration new` writes, and what it leaves alone."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from system_migration.cli import template
from system_migration.errors import ConfigurationError


def test_the_next_number_and_names_from_the_title(scratch_folder: Path) -> None:
    (scratch_folder / "migrations").mkdir()
    (scratch_folder / "migrations" / "007_before.py").touch()
    (scratch_folder / "migrations" / "helpers.py").touch()
    written = template.write("Normalize  phönes!", "migrations")
    assert written.name == "008-normalize-phones"
    assert written.file == Path("migrations/008_normalize_phones.py")
    assert written.test == Path("tests/migrations/test_008_normalize_phones.py")
    assert "class NormalizePhones(BatchMigration)" in written.file.read_text()


def test_the_files_are_python_and_have_nothing_left_open() -> None:
    written = template.write("normalize phones", "migrations")
    for file in (written.file, written.test):
        text = file.read_text()
        ast.parse(text)
        assert "$" not in text
        assert "TODO" not in text


def test_a_folder_is_made_and_nothing_is_overwritten(scratch_folder: Path) -> None:
    written = template.write("a", "data/migrations")
    assert written.file == Path("data/migrations/001_a.py")
    assert not (scratch_folder / "data" / "__init__.py").exists()
    test = scratch_folder / "tests" / "migrations" / "test_002_b.py"
    test.write_text("mine")
    with pytest.raises(ConfigurationError, match="exists already"):
        template.write("b", "data/migrations")
    assert test.read_text() == "mine"
    assert not (scratch_folder / "data" / "migrations" / "002_b.py").exists()


def test_a_package_is_found_or_made(scratch_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(scratch_folder))
    package = scratch_folder / "invented_host" / "migrations"
    package.mkdir(parents=True)
    (scratch_folder / "invented_host" / "__init__.py").touch()
    (package / "__init__.py").touch()
    written = template.write("a", "invented_host.migrations")
    assert written.file == Path("invented_host/migrations/001_a.py")
    assert 'MIGRATIONS = "invented_host.migrations"' in written.test.read_text()
    written = template.write("b", "invented_new.migrations")
    assert written.file == Path("invented_new/migrations/001_b.py")
    assert (scratch_folder / "invented_new" / "__init__.py").exists()
    for name in ("invented_host", "invented_host.migrations"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("title", ["", "...", "名", "x" * 61, "../../etc"])
def test_a_title_becomes_a_plain_file_name_or_is_refused(title: str, scratch_folder: Path) -> None:
    try:
        written = template.write(title, "migrations")
    except ConfigurationError:
        assert not (scratch_folder / "migrations").exists()
    else:
        assert written.file == Path("migrations/001_etc.py")


def test_a_title_that_begins_with_a_digit_still_makes_a_class() -> None:
    assert "class Migration2025Totals(" in template.write("2025 totals", "migrations").file.read_text()


def test_new_says_where_the_migration_sits(migrator, migration) -> None:
    migrator.registry.names = ("000-first", "001-normalize-phones")
    told = migration("new", "normalize phones")
    assert told.code == 0
    assert "001-normalize-phones is number 2 of 2, after 000-first." in told.out
    migrator.registry.names = ("002-again",)
    assert migration("new", "again", "--json").json == {
        "name": "002-again",
        "file": "migrations/002_again.py",
        "test": "tests/migrations/test_002_again.py",
        "position": 1,
        "of": 1,
        "after": None,
    }
    told = migration("new", "third")
    assert told.code == 2
    assert "does not find 003-third" in told.err
