"""The public names are a promise, and importing them costs little."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import system_migration
import system_migration.web

NAMES = [
    "Background",
    "BatchContext",
    "BatchMigration",
    "ConfigurationError",
    "HeldElsewhere",
    "Migration",
    "MigrationContext",
    "MigrationFailed",
    "MigrationResult",
    "MigrationRollbackResult",
    "MigrationSystemError",
    "Migrator",
    "Notification",
    "Refused",
    "Registry",
    "Row",
    "RowIssue",
    "RunOptions",
    "SchemaChanges",
    "Settings",
    "Startup",
    "Status",
    "connect",
    "discover",
    "migrate_on_startup",
    "read_settings",
]
WEB_NAMES = [
    "HoldUntilReady",
    "ProblemRoute",
    "SessionCookie",
    "SignInField",
    "create_dashboard",
    "create_health_router",
    "create_router",
    "create_sign_in_router",
    "install_problem_handlers",
    "migrations_lifespan",
    "problem_response",
    "problem_responses",
]


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after `statement`, by its top-level names."""
    program = (
        f"import sys, json\n{statement}\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_public_names_are_these() -> None:
    assert system_migration.__all__ == NAMES
    assert system_migration.web.__all__ == WEB_NAMES
    assert [getattr(system_migration.web, name).__name__ for name in WEB_NAMES] == WEB_NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_can_be_imported(name: str) -> None:
    namespace: dict[str, object] = {}
    exec(f"from system_migration import {name}", namespace)
    assert getattr(namespace[name], "__name__", None) == name


def test_a_type_checker_sees_the_same_names() -> None:
    for module, names in ((system_migration, NAMES), (system_migration.web, WEB_NAMES)):
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        (block,) = (node for node in tree.body if isinstance(node, ast.If))
        seen = [alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
        assert sorted(name for name in seen if name) == names


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'system_migration' has no attribute 'Migrater'"):
        _ = system_migration.Migrater


def test_importing_the_package_loads_no_database_and_no_command_line() -> None:
    loaded = modules_after("import system_migration")
    assert "system_migration" in loaded
    assert not loaded & {"sqlalchemy", "alembic", "click", "rich"}


def test_a_name_that_needs_a_database_loads_it_when_used() -> None:
    assert "sqlalchemy" in modules_after("from system_migration import Migrator")
