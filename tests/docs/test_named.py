"""What the pages name, exists: commands with their options, variables, routes, and names that code imports."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import click
import pytest
from starlette.routing import Route

from ante_backend.app import create_app
from ante_backend.app_settings import OWN_MIGRATIONS, Configuration, read_app_settings
from ante_backend.settings import HostSettings
from system_migration import Migrator, Registry, Settings, connect
from system_migration.settings import FIELDS, SECRETS
from system_migration.states import Status
from system_migration.web import create_dashboard
from tests.docs.commands import EVERY_COMMAND, flags
from tests.docs.site import PAGES, ROOT
from tests.docs.variables import variables_read

TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
NAMES = [str(page.relative_to(ROOT)) for page in TEXTS]
PUBLIC = ("system_migration", "system_migration.web", "system_migration.testing")
SHELLS = ("sh", "bash", "console", "yaml", "ini")
OF_OTHER_PROGRAMS = {"--lock-all-tables", "--preload", "--single-transaction", "FORWARDED_ALLOW_IPS", "GROUP_CONCAT"}
_FENCE = re.compile(r"^ *```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^ *```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
_CALL = re.compile(r"(?:^|[\s\"'=(])migration (?P<command>[a-z][a-z-]*)(?P<rest>[^|;&`#]*)")
_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b")
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def blocks(text: str, *languages: str) -> Iterator[str]:
    """The blocks of code in one of these languages; a line that goes on with a backslash is one."""
    for fence in _FENCE.finditer(text):
        if fence["language"] in languages:
            yield textwrap.dedent(fence["code"]).replace("\\\n", " ")


def spans(text: str) -> Iterator[str]:
    """What stands between backticks in a line."""
    for line in _FENCE.sub("", text).splitlines():
        yield from _SPAN.findall(line)


def typed(block: str) -> list[str]:
    """The lines of a block that are typed; where some have a prompt, the others are what is answered."""
    lines = block.splitlines()
    return [line[2:] for line in lines if line.startswith("$ ")] or lines


def calls(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every call of our command: its command, and its flags."""
    lines = [line for block in blocks(text, *SHELLS) for line in typed(block)]
    for line in [*lines, *(span for span in spans(text) if span.startswith("migration "))]:
        for call in _CALL.finditer(line.partition(" # ")[0]):
            command, first = call["command"], call["rest"].split()[:1]
            if isinstance(EVERY_COMMAND.get(command), click.Group) and first and first[0].islower():
                command += f" {first[0]}"
            yield command, _FLAG.findall(call["rest"])


def unknown_calls(text: str) -> list[str]:
    found = []
    for command, given in calls(text):
        if command not in EVERY_COMMAND:
            found.append(f"migration {command}")
        else:
            found += [f"migration {command} {flag}" for flag in given if flag not in flags(command)]
    return found


@pytest.mark.parametrize("page", TEXTS, ids=NAMES)
def test_every_command_that_is_named_exists(page: Path) -> None:
    assert unknown_calls(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", TEXTS, ids=NAMES)
def test_every_flag_that_is_named_exists(page: Path) -> None:
    known = set().union(*map(flags, EVERY_COMMAND), said_in_the_repository("--[a-z][a-z-]*"), OF_OTHER_PROGRAMS)
    assert {span.split()[0] for span in spans(page.read_text(encoding="utf-8")) if _FLAG.match(span)} - known == set()


def variables(text: str) -> set[str]:
    """What reads like a variable of the environment, other than what stands for a value."""
    code = [*spans(text), *(fence["code"] for fence in _FENCE.finditer(text))]
    return {name for part in code for name in _VARIABLE.findall(part) if not name.startswith("THE_")}


def unknown_variables(text: str) -> set[str]:
    """Whatever sounds like a setting of ours must be one. Other names may be another program's, or the page's own."""
    ours = {variable for field in FIELDS for variable in field.variables} | {*variables_read(), *SECRETS, *Status}
    own = re.findall(r"environ(?:\.get\(|\[)\"(\w+)\"", text)
    others = said_in_the_repository(_VARIABLE.pattern) | {*own, *OF_OTHER_PROGRAMS}
    return {name for name in variables(text) - ours if "MIGRAT" in name or name not in others}


@pytest.mark.parametrize("page", TEXTS, ids=NAMES)
def test_every_variable_that_is_named_exists(page: Path) -> None:
    assert unknown_variables(page.read_text(encoding="utf-8")) == set()


@cache
def said_in_the_repository(pattern: str) -> set[str]:
    """What matches the pattern anywhere in the code, the scripts and the files to deploy with."""
    folders = ("src", "ante_backend", "tests", "benchmarks", "scripts", "deploy", ".ci", ".github")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file() and is_text(path)]
    return {word for path in files for word in re.findall(pattern, path.read_text(encoding="utf-8"))}


