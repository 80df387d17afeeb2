"""Migrations in a folder or a package, and the files that do not load."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from system_migration.discovery import discover
from system_migration.errors import LoadError


def source(name: str, called: str = "Made", more: str = "") -> str:
    return (
        "from system_migration import Migration, MigrationResult\n"
        f"class {called}(Migration):\n"
        f"    name = {name!r}\n"
        "    def up(self, context):\n"
        f"        return MigrationResult()\n{more}"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "steps"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def modules_as_before() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("migrations_", "shop_of_tests")):
            del sys.modules[name]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of `shop_of_tests.migrations`, which can be imported."""
    path = tmp_path / "shop_of_tests" / "migrations"
    path.mkdir(parents=True)
    (path.parent / "__init__.py").touch()
    (path / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return path


def refusal(migrations: Path | str) -> str:
    with pytest.raises(LoadError) as error:
        discover(str(migrations))
    return str(error.value)


def test_an_edit_within_a_second_that_keeps_the_size_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python would take old bytecode for; what runs is what the checksum is of."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = folder / "001_a.py"
    file.write_text(source("001-a", "Abc"))
    assert discover(str(folder))["001-a"].__name__ == "Abc"
    as_it_was = file.stat()
    file.write_text(source("001-a", "Xyz"))
    os.utime(file, ns=(as_it_was.st_atime_ns, as_it_was.st_mtime_ns))
    assert discover(str(folder))["001-a"].__name__ == "Xyz"


def test_a_folder_gives_its_numbered_files_in_order(folder: Path) -> None:
    (folder / "010_b.py").write_text(source("010-b"))
    (folder / "9_a.py").write_text(source("9-a"))
    for other in ("helpers.py", "_001_hidden.py", "001.py", "001_notes.txt", "test_001_x.py"):
        (folder / other).write_text("raise RuntimeError('not a migration')\n")
    registry = discover(str(folder))
    assert registry.names == ("9-a", "010-b")
    assert [entry.file for entry in registry.listed()] == [str(folder / "9_a.py"), str(folder / "010_b.py")]


def test_a_relative_folder_is_looked_for_where_we_stand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "001_a.py").write_text(source("001-a"))
    monkeypatch.chdir(folder.parent)
    for relative in ("steps", "./steps"):
        assert [entry.file for entry in discover(relative).listed()] == [str(folder / "001_a.py")]


def test_a_package_gives_its_modules_under_their_own_names(package: Path) -> None:
    (package / "001_a.py").write_text(
        "from shop_of_tests import words\n" + source("001-a", more="    word = words.A\n")
    )
    (package.parent / "words.py").write_text("A = 'a'\n")
    (found,) = discover("shop_of_tests.migrations")
    assert found.__module__ == "shop_of_tests.migrations.001_a"
    assert found.word == "a"  # type: ignore[attr-defined]


def test_an_empty_folder_has_no_migrations(folder: Path) -> None:
    assert len(discover(str(folder))) == 0


def test_files_of_the_same_name_in_two_folders_are_two_modules(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (folder / "001_a.py").write_text(source("001-here"))
    (other / "001_a.py").write_text(source("001-there"))
    (here,), (there,) = discover(str(folder)), discover(str(other))
    assert here.__module__ != there.__module__
    assert sys.modules[here.__module__].__file__ == str(folder / "001_a.py")


def test_imported_and_underscored_classes_are_not_found_again(folder: Path) -> None:
    (folder / "001_a.py").write_text(source("001-base", called="_Base") + source("001-a", called="A"))
    (folder / "002_b.py").write_text("from system_migration import BatchMigration\n" + source("002-b", called="B"))
    assert discover(str(folder)).names == ("001-a", "002-b")


def test_a_file_may_define_several(folder: Path) -> None:
    (folder / "001_both.py").write_text(source("001-a", called="A") + source("001-b", called="B"))
    assert discover(str(folder)).names == ("001-a", "001-b")


@pytest.mark.parametrize("where", ["folder", "package"])
def test_every_bad_file_is_named_with_its_reason_in_one_error(where: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(where)
    (path / "001_good.py").write_text(source("001-good"))
    (path / "002_syntax.py").write_text("x = 1\ny ==\n")
    (path / "003_import.py").write_text("\n\nimport no_such_module_of_tests\n")
    (path / "004_empty.py").write_text("x = 1\n")
    (path / "005_error.py").write_text("import json\njson.loads('{')\n")
    assert refusal(path if where == "folder" else "shop_of_tests.migrations") == (
        "002_syntax.py does not load: syntax error in line 2. "
        "003_import.py does not load: ModuleNotFoundError in line 3: No module named 'no_such_module_of_tests'. "
        "004_empty.py defines no migration. "
        "005_error.py does not load: JSONDecodeError in line 2."
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("raise ValueError('sesame')", "ValueError in line 1."),
        ("{}['sesame']", "KeyError in line 1."),
        ("raise SystemExit('sesame')", "SystemExit in line 1."),
        ("import os; os.sesame", "AttributeError in line 1: module 'os' has no attribute 'sesame'."),
        ("print(sesame)", "NameError in line 1: name 'sesame' is not defined."),
        ("from os import sesame", "ImportError in line 1: cannot import name 'sesame' from 'os'"),
        ("from system_migration import Refused; raise Refused('Read this.')", "Refused in line 1: Read this."),
    ],
)
def test_the_text_of_an_error_is_shown_only_where_it_names_code(folder: Path, line: str, reason: str) -> None:
    (folder / "001_a.py").write_text(line + "\n")
    assert refusal(folder).startswith(f"001_a.py does not load: {reason}")


def test_a_syntax_error_in_what_a_file_imports_is_placed_there(package: Path) -> None:
    (package.parent / "words.py").write_text("\n\ndef (:\n")
    (package / "001_a.py").write_text("import shop_of_tests.words\n")
    wanted = "001_a.py does not load: syntax error in line 3 of words.py."
    assert refusal("shop_of_tests.migrations") == wanted


def test_a_package_whose_parent_does_not_load_is_an_error_too(package: Path) -> None:
    (package.parent / "__init__.py").write_text("raise RuntimeError('sesame')\n")
    assert refusal("shop_of_tests.migrations") == "shop_of_tests/__init__.py does not load: RuntimeError."


def test_a_file_that_failed_is_not_kept_and_loads_once_it_is_mended(folder: Path) -> None:
    (folder / "001_a.py").write_text("raise RuntimeError('broken')\n")
    before = set(sys.modules)
    assert "001_a.py does not load: RuntimeError in line 1." in refusal(folder)
    assert not {name for name in set(sys.modules) - before if name.endswith("001_a")}
    (folder / "001_a.py").write_text(source("001-mended"))
    assert discover(str(folder)).names == ("001-mended",)


def test_a_contradiction_between_files_names_both(folder: Path) -> None:
    (folder / "001_a.py").write_text(source("001-a", called="A"))
    (folder / "002_b.py").write_text(source("001-a", called="B"))
    assert refusal(folder) == "The name '001-a' is used twice: in 001_a.py (A) and 002_b.py (B). Rename one."


@pytest.mark.parametrize(
    "missing", ["no_such_folder", "./no/such", "no_such_package.migrations", "tokenize", "a-b", "001_file.py"]
)
def test_no_folder_and_no_package_is_an_error_with_the_next_step(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "001_file.py").write_text(source("001-file"))
    monkeypatch.chdir(tmp_path)
    assert refusal(missing) == (
        f"There is no folder or package {missing!r} to read migrations from. "
        "Set MIGRATIONS or give --migrations; `migration new` makes the folder and a first file."
    )
