"""Approving over the API and on the page: by accounts, of which the one that approved is never the one that starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from system_migration import Migrator
from system_migration.background import Background
from system_migration.migrator import Registry, Settings
from system_migration.token_file import make_token
from system_migration.web import create_dashboard, create_router
from system_migration.web.server import create_app
from system_migration.web.tokens import TokenFile
from tests.web.screens import buttons, part, press, words
from tests.web.serving import ONCE, UNTOUCHED, Increment, Mark, Served, changes, listening, served
from tests.web.test_dashboard_actions import fields, send

NAME = Increment.name
START = {"confirm": "production", "wait": 30}
BY_FORM = {"dryRun": ["false"], "confirm": "production"}

pytestmark = pytest.mark.databases("sqlite")


@pytest.fixture
def server(items: sa.Engine) -> Iterator[Served]:
    with served(items, Mark, Increment, environment="production", require_approval=True) as server:
        yield server


@pytest.fixture
def ada(server: Served) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def eve(server: Served) -> Iterator[httpx.Client]:
    with server.client("eve-token") as client:
        yield client


def rehearsed(client: httpx.Client, **options: Any) -> str:
    answer = client.post(f"/run/{NAME}", params={"dryRun": True, "wait": 30, **options})
    return str(answer.json()["reports"][0]["hash"])


def test_one_account_approves_and_another_starts(ada: httpx.Client, eve: httpx.Client, items: sa.Engine) -> None:
    assert ada.get(f"/approve/{NAME}").json() == {
        "required": True,
        "approval": None,
        "approvable": None,
        "approvableRun": None,
    }
    report = rehearsed(ada)
    refused = ada.post(f"/run/{NAME}", params=START)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:system-migration:not-approved")
    assert f"`migration approve {NAME} --report {report[:12]}`" in refused.json()["detail"]
    given = ada.post(f"/approve/{NAME}", params={"report": report[:12].upper()})
    assert (given.status_code, given.json()["report"], given.json()["approvedBy"]) == (200, report, "ada")
    same = ada.post(f"/run/{NAME}", params=START)
    assert (same.status_code, same.json()["title"]) == (409, "The run was not approved")
    assert "ada approved it, and cannot start it as well" in same.json()["detail"]
    assert changes(items) == UNTOUCHED
    assert eve.get(f"/approve/{NAME}").json()["approval"]["void"] is None
    assert eve.post(f"/run/{NAME}", params=START).json()["run"]["outcome"] == "succeeded"
    assert changes(items) == ONCE


def test_the_start_is_the_one_that_was_approved(ada: httpx.Client, eve: httpx.Client, items: sa.Engine) -> None:
    ada.post(f"/approve/{NAME}", params={"report": rehearsed(ada, batchSize=5)})
    for other in ({}, {"batchSize": 6}, {"batchSize": 5, "maxRows": 3}):
        assert "differs from the approved dry run" in eve.post(f"/run/{NAME}", params=START | other).json()["detail"]
    assert eve.post(f"/withdraw-approval/{NAME}").json()["status"] == "PENDING"
    late = eve.post(f"/run/{NAME}", params=START | {"batchSize": 5})
    assert "the approval by ada holds no more, as eve withdrew it" in late.json()["detail"]
    assert changes(items) == UNTOUCHED


@pytest.mark.parametrize("report", ["", "0" * 11, "0" * 65, "g" * 12])
def test_what_is_no_hash_is_not_looked_for(ada: httpx.Client, report: str) -> None:
    assert ada.post(f"/approve/{NAME}", params={"report": report}).status_code == 422


def test_the_page_offers_what_can_be_done(server: Served, ada: httpx.Client, items: sa.Engine) -> None:
    with server.browser() as one, server.browser("eve-token") as other:
        screen = one.get(f"/m/{NAME}")
        assert "Approval: needed, and not given" in words(part(screen, "state"))
        assert "approve" not in buttons(screen)
        report = rehearsed(ada)
        assert "approve" in buttons(one.get(f"/m/{NAME}"))
        form = one.get(f"/m/{NAME}/start", params={"verb": "approve"})
        assert f"Report {report}" in words(form)
        assert f'name="report" value="{report}"' in form.text
        shown = fields(server)
        for _ in range(2):  # sent twice, it acts once, and says the same
            done = send(one, "approve", shown, {"report": report})
            assert done.headers["location"].endswith("said=approved")
        screen = other.get(f"/m/{NAME}")
        assert "Approval: by ada at" in words(part(screen, "state"))
        assert f"report {report[:12]}" in words(part(screen, "events"))
        assert {"withdraw-approval"} == {"approve", "withdraw-approval"} & set(buttons(screen))
        refused = send(one, "run", fields(server), BY_FORM)
        assert refused.status_code == 409
        assert "ada approved it, and cannot start it as well" in words(refused)
        assert "Approval: by ada at" in words(refused)
        assert "The approval was withdrawn." in words(press(other, screen, "withdraw-approval"))
        assert send(other, "run", fields(server, "eve"), BY_FORM).status_code == 409
        assert changes(items) == UNTOUCHED
        send(one, "approve", fields(server), {"report": report})
        assert send(other, "run", fields(server, "eve"), BY_FORM).status_code == 303
    assert [event.actor for event in server.migrator.audit(NAME) if event.action == "run_started"] == ["eve"]


def test_who_looked_before_somebody_approved_is_told_of_it(server: Served, ada: httpx.Client) -> None:
    report, before = rehearsed(ada), fields(server, "eve")
    with server.browser() as one, server.browser("eve-token") as other:
        send(one, "approve", fields(server), {"report": report})
        late = send(other, "approve", before, {"report": report})
    assert late.status_code == 409
    assert "ada approved it" in words(late)


def test_where_none_is_needed_nobody_is_asked_for_one(items: sa.Engine) -> None:
    with served(items, Mark, Increment, environment="production") as server, server.browser() as ada:
        server.migrator.dry_run(NAME)
        screen = ada.get(f"/m/{NAME}")
        assert "Approval" not in words(screen)
        assert not {"approve", "withdraw-approval"} & set(buttons(screen))


def test_a_server_with_a_token_file_knows_people_by_tokens(items: sa.Engine, tmp_path: Path) -> None:
    """So what is approved there can be started at the command line, and the other way about."""
    token, line = make_token("ada")
    file = tmp_path / "tokens"
    file.write_text(line + "\n", encoding="utf-8")
    file.chmod(0o600)
    tokens, settings = TokenFile(file), Settings(environment="production", require_approval=True)
    with Migrator(items, Registry([Increment]), settings) as migrator:
        (report,) = migrator.dry_run(NAME)
        with listening(create_app(migrator, tokens.require, tokens)) as url:
            headers = {"Authorization": f"Bearer {token}"}
            answer = httpx.post(f"{url}/migration/approve/{NAME}", params={"report": report.hash}, headers=headers)
        assert answer.json()["identity"] == "token"
    with Migrator(items, Registry([Increment]), settings) as command:
        assert command.acting_as("eve", identity="token").run(NAME)[0].issues == 1


def test_two_doors_of_one_worker_know_people_by_the_same(items: sa.Engine) -> None:
    with Migrator(items, Registry([Increment]), Settings(environment="staging")) as migrator:
        background = Background(migrator)
        router = create_router(migrator, require_developer=lambda: "ada", background=background, identity="token")
        with pytest.raises(ValueError, match="the same identity"):
            create_dashboard(migrator, require_developer=lambda: "ada", background=background)
        del router
