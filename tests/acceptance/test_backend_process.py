"""The host as a process: how it starts, what it refuses to start with, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.accounts import KEY, insert, make
from tests.support.backend import SECRET, account_database
from tests.support.databases import application_engine
from tests.support.host import free_port, wait_for

MODULE = [sys.executable, "-m", "ante_backend"]


def environ(directory: Path, **settings: str) -> dict[str, str]:
    return os.environ | {"DATABASE_URL": f"sqlite:///{directory}/accounts.sqlite"} | settings


@contextmanager
def served(command: list[str], environ: dict[str, str], port: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        with httpx.Client(verify=False, trust_env=False) as client:
            wait_for(lambda: process.poll() is not None or answers(client, port), 60, "an answer")
        yield process
    finally:
        process.kill()
        process.communicate()


def answers(client: httpx.Client, port: int) -> bool:
    try:
        return client.get(f"http://127.0.0.1:{port}/health/live").status_code == 200
    except httpx.TransportError:
        return False


def ask_for_a_row(port: int) -> None:
    """By its key, which may be anything, without being anybody."""
    url = f"http://127.0.0.1:{port}/migration/issues/001-password-bcrypt"
    with httpx.Client(verify=False, trust_env=False) as client:
        assert client.get(url, params={"key": "jane.doe@example.test"}).status_code == 401


@pytest.fixture
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    with account_database("sqlite", tmp_path, request):
        yield tmp_path


@pytest.mark.parametrize("factory", [False, True], ids=["module", "uvicorn"])
def test_it_serves_until_sigterm_and_ends_cleanly(database: Path, factory: bool) -> None:
    port = free_port()
    uvicorn = [sys.executable, "-m", "uvicorn", "--factory", "ante_backend.app:create_app", "--port", str(port)]
    settings = environ(database, AUTH_SECRET=SECRET, PORT=str(port))
    with served(uvicorn if factory else MODULE, settings, port) as process:
        ask_for_a_row(port)
        process.send_signal(signal.SIGTERM)
        requests, said = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)  # uvicorn raises the signal again when all is closed
    assert "Application shutdown complete." in said
    assert "Traceback" not in said
    assert "ENCRYPTION_KEY is not set: accounts that are not migrated yet cannot log in." in said
    assert '"GET /migration/issues/001-password-bcrypt HTTP/1.1" 401' in requests + said
    assert "jane.doe" not in requests + said


def test_it_migrates_at_its_start_where_it_is_told_to_and_both_passwords_open(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with account_database("sqlite", tmp_path, request, hash_column=False) as url:
        engine = application_engine(url)
        insert(engine, [make(number, f"password {number}") for number in range(1, 13)])
        engine.dispose()
    port = free_port()
    automatic = {"RUN_MIGRATIONS_ON_STARTUP": "true", "AUTO_MIGRATE": "true"}
    settings = environ(tmp_path, AUTH_SECRET=SECRET, PORT=str(port), ENCRYPTION_KEY=KEY, **automatic)
    with served(MODULE, settings, port), httpx.Client(base_url=f"http://127.0.0.1:{port}", verify=False) as client:

        def log_in(number: int) -> int:
            body = {"username": f"person{number}", "password": f"password {number}"}
            return client.post("/auth/login", json=body).status_code

        assert log_in(1) == 200  # migrated or not
        wait_for(lambda: client.get("/health/ready").json()["state"] == "done", 60, "the migration")
        assert client.get("/health/ready").status_code == 200
        assert [log_in(number) for number in (1, 2, 12)] == [200, 200, 200]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "AUTH_SECRET is not set: set it to what "),
        ({"AUTH_SECRET": "x" * 31}, "AUTH_SECRET is shorter than 32 bytes: set it to what "),
    ],
    ids=["none", "short"],
)
def test_it_does_not_start_with_a_setting_it_cannot_use(database: Path, settings: dict[str, str], said: str) -> None:
    ended = subprocess.run(
        MODULE, env=environ(database, **settings), capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(said)
    assert len(ended.stderr.splitlines()) == 1
    assert not settings or settings["AUTH_SECRET"] not in ended.stderr


def test_migrations_and_the_command_do_without_the_application() -> None:
    """They start fast: pydantic and FastAPI take longer to import than a small migration takes to run."""
    check = (
        "import sys, importlib; importlib.import_module('ante_backend.migrations.001_password_bcrypt');"
        "import ante_backend.seed, ante_backend.key_preflight, system_migration.cli.main;"
        "print([name for name in ('pydantic', 'fastapi', 'starlette', 'jwt', 'uvicorn') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "[]\n"
