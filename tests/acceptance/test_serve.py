"""`migration serve`: runs started over HTTP outlive their server, and are followed and steered from another one."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from system_migration.web.server import GRACE_SECONDS
from system_migration.web.tokens import make_token
from tests.support.command import PATIENCE, Project, Running, wait_until
from tests.support.workload import increments, prepare
from tests.web.serving import messages

NAME = "001-slowly"
SLOWLY = """
import os
import time

import gate

from system_migration import BatchMigration


class Slowly(BatchMigration):
    name = "001-slowly"
    table = "item"
    reads = ("origin", "y")
    writes = ("y",)

    def transform(self, row):
        if str(row.origin) in os.environ.get("GATES", "8").split():
            gate.stop(str(row.origin))
        time.sleep(0.02)
        return {"y": row.y + 1}

    def check(self, row):
        return row.y == row.origin + 1
"""
"""In place. It waits at the gates that GATES names, in the rows of these numbers."""
ROWS = 60
ONCE = dict.fromkeys(range(1, ROWS + 1), 1)
ONE_BY_ONE = {"batchSize": 1, "workers": 1}
SHORT_LEASE = {"MIGRATION_LEASE_SECONDS": "1"}


@pytest.fixture
def token(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Ada's token; its line is in `tokens` in the test's directory."""
    token, line = make_token("ada")
    file = tmp_path / "tokens"
    file.write_text(line + "\n", encoding="utf-8")
    file.chmod(0o600)
    return token


@contextmanager
def serving(project: Project, token: str, **env: str) -> Iterator[tuple[Running, httpx.Client]]:
    """A server in a process of its own, and a client of it."""
    arguments = ("serve", "--port", "0", "--tokens", str(project.folder.parent / "tokens"))
    with project.start(*arguments, env=env) as running:
        running.wait_for("Serving acceptance on ")
        found = re.search(r"on (http://\S+)", running.err())
        assert found is not None
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=found[1], headers=headers, timeout=PATIENCE) as client:
            yield running, client


def until_changed(told: Iterator[Any], rows: int) -> None:
    """Read a stream until it tells of so many rows."""
    for message in told:
        if message.kind == "state" and message.data["progress"]["changed"] == rows:
            return
    raise AssertionError(f"the stream ended before {rows} rows were changed")


@pytest.mark.databases("sqlite", "postgresql")
def test_a_run_is_steered_from_another_server_and_outlives_its_own(project: Project, token: str) -> None:
    prepare(project, ("001_slowly", SLOWLY), rows=ROWS)
    with ExitStack() as stack:
        _, first = stack.enter_context(serving(project, token, **SHORT_LEASE))
        two, second = stack.enter_context(serving(project, token, GATES="50", **SHORT_LEASE))

        # Started at the first server, followed and paused at the second
        run = first.post(f"/run/{NAME}", params=ONE_BY_ONE).json()["run"]
        with second.stream("GET", f"/runs/{run['id']}/events") as response:
            told = messages(response)
            until_changed(told, 7)
            assert second.post(f"/runs/{run['id']}/pause").status_code == 202
            project.open("8")
            *_, last = told
        assert (last.kind, last.data["state"]) == ("end", "paused")

        # Resumed at the second, which is killed; the next server to start goes on with it, as it was asked for
        answer = second.post(f"/runs/{run['id']}/resume", params=ONE_BY_ONE)
        resumed = answer.json()["run"]
        project.wait_at("50", two)
        two.kill()
        with first.stream("GET", f"/runs/{resumed['id']}/events") as response:
            told = messages(response)
            stack.enter_context(serving(project, token, **SHORT_LEASE))
            *seen, last = told
        assert (last.kind, last.data["state"]) == ("end", "succeeded")
        assert last.data["run"]["executedBy"] == "ada"
        takeover = next(m.data for m in seen if m.kind == "event" and m.data["action"] == "takeover")
        assert takeover["actor"] == "ada"
        assert (takeover["detail"]["door"], takeover["detail"]["options"]) == ("rest", ONE_BY_ONE)
    assert increments(project) == ONCE


