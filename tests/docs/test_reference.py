"""The reference names every declaration and every issue code, and no other; the proofs that are cited exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from system_migration import BatchMigration, Migration

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = (DOCS / "reference/declarations.md").read_text(encoding="utf-8")
HELD_ROWS = (DOCS / "how-to/when-rows-are-held.md").read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "src/system_migration").rglob("*.py"))
MODULES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
NOT_FOR_AUTHORS = {"defines", "keeps_journal", "table_name", "has_pending"}
HOLDERS = {"Held", "RowIssue", "WorkerDied"}
"""What a code is handed to first."""


def constants() -> Iterator[tuple[str, str]]:
    """Every constant of the package whose value reads like an issue code: its name, and the code."""
    for module in MODULES.values():
        for node in module.body:
            if isinstance(node, ast.Assign):
                target, value = node.targets[0], node.value
                together = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
                for name, text in zip(target.elts, value.elts, strict=True) if together else [(target, value)]:
                    if isinstance(name, ast.Name) and isinstance(text, ast.Constant) and reads_like_a_code(text.value):
                        yield name.id, text.value


def reads_like_a_code(value: object) -> bool:
    """Whether it is several words; what begins with the package's name is a name in the database."""
    words = isinstance(value, str) and re.fullmatch(r"[a-z]+(_[a-z]+)+", value)
    return bool(words) and not str(value).startswith("system_migration_")


def handed_to_holders() -> Iterator[tuple[str, ast.expr]]:
    """Where a row is held: the place, and the expression that is its code."""
    for path, module in MODULES.items():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in HOLDERS and node.args:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.args[0]


CODES = dict(constants())


@pytest.mark.parametrize("kind", [Migration, BatchMigration])
def test_every_declaration_is_described(kind: type) -> None:
    names = {name for name in {*vars(kind), *kind.__annotations__} if not name.startswith("_")} - NOT_FOR_AUTHORS
    assert "name" in names or "table" in names
    assert not [name for name in names if not re.search(rf"^\| `{name}[`(]", REFERENCE, re.MULTILINE)]


def test_every_issue_code_is_described_and_no_other() -> None:
    described = re.findall(r"^\| `([a-z_]+)` \|", REFERENCE.partition("## Issue codes")[2], re.MULTILINE)
    assert sorted(described) == sorted(CODES.values())


def test_every_issue_code_has_a_way_out() -> None:
    table = HELD_ROWS.partition("## Decide by the code")[2].partition("\n## ")[0]
    named = {code for row in re.findall(r"^\|([^|]*)\|", table, re.MULTILINE) for code in re.findall(r"`(\w+)`", row)}
    assert named == set(CODES.values())


def test_every_code_that_holds_a_row_is_one_of_these_constants() -> None:
    """So that a new code cannot be overlooked: neither a literal nor a constant of another form is handed over."""
    found = list(handed_to_holders())
    assert found
    literals = [place for place, code in found if isinstance(code, ast.Constant | ast.JoinedStr)]
    unknown = [place for place, code in found if isinstance(code, ast.Name) and is_other_constant(code.id)]
    assert literals == []
    assert unknown == []


def is_other_constant(name: str) -> bool:
    return name.isupper() and name not in CODES


def test_every_test_that_is_cited_exists() -> None:
    pages = [page.read_text(encoding="utf-8") for page in sorted(DOCS.rglob("*.md"))]
    cited = {path for page in pages for path in re.findall(r"`((?:tests|src)/[\w/]+\.py)`", page)}
    assert cited
    assert [path for path in sorted(cited) if not (ROOT / path).is_file()] == []
