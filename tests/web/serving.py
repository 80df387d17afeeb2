"""The API and the page on a real port, served from a thread of the test's process, and what its clients say."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx
import sqlalchemy as sa
import uvicorn
from fastapi import APIRouter, Cookie, Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from system_migration import (
    BatchMigration,
    Migration,
    MigrationContext,
    MigrationResult,
    Migrator,
    Registry,
    Row,
    RowIssue,
    Settings,
)
from system_migration.background import Background
from system_migration.web import create_dashboard, create_router, install_problem_handlers
from tests.support.host import wait_for

PATIENCE = 30.0
SECRET = b"the secret of this test's forms."
_bearer = HTTPBearer(auto_error=False)


class Mark(Migration):
    """An imperative one that can be undone."""

    name = "001-mark"
    rollbackable = True

    def up(self, context: MigrationContext) -> MigrationResult:
        context.log.info("marking")
        done = context.connection.execute(sa.text("UPDATE item SET note = 'marked'"))
        return MigrationResult(records_processed=done.rowcount)

    def down(self, context: MigrationContext) -> MigrationResult:
        context.connection.execute(sa.text("UPDATE item SET note = NULL"))
        return MigrationResult()


class Increment(BatchMigration):
    """In place, so that what is done twice shows. Holds row 13, and waits at the gate, if there is one."""

    name = "002-increment"
    table = "item"
    reads = ("origin", "y")
    writes = ("y",)
    max_issues = 1
    gate: Gate | None = None

    def transform(self, row: Row) -> dict[str, Any]:
        if (gate := Increment.gate) is not None and row.origin == gate.row:
            gate.reached.set()
            assert gate.opened.wait(PATIENCE)
        if row.origin == 13:
            raise RowIssue("unlucky", "thirteen stays as it is")
        return {"y": row.y + 1}

    def check(self, row: Row) -> bool:
        return bool(row.y == row.origin + 1)


class Gate:
    """Holds up the work in a row until the test lets it go on."""

    def __init__(self, row: int) -> None:
        self.row = row
        self.reached, self.opened = threading.Event(), threading.Event()


@contextmanager
def gated(row: int = 8) -> Iterator[Gate]:
    """Within this block the increment waits at the gate in this row."""
    Increment.gate = gate = Gate(row)
    try:
        yield gate
    finally:
        gate.opened.set()
        Increment.gate = None


def make_items(engine: sa.Engine, rows: int = 20) -> None:
    with engine.begin() as connection:
        columns = "id INTEGER PRIMARY KEY, origin INTEGER NOT NULL, y INTEGER NOT NULL, note VARCHAR(20)"
        connection.execute(sa.text(f"CREATE TABLE item ({columns})"))
        values = ", ".join(f"({number}, {number}, {number})" for number in range(1, rows + 1))
        connection.execute(sa.text(f"INSERT INTO item (id, origin, y) VALUES {values}"))


def changes(engine: sa.Engine) -> dict[int, int]:
    """By how much each item was changed."""
    with engine.connect() as connection:
        return {row.id: row.y - row.origin for row in connection.execute(sa.text("SELECT id, origin, y FROM item"))}


ONCE = {number: 0 if number == 13 else 1 for number in range(1, 21)}
UNTOUCHED = dict.fromkeys(range(1, 21), 0)


@dataclass
class Developers:
    """The host's login: tokens of developers, and of others who only have an account."""

    names: dict[str, str] = field(default_factory=lambda: {"ada-token": "ada", "eve-token": "eve"})
    accounts: set[str] = field(default_factory=lambda: {"bob-token"})
    asked: int = 0

    def require(self, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
        return self._admit(given.credentials if given is not None else "")

    def require_session(self, session: Annotated[str, Cookie()] = "") -> str:
        """The same of a browser, whose session is the token in a cookie."""
        return self._admit(session)

    def _admit(self, token: str) -> str:
        self.asked += 1
        if token in self.names:
            return self.names[token]
        if token in self.accounts:
            raise HTTPException(403, "This account is not a developer's.")
        raise HTTPException(401, "Who are you?", {"WWW-Authenticate": "Bearer"})

    def dismiss(self, token: str) -> None:
        del self.names[token]
        self.accounts.add(token)


@dataclass
class Served:
    """A served API, and the page beside it, with their migrator."""

    url: str
    migrator: Migrator
    app: FastAPI
    developers: Developers
    page: APIRouter

    def client(self, token: str | None = "ada-token", **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=f"{self.url}/migration", headers=headers, timeout=PATIENCE, **options)

    def browser(self, token: str | None = "ada-token", **options: Any) -> httpx.Client:
        """A client of the page, signed in with this token."""
        cookies = {"session": token} if token else {}
        return httpx.Client(base_url=f"{self.url}/migrations", cookies=cookies, timeout=PATIENCE, **options)


@contextmanager
def served(
    engine: sa.Engine,
    *migrations: type[Migration],
    environment: str = "staging",
    make_background: type[Background] = Background,
    require_approval: bool = False,
) -> Iterator[Served]:
    """Serve a migrator of these migrations until the block is left."""
    settings = Settings(environment=environment, require_approval=require_approval)
    with Migrator(engine, Registry(list(migrations or (Mark, Increment))), settings, executed_by="server") as migrator:
        developers = Developers()
        app = FastAPI()
        install_problem_handlers(app)
        background = make_background(migrator)
        router = create_router(migrator, require_developer=developers.require, background=background)
        app.include_router(router, prefix="/migration")
        page = create_dashboard(
            migrator,
            require_developer=developers.require_session,
            background=background,
            secret=SECRET,
            sign_in="/sign-in",
            sign_out="/sign-out",
        )
        app.include_router(page, prefix="/migrations")
        with listening(app) as url:
            yield Served(url, migrator, app, developers, page)


@contextmanager
def listening(app: FastAPI, root_path: str = "") -> Iterator[str]:
    """The address of the application, which is served until the block is left, as if a proxy put a prefix before it."""
    config = uvicorn.Config(
        app,
        port=0,
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
        root_path=root_path,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive(), PATIENCE, "the server")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@dataclass
class Message:
    """One message of an event stream."""

    id: str
    kind: str
    data: Any


def messages(response: httpx.Response) -> Iterator[Message]:
    """The messages of an event stream as they come. Comments are passed over."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            yield Message(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
            fields = {}
        else:
            fields = {}


def follow(client: httpx.Client, run_id: str, seen: str | None = None) -> list[Message]:
    """All messages of a run's stream, to its end."""
    headers = {"Last-Event-ID": seen} if seen else {}
    with client.stream("GET", f"/runs/{run_id}/events", headers=headers) as response:
        assert response.status_code == 200, response.read()
        return list(messages(response))


def wait_until_ended(client: httpx.Client, run_id: str) -> dict[str, Any]:
    """The run, once it has an outcome."""
    found: dict[str, Any] = {}

    def ended() -> bool:
        nonlocal found
        found = client.get(f"/runs/{run_id}").json()
        return found["run"]["outcome"] is not None

    wait_for(ended, PATIENCE, f"the end of run {run_id}")
    return found