def test_sigterm_ends_a_run_at_a_checkpoint_and_the_next_start_goes_on(sqlite_project: Project, token: str) -> None:
    project = sqlite_project
    prepare(project, ("001_slowly", SLOWLY), rows=ROWS)
    with serving(project, token) as (running, client):
        run = client.post(f"/run/{NAME}", params=ONE_BY_ONE).json()["run"]
        with client.stream("GET", f"/runs/{run['id']}/events") as response:
            told = messages(response)
            until_changed(told, 7)
            running.signal(signal.SIGTERM)
            began = time.monotonic()
            assert "end" not in [message.kind for message in told]  # the stream ends although the run does not yet
            assert time.monotonic() - began < GRACE_SECONDS  # and before the server would end it
        project.open("8")
        assert running.end().code == 0
    status = project.status(NAME)
    assert (status["status"], status["stale"]) == ("RUNNING", True)
    assert 8 <= sum(increments(project).values()) < ROWS
    with serving(project, token) as (_, client):
        wait_until(lambda: client.get(f"/runs/{run['id']}").json()["state"] == "succeeded", "the end of the run")
    assert increments(project) == ONCE


def test_a_run_that_the_command_line_made_is_left_to_it(sqlite_project: Project, token: str) -> None:
    project = sqlite_project
    prepare(project, ("001_slowly", SLOWLY), rows=ROWS)
    with project.start("run", "--batch-size", "1", "--workers", "1", env=SHORT_LEASE) as running:
        project.wait_at("8", running)
        running.signal(signal.SIGTERM)
        running.wait_for("stopping after the batch in flight")
        project.open("8")
        assert running.end().code == 143
    with serving(project, token, **SHORT_LEASE) as (_, client):
        assert client.get("/status").json()["migrations"][0]["stale"]
        assert client.post("/verify/nope").status_code == 404  # the worker is free
    assert sum(increments(project).values()) < ROWS


HOST = """
from fastapi import Header, HTTPException


def developer(x_account: str | None = Header(None)) -> str:
    if x_account is None:
        raise HTTPException(401, "Who are you?")
    return f"account {x_account}"
"""


def test_a_host_brings_its_own_developers(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, ("001_slowly", SLOWLY), rows=ROWS)
    (project.folder / "host.py").write_text(HOST, encoding="utf-8")
    with project.start("serve", "--port", "0", "--developer", "host:developer") as running:
        running.wait_for("Serving acceptance on ")
        found = re.search(r"on (http://\S+)/migration", running.err())
        assert found is not None
        with httpx.Client(base_url=found[1], timeout=PATIENCE) as client:
            assert client.get("/health/live").json() == {"status": "alive"}
            assert client.get("/migration/status").status_code == 401
            assert f"(the page: {found[1]}/migrations)" in running.err()
            assert client.get("/migrations", headers={"X-Account": "7"}).status_code == 200
            skipped = client.post(f"/migration/skip/{NAME}?reason=no", headers={"X-Account": "7"})
            assert skipped.status_code == 200
    assert project.json("show", NAME)["events"][0]["actor"] == "account 7"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Say who may act: either --tokens FILE or --developer"),
        (("--tokens", "a", "--developer", "b:c"), "Say who may act"),
        (("--tokens", "nowhere"), "The token file nowhere cannot be read (No such file or directory)."),
        (("--developer", "nowhere:at_all"), "--developer nowhere:at_all cannot be imported"),
        (("--developer", "os:sep"), "--developer os:sep is not a function."),
        (("--developer", "os:getcwd", "--host", "203.0.113.7"), "Nothing can listen on 203.0.113.7"),
        (("--make-token", "a:b"), "The name must be"),
    ],
)
def test_a_start_that_cannot_be_is_one_clear_sentence(
    sqlite_project: Project, arguments: tuple[str, ...], words: str
) -> None:
    prepare(sqlite_project)
    assert words in sqlite_project.run("serve", *arguments, code=2).err


def test_without_the_extra_it_says_what_to_install(sqlite_project: Project) -> None:
    prepare(sqlite_project)
    stub = sqlite_project.folder / "stub" / "uvicorn.py"
    stub.parent.mkdir()
    stub.write_text("raise ModuleNotFoundError(name='uvicorn')")
    path = f"{stub.parent}:{sqlite_project.environ.get('PYTHONPATH', '')}".rstrip(":")
    told = sqlite_project.run("serve", "--tokens", "x", code=2, env={"PYTHONPATH": path})
    assert "needs uvicorn, which is not installed. Install the extra: pip install 'system-migration[api]'." in told.err


def test_a_token_is_made_for_the_file(sqlite_project: Project) -> None:
    made = sqlite_project.json("serve", "--make-token", "ada")
    assert made["line"].startswith("ada:")
    assert made["token"] not in made["line"]
