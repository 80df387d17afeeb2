"""The reference that is built has every command, option, setting, route, status, exit code, error and public name."""

from __future__ import annotations

import inspect
import re
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec

import click
import pytest
from fastapi import FastAPI

from ante_backend import settings as host_settings
from ante_backend.app_settings import AppSettings
from system_migration import Migrator, Registry, Settings, connect, errors
from system_migration.cli import exit_codes
from system_migration.cli.group import group
from system_migration.cli.options import COMMON
from system_migration.settings import FIELDS
from system_migration.startup_plan import Stage
from system_migration.states import ARROWS, Outcome, RunKind, Status
from system_migration.web import create_router
from system_migration.web.problems import KINDS
from tests.docs.commands import EVERY_COMMAND, options
from tests.docs.site import Site
from tests.docs.variables import variables_read

PUBLIC = [name for name in ("system_migration", "system_migration.web", "system_migration.testing") if find_spec(name)]
OF_THE_TERMINAL = {"TERM"}


def same(text: str) -> str:
    """Without the marks of Markdown, and with single spaces: how a sentence arrives in a page."""
    return " ".join(text.replace("`", "").split())


@pytest.mark.parametrize("name", EVERY_COMMAND)
def test_every_command_is_there_with_its_options(name: str, site: Site) -> None:
    page = site.page("reference/command-line")
    own, common = page.text(f"migration {name}"), page.text("Every command")
    for option in options(name):
        text = same(common if option.name in COMMON else own)
        assert option.help, option.name
        assert same(option.help) in text, option.name
        assert all(spelt in text for spelt in option.opts)


def test_every_setting_is_there(site: Site) -> None:
    rows = site.page("reference/settings").rows("Settings")
    assert [row[1:] for row in rows] == [(same(field.help), field.default or "") for field in FIELDS]
    spelt = [set(re.split(r"; |, else ", row[0])) for row in rows]
    flags = {option.name: option.opts for option in group.params if isinstance(option, click.Option)}
    assert spelt == [{*field.variables, field.name, *flags.get(field.name, [])} for field in FIELDS]


def test_every_setting_of_the_host_is_there(site: Site) -> None:
    described = {name for row in site.page("reference/settings").rows("Of ante_backend") for name in row[0].split(", ")}
    of_migrations = re.findall(r'environ(?:, |\.get\()"([A-Z0-9_]+)"', inspect.getsource(host_settings))
    assert "BCRYPT_COST" in of_migrations
    assert described == {*of_migrations, *map(str.upper, AppSettings.model_fields)} - {"DATABASE_URL"}


def test_every_other_variable_that_is_read_is_there(site: Site) -> None:
    page = site.page("reference/settings")
    described = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", " ".join(section.text for section in page.sections.values())))
    assert "LOG_FORMAT" in described
    assert {*variables_read()} - described - OF_THE_TERMINAL == set()


def test_every_route_is_there_with_its_parameters_and_answers(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    page = site.page("reference/routes")
    app = FastAPI()
    database = connect(f"sqlite:///{tmp_path_factory.mktemp('api') / 'api.sqlite'}", create=True)
    with Migrator(database, Registry([]), Settings(environment="staging")) as migrator:
        app.include_router(create_router(migrator, require_developer=lambda: "ada"), prefix="/migration")
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    }
    assert operations
    assert operations.keys() == {title for title in page.sections if title.startswith(("GET ", "POST "))}
    for title, operation in operations.items():
        first_cells = {row[0] for row in page.rows(title)}
        assert first_cells == {each["name"] for each in operation.get("parameters", [])} | {*operation["responses"]}


@pytest.mark.parametrize(
    ("kind", "section"),
    [
        (Status, "Of a migration"),
        (RunKind, "Kinds of attempt"),
        (Outcome, "Outcomes of an attempt"),
        (Stage, "States of a start"),
    ],
)
def test_every_status_is_there(kind: type[StrEnum], section: str, site: Site) -> None:
    rows = site.page("reference/statuses").rows(section)
    assert [row[0] for row in rows] == [*kind]
    assert all(sentence for _, sentence in rows)


def test_every_arrow_is_there(site: Site) -> None:
    rows = site.page("reference/statuses").rows("The arrows")
    assert rows == [(old, new, why) for (old, new), why in ARROWS.items()]


def test_every_exit_code_is_there(site: Site) -> None:
    codes = {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}
    rows = site.page("reference/exit-codes").rows("Exit codes")
    assert {row[0] for row in rows} == {str(code) for code in codes - {exit_codes.SIGNAL}} | {"130, 143"}
    assert all(sentence for _, sentence in rows)


def test_every_error_is_there(site: Site) -> None:
    classes = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    ours = {kind.__name__ for kind in KINDS if kind.__module__.startswith("system_migration.")}
    assert "ForgedForm" in ours
    rows = {row[0]: row for row in site.page("reference/errors").rows("Errors")}
    assert classes | ours <= rows.keys()
    assert all(means for _, means, _, _ in rows.values())


def test_every_problem_is_there_with_its_status(site: Site) -> None:
    rows = site.page("reference/errors").rows("Problem types")
    assert {(slug, int(status)) for slug, status, _ in rows} == {(kind.slug, kind.status) for kind in KINDS.values()}


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_there(module: str, site: Site) -> None:
    ids = site.page("reference/python").ids
    names = import_module(module).__all__
    assert [name for name in names if f"{module}.{name}" not in ids] == []


def test_every_public_method_is_there(site: Site) -> None:
    ids = site.page("reference/python").ids
    methods = [name for name, _ in inspect.getmembers(Migrator, callable) if not name.startswith("_")]
    assert "status" in methods
    assert [name for name in methods if f"system_migration.Migrator.{name}" not in ids] == []
