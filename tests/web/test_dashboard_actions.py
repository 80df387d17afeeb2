"""The buttons of the page over real HTTP: each acts once, in the name of whoever pressed it, or says why not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from tests.web.serving import Served, served

pytestmark = pytest.mark.databases("sqlite", "postgresql")
NAME = "002-increment"
REAL = {"dryRun": ["false"], "batchSize": "1", "workers": "1"}
DRY = {"dryRun": ["false", "true"]}


@pytest.fixture
def server(items: sa.Engine) -> Iterator[Served]:
    with served(items) as server:
        yield server


@pytest.fixture
def ada(server: Served) -> Iterator[httpx.Client]:
    with server.browser() as client:
        yield client


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of the first form that acts on a migration."""
    form = page[page.index("/m/", page.index('<form method="post" action="/migrations')) :]
    return dict(re.findall(r'<input type="hidden" name="(token|request|seen)" value="([^"]*)">', form)[:3])


def fields(client: httpx.Client, verb: str, name: str = NAME) -> dict[str, str]:
    """What the form of a verb brings along."""
    return hidden(client.get(f"/m/{name}/start", params={"verb": verb}).text)


def send(client: httpx.Client, verb: str, name: str = NAME, **typed: Any) -> httpx.Response:
    return client.post(f"/m/{name}/{verb}", data=typed)


def test_a_form_starts_a_run_and_leads_to_it(items: sa.Engine, server: Served, ada: httpx.Client) -> None:
    answer = send(ada, "run", **fields(ada, "run"), **REAL)
    assert answer.status_code == 303
    run_id = answer.headers["location"].removeprefix("/migrations/runs/")
    assert server.migrator.run_by_id(run_id).run.executed_by == "ada"
