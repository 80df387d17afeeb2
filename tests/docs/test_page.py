"""The pages about the page: the host that one shows works, and routes, fields, limits and buttons are the code's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.routing import Route

from system_migration import Migrator, Registry, Settings, connect
from system_migration.migrator import KEYS_AT_ONCE
from system_migration.web import create_dashboard, following
from system_migration.web.dashboard import csrf, deciding, failures, forms, held, history, overview, run, sent
from system_migration.web.dashboard.deciding import DECISIONS
from system_migration.web.dashboard.options import MODELS
from system_migration.web.dashboard.pages import HEADERS
from system_migration.web.dashboard.wanting import fields_of
from tests.support.command import make_project
from tests.web.serving import listening
from tests.web.test_page_of_server import browser

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "reference/page.md").read_text(encoding="utf-8")
USING = (DOCS / "how-to/use-the-page.md").read_text(encoding="utf-8")
MOUNTING = (DOCS / "how-to/mount-the-page.md").read_text(encoding="utf-8")
DASHBOARD = Path(csrf.__file__).parent


def section(title: str) -> str:
    return REFERENCE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> APIRouter:
    database = connect(f"sqlite:///{tmp_path_factory.mktemp('page') / 'page.sqlite'}", create=True)
    with Migrator(database, Registry([]), Settings(environment="staging")) as migrator:
        return create_dashboard(migrator, require_developer=lambda: "ada")


def test_every_route_is_described_and_no_other(router: APIRouter) -> None:
    described = re.findall(r"^\| `(\w+) (\S+)` \|", section("Routes"), re.MULTILINE)
    served = {
        (method, each.path or "/")
        for each in router.routes
        if isinstance(each, Route | APIRoute)
        for method in (each.methods or set()) - {"HEAD"}
    }
    assert len(described) == len(set(described))
    assert set(described) == served


def test_every_parameter_of_a_screen_is_described_with_its_route(router: APIRouter) -> None:
    lines = dict(re.findall(r"^\| `GET (\S+)` \| (.*) \|$", section("Routes"), re.MULTILINE))
    looks = [each for each in router.routes if isinstance(each, APIRoute) and "GET" in each.methods]
    for each in looks:
        described = set(re.findall(r"`(\w+)`", lines[each.path or "/"]))
        assert {field.name for field in each.dependant.query_params} <= described, each.path


def test_every_field_of_a_form_is_described_and_no_other() -> None:
    table = dict(re.findall(r"^\| (`.*?) \| (.*) \|$", section("Fields").partition("fills in:")[2], re.MULTILINE))
    described = {
        verb: set(re.findall(r"`(\w+)`", table[key])) for key in table for verb in re.findall(r"`([\w-]+)`", key)
    }
    described["retry"] = described["resume"] | {"key", "rows"}
    assert {"as `resume`, and `key`"} <= {table["`retry`"].partition(" (")[0]}
    real = {verb: set(fields_of(verb)) for verb in MODELS} | {verb: set(DECISIONS[verb].fields) for verb in DECISIONS}
    assert described == real


def test_what_every_form_has_is_described() -> None:
    every = section("Fields").partition("What a person")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", every, re.MULTILINE)) == sent.BROUGHT
    assert f"good for {csrf.LIFETIME_SECONDS // 3600} hours" in every


def test_the_headers_are_the_codes() -> None:
    assert section("Headers").split("```")[1].strip().splitlines() == [f"{k}: {v}" for k, v in HEADERS.items()]


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ("migrations of a group that the overview shows at first", f"{overview.AT_ONCE}"),
        ("held rows on a page", f"{held.PAGE}"),
        ("runs, or events, on a page of the history", f"{history.PAGE}"),
        ("log lines on a page of a run", f"{run.LINES}"),
        ("batches in the charts of a run", f"the newest {run.BATCHES}"),
        ("rows chosen in one retry", f"{KEYS_AT_ONCE}"),
        ("a form", f"{forms.MAX_BYTES // 1024} KiB, {forms.MAX_FIELDS} fields"),
        ("a reason", f"{deciding.LONGEST_REASON} characters"),
        (
            "an open event stream",
            f"{following.STREAM_SECONDS / 60:.0f} minutes, a comment every {following.HEARTBEAT_SECONDS:.0f} seconds",
        ),
        ("an address that carries back what was typed", f"{failures.LONGEST_QUERY} characters"),
    ],
)
def test_the_limits_are_the_codes(what: str, limit: str) -> None:
    assert re.search(rf"^\| {what} \| {limit}\b", section("Limits"), re.MULTILINE)


def test_what_is_to_be_pressed_is_on_a_screen() -> None:
    """Whatever the page prints in bold, or quotes, is a word of a screen; or stands at the beginning of a step."""
    files = [*DASHBOARD.glob("*.py"), *DASHBOARD.glob("templates/*.html"), DASHBOARD / "static/page.js"]
    screens = " ".join(" ".join(file.read_text(encoding="utf-8") for file in files).split()).replace("{what}", "run")
    text = re.sub(r"<!--.*?-->|<img[^>]*>|```.*?```", "", USING, flags=re.DOTALL)
    named = {" ".join(word.split()).rstrip("…") for word in re.findall(r"\*\*(.+?)\*\*", text, re.DOTALL)}
    quoted = {" ".join(word.split()) for word in re.findall(r'"([A-Z][^"`]{8,})"', text)}
    steps = {"See the reasons.", "Find one", "Mend", "CSV"}
    assert len(named) > 20
    assert sorted(word for word in (named | quoted) - steps if word not in screens) == []


def test_the_example_host_serves_the_page_to_its_developers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path / "host", f"sqlite:///{tmp_path}/host/shop.db")
    (project.folder / "migrations").mkdir(exist_ok=True)
    (project.folder / "shop.db").touch()
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("PAGE_SECRET", "0" * 64)
    code = MOUNTING.partition("<!-- example: host -->\n```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(compile(code, "host.py", "exec"), names)
    with listening(names["app"]) as url, browser(url) as client:
        assert client.get("/migrations").headers["location"] == "/auth/sign-in?next=%2Fmigrations"
        assert sign_in(client, "nobody", "let me in") == sign_in(client, "ada", "me too") == 401
        assert sign_in(client, "eve", "me too") == 403
        assert client.get("/migrations").status_code == 303
        assert sign_in(client, "ada", "let me in") == 303
        assert client.get("/migrations").status_code == 200
        names["ACCOUNTS"]["ada"].is_developer = False
        assert client.get("/migrations").status_code == 403
        assert client.post("/auth/sign-out").status_code == 303
        assert names["sessions"] == {}


def sign_in(client: httpx.Client, name: str, password: str) -> int:
    return client.post("/auth/sign-in", data={"username": name, "password": password}).status_code
