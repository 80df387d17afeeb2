"""The checksum of a migration's code: moved by what the code does, not by how it is laid out."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from system_migration import code, evidence
from system_migration.migration import Migration
from system_migration.registry import Registry

Load = Callable[..., type[Migration]]

SOURCE = '''\
from system_migration import Migration, MigrationResult


class Fix(Migration):
    """Doubles."""

    name = "001-fix"
    version = "1.0.0"

    def up(self, context):
        if context.dry_run:
            return MigrationResult()
        total = double(2, 3)
        return MigrationResult(records_processed=total)


def double(left, right):
    return 2 * (left + right)
'''


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Import a text as a module of its own, and hand out its class."""
    numbers, loaded = itertools.count(), []

    def load(source: str, called: str = "Fix") -> type[Migration]:
        file = tmp_path / f"m{next(numbers)}.py"
        file.write_text(source, encoding="utf-8")
        name = f"code_of_tests_{file.stem}"
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        loaded.append(name)
        spec.loader.exec_module(module)
        migration: type[Migration] = getattr(module, called)
        return migration

    yield load
    for name in loaded:
        del sys.modules[name]


def test_the_same_code_has_the_same_checksum_wherever_it_lies(load: Load) -> None:
    assert code.checksum(load(SOURCE)) == code.checksum(load(SOURCE))


def test_the_algorithm_is_named_and_the_checksum_has_a_fixed_length(load: Load) -> None:
    algorithm, checksum = code.checksum(load(SOURCE))
    assert algorithm == code.ALGORITHM
    assert len(checksum) == 64
    assert set(checksum) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n\n\n", "\n"),
        ("(2, 3)", "(  2,\n    3)"),
        ("        total", "        # a comment\n\n        total"),
        ("(left + right)\n", "(left + right)  # and a last one"),
        ("    name", "    \n    name"),
        ("right)\n", "right)\n\n# the end\n    # indented\n"),
        ("\n    ", "\n  "),  # two blanks for four, at every depth
        ("return 2 *", "return \\\n        2 *"),
    ],
)
def test_layout_and_comments_do_not_count(load: Load, old: str, new: str) -> None:
    assert old in SOURCE
    assert code.checksum(load(SOURCE.replace(old, new))) == code.checksum(load(SOURCE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("double(2, 3)", "double(2, 4)"),
        ("2 * (left", "2 + (left"),  # a helper in the same module
        ("total = ", "sum = "),
        ('"1.0.0"', '"1.0.1"'),
        (
            "            return MigrationResult()\n        total",
            "            return MigrationResult()\n            total",
        ),
        ('"001-fix"', '"001- fix"'),
        ("        if context.dry_run:\n            return MigrationResult()\n", ""),
    ],
)
def test_what_the_code_does_counts(load: Load, old: str, new: str) -> None:
    assert old in SOURCE
    assert code.checksum(load(SOURCE.replace(old, new))) != code.checksum(load(SOURCE))


def test_a_class_that_it_inherits_from_counts_for_an_approval(load: Load) -> None:
    def heir(of: type[Migration]) -> type[Migration]:
        return type("Heir", (of,), {"name": "002-heir", "__module__": __name__})

    def told(of: type[Migration], under: str) -> str:
        of.__module__, sys.modules[under] = under, sys.modules[of.__module__]
        return evidence.code_of(heir(of))

    names = ["code_of_tests_base"] * 3
    same, again, other = load(SOURCE), load(SOURCE), load(SOURCE.replace("2 * (left", "3 * (left"))
    try:
        first, second, third = (told(*each) for each in zip((same, again, other), names, strict=True))
    finally:
        del sys.modules[names[0]]
    assert first == second != third
    assert code.checksum(heir(same)) == code.checksum(heir(other))


def test_a_file_that_is_replaced_under_a_process_is_not_the_code_that_it_runs(load: Load) -> None:
    fix = load(SOURCE)
    Registry([fix])
    file = Path(str(sys.modules[fix.__module__].__file__))
    file.write_text(SOURCE.replace("2 * (left", "3 * (left"), encoding="utf-8")
    assert code.checksum(fix) == code.checksum(load(SOURCE))


@pytest.mark.parametrize(
    "same", ["if a:\r\n    b\r\n", "if a:\n    b", "if a:\n    b  # c", "if a:\n\tb\n\t", "\f\nif a:\n b\n"]
)
def test_line_breaks_tabs_and_the_end_of_the_file_do_not_count(same: str) -> None:
    assert code.normalised(same) == code.normalised("if a:\n    b\n")


def test_where_a_block_ends_counts() -> None:
    assert code.normalised("if a:\n    b\n    c\n") != code.normalised("if a:\n    b\nc\n")
    assert code.normalised("a\nb\n") != code.normalised("a + \\\nb\n")


def test_a_version_given_from_elsewhere_counts(load: Load) -> None:
    migration = load(SOURCE)
    algorithm, before = code.checksum(migration)
    migration.version = "1.0.1"
    assert code.checksum(migration) != (algorithm, before)
    assert code.changed(migration, algorithm, before)


def test_two_classes_of_a_module_are_told_apart(load: Load) -> None:
    source = SOURCE + '\n\nclass Other(Fix):\n    name = "002-other"\n'
    assert code.checksum(load(source, "Other")) != code.checksum(load(source, "Fix"))


def test_a_file_replaced_after_it_was_read_is_not_the_code_that_runs(load: Load) -> None:
    migration = load(SOURCE)
    before = code.checksum(migration)
    file = sys.modules[migration.__module__].__file__
    assert file is not None
    Path(file).write_text(SOURCE.replace("2 *", "3 *") + "\n" * 50, encoding="utf-8")
    assert code.checksum(migration) == before


def test_changed_compares_with_what_was_stored(load: Load) -> None:
    migration = load(SOURCE)
    algorithm, checksum = code.checksum(migration)
    assert not code.changed(migration, algorithm, checksum)
    assert code.changed(migration, algorithm, checksum[::-1])


@pytest.mark.parametrize("algorithm", ["tokens-0", "", None])
def test_an_unknown_algorithm_says_nothing(load: Load, algorithm: str | None) -> None:
    assert not code.changed(load(SOURCE), algorithm, "0" * 64)


def test_nothing_stored_says_nothing(load: Load) -> None:
    assert not code.changed(load(SOURCE), code.ALGORITHM, None)


def test_a_class_without_source_has_a_checksum_too() -> None:
    typed = type("Typed", (Migration,), {"name": "001-typed", "__module__": "typed_at_a_prompt"})
    other = type("Typed", (Migration,), {"name": "001-typed", "up": None, "__module__": "typed_at_a_prompt"})
    assert code.checksum(typed) == code.checksum(typed)
    assert code.checksum(typed) != code.checksum(other)
