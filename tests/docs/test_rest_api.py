"""The page about the REST API names every route, parameter, problem and event, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI

from system_migration import Migrator, Registry, Settings, connect
from system_migration.web import create_router
from system_migration.web.problems import KINDS

PAGE = (Path(__file__).parents[2] / "docs/reference/rest-api.md").read_text(encoding="utf-8")
OF_STARTS = r"/(run(/\{name\})?|(verify|rollback|retry)/\{name\}|runs/\{id\}/resume)"


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[str]:
    """The first cells of a section's table."""
    return re.findall(r"^\| (`.*?) \|", section(title), re.MULTILINE)


Operations = dict[tuple[str, str], set[str]]


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Operations:
    """Every method and path, with the names of its query parameters."""
    app = FastAPI()
    database = connect(f"sqlite:///{tmp_path_factory.mktemp('api') / 'api.sqlite'}", create=True)
    with Migrator(database, Registry([]), Settings(environment="staging")) as migrator:
        app.include_router(create_router(migrator, require_developer=lambda: "ada"), prefix="/migration")
    return {
        (method.upper(), path.removeprefix("/migration")): {
            each["name"] for each in operation.get("parameters", []) if each["in"] == "query"
        }
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    }


def starts_something(method: str, path: str) -> bool:
    return method == "POST" and re.fullmatch(OF_STARTS, path) is not None


def test_every_route_is_described_and_no_other(operations: Operations) -> None:
    described = [tuple(re.findall(r"`(\w+) (\S+)`", cell)[0]) for cell in rows("Routes")]
    assert sorted(described) == sorted(operations)


def test_every_parameter_of_a_start_is_described_and_no_other(operations: Operations) -> None:
    of_starts = [names for operation, names in operations.items() if starts_something(*operation)]
    assert set(re.findall(r"`(\w+)`", " ".join(rows("Starts")))) == set().union(*of_starts)


def test_every_other_parameter_is_described_with_its_route(operations: Operations) -> None:
    lines = dict(re.findall(r"^\| `(\w+ \S+)` \| (.*) \|$", section("Routes"), re.MULTILINE))
    for (method, path), names in operations.items():
        if not starts_something(method, path):
            described = set(re.findall(r"`(\w+)`", lines[f"{method} {path}"]))
            assert names - {"allowEnvironment"} <= described, path


def test_every_problem_is_described_with_its_status_and_no_other() -> None:
    table = re.findall(r"^\| `([\w-]+)` \| ([\d, ]+) \|", section("Problems"), re.MULTILINE)
    described = {(slug, int(status)) for slug, all_of_them in table for status in all_of_them.split(", ")}
    assert described == {(kind.slug, kind.status) for kind in KINDS.values()}