def is_text(path: Path) -> bool:
    return path != Path(__file__) and path.suffix in (
        "",
        ".py",
        ".yaml",
        ".yml",
        ".cjs",
        ".js",
        ".sh",
        ".service",
        ".env",
    )


def routes_named(text: str) -> set[tuple[str, str]]:
    """Every route that is named: its method, and its path with `{}` for a parameter."""
    named = (re.fullmatch(r"(GET|POST|PUT|DELETE) (/[^\s?]*)(?:\?\S*)?", span) for span in spans(text))
    return {(route[1], without_names(route[2])) for route in named if route}


def without_names(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """Every route of the host's API, with the prefix of ours and without it, and of the page."""
    file = tmp_path_factory.mktemp("host") / "host.sqlite"
    settings = Settings(f"sqlite:///{file}", "development", OWN_MIGRATIONS)
    with Migrator(connect(str(settings.database_url), create=True), Registry([]), settings) as migrator:
        page = create_dashboard(migrator, require_developer=lambda: "ada").routes
    found = {(method, each.path or "/") for each in page if isinstance(each, Route) for method in each.methods or ()}
    file.touch()
    host = create_app(Configuration(read_app_settings(auth_secret="s" * 32), HostSettings(), settings))
    for path, operations in host.openapi()["paths"].items():
        found |= {(method.upper(), each) for method in operations for each in (path, path.removeprefix("/migration"))}
    return {(method, without_names(path)) for method, path in found}


@pytest.mark.parametrize("page", TEXTS, ids=NAMES)
def test_every_route_that_is_named_exists(page: Path, served: set[tuple[str, str]]) -> None:
    assert routes_named(page.read_text(encoding="utf-8")) - served == set()


def imported(text: str) -> Iterator[tuple[str, str]]:
    """What the page's Python imports from the library: module, and name."""
    for block in blocks(text, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "system_migration":
                yield from ((str(node.module), alias.name) for alias in node.names)


@pytest.mark.parametrize("page", TEXTS, ids=NAMES)
def test_every_name_that_is_imported_is_public(page: Path) -> None:
    names = [*imported(page.read_text(encoding="utf-8"))]
    assert [each for each in names if each[0] not in PUBLIC or each[1] not in import_module(each[0]).__all__] == []


GHOSTS = """
`migration rum`, `POST /migration/rum/{name}`, `migration run --dryrun`, `MIGRATION_LEASE_MINUTES` and `LOG_FORMATS`.

```console
$ migration verify --batch-size 7  # exits with 2
a migration is no command
```

```python
from system_migration import Migrater
from system_migration.records import Run
```
"""


def test_a_ghost_would_be_seen() -> None:
    assert unknown_calls(GHOSTS) == ["migration verify --batch-size", "migration rum", "migration run --dryrun"]
    assert unknown_variables(GHOSTS) == {"MIGRATION_LEASE_MINUTES", "LOG_FORMATS"}
    assert routes_named(GHOSTS) == {("POST", "/migration/rum/{}")}
    assert [*imported(GHOSTS)] == [("system_migration", "Migrater"), ("system_migration.records", "Run")]
