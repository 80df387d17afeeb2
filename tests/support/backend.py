"""The reference host, served for real: its application under uvicorn in a thread, and accounts in its database."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI

from ante_backend.app import create_app
from ante_backend.app_settings import Configuration, read_app_settings
from ante_backend.settings import HostSettings
from ante_backend.tables import account
from system_migration import Settings
from tests.support.accounts import KEY, OLD_KEY, make
from tests.support.databases import application_engine, fresh_database
from tests.support.host import wait_for

SECRET = "a secret for tokens, of tests only"
COST = 4

#: Untyped, so that a test may store what the application must cope with.
ACCOUNT = sa.table("Account", *(sa.column(name) for name in [*account.c.keys(), "passwordHash"]))

_numbers = count(1)


def configuration(url: str, *, environment: str = "test", secret: str = SECRET, **host: Any) -> Configuration:
    """A configuration with both keys and the cheapest hashes; `host` overrides the host's settings."""
    host = {"encryption_key": KEY, "encryption_keys_old": (OLD_KEY,), "bcrypt_cost": COST} | host
    return Configuration(
        read_app_settings(auth_secret=secret, auth_secret_old=None),
        HostSettings(**host),
        Settings(database_url=url, environment=environment, migrations="ante_backend.migrations"),
    )


class Backend:
    """A server and its database. Each account that is added has a name of its own, so that tests may share both."""

    def __init__(self, config: Configuration, app: FastAPI | None = None) -> None:
        self.config = config
        self.engine = application_engine(config.database_url)
        self._socket = socket.create_server(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        # No certificates are read for plain HTTP; an `httpx` that did would take longer than most tests here.
        self.client = httpx.Client(base_url=address, verify=False, timeout=60, trust_env=False)
        self.app = app or create_app(config)
        self._server = uvicorn.Server(uvicorn.Config(self.app, log_config=None, ws="none"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, name="server")

    def __enter__(self) -> Self:
        self._thread.start()
        wait_for(lambda: self._server.started or not self._thread.is_alive(), 30, "the server")
        assert self._server.started
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._socket.close()
        self.engine.dispose()

    # Accounts

    def add(self, password: str | None = "the right password", /, **columns: Any) -> str:
        """The username of a new account with this legacy password; `columns` override what it would have."""
        number = next(_numbers)
        row = make(number, password or "")
        if password is None:
            row |= {"password": None, "key": None}
        row |= columns
        with self.engine.begin() as connection:
            connection.execute(sa.insert(ACCOUNT), row)
        return str(row["username"])

    def row(self, username: str) -> dict[str, Any]:
        """The account as it is stored."""
        with self.engine.connect() as connection:
            found = connection.execute(sa.select(ACCOUNT).where(ACCOUNT.c.username == username)).mappings().one()
        return dict(found)

    def change(self, username: str, **values: Any) -> None:
        """What somebody else writes meanwhile."""
        with self.engine.begin() as connection:
            changed = connection.execute(sa.update(ACCOUNT).where(ACCOUNT.c.username == username).values(values))
        assert changed.rowcount == 1

    # Requests

    def log_in(self, username: str, password: str) -> httpx.Response:
        return self.client.post("/auth/login", json={"username": username, "password": password})

    def token(self, username: str, password: str = "the right password") -> str:
        answer = self.log_in(username, password)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["accessToken"])

    def me(self, token: str) -> httpx.Response:
        return self.client.get("/auth/me", headers={"Authorization": f"Bearer {token}"})

    def change_password(self, token: str, current: str, new: str) -> httpx.Response:
        body = {"currentPassword": current, "newPassword": new}
        return self.client.post("/auth/password", json=body, headers={"Authorization": f"Bearer {token}"})


@contextmanager
def account_database(
    kind: str, directory: Path, request: pytest.FixtureRequest, *, hash_column: bool = True
) -> Iterator[str]:
    """The URL of a database with an empty table of accounts, and in it the column that migration 001 adds."""
    if kind == "sqlite":
        path = directory / "accounts.sqlite"
        path.touch()
        url = f"sqlite:///{path}"
        _create_accounts(url, hash_column)
        yield url
        return
    server = "postgres_server_url" if kind == "postgresql" else "mariadb_server_url"
    with fresh_database(request.getfixturevalue(server)) as url:
        _create_accounts(url, hash_column)
        yield url


def _create_accounts(url: str, hash_column: bool) -> None:
    table = account.to_metadata(sa.MetaData())
    if hash_column:
        table.append_column(sa.Column("passwordHash", sa.String(255)))
    engine = application_engine(url)
    table.create(engine)
    engine.dispose()


class Counted:
    """Counts what bcrypt is asked to do by anybody but the test itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import bcrypt

        self.operations = 0
        self.threads: set[str] = set()
        self._lock = threading.Lock()
        for name in ("hashpw", "checkpw"):
            monkeypatch.setattr(bcrypt, name, self._counting(getattr(bcrypt, name)))

    def _counting(self, work: Any) -> Any:
        def counted(*args: Any) -> Any:
            result = work(*args)  # an operation refused with an error takes no time, and does not count
            if threading.current_thread() is not threading.main_thread():
                with self._lock:
                    self.operations += 1
                    self.threads.add(threading.current_thread().name)
            return result

        return counted

    def take(self) -> int:
        """How many since the last time."""
        with self._lock:
            taken, self.operations = self.operations, 0
        return taken
