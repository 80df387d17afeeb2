"""The host, and `migration serve`, as real processes over a database of invented accounts.

The host's own migration does the work, with the cheapest hashes, in a folder of the project: a test may stop it at
gates, and write more migrations beside it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from ante_backend.seed import SeededAccount, create_legacy_table, insert_accounts, make_accounts
from system_migration.web.tokens import make_token
from tests.support.accounts import KEY
from tests.support.backend import COST, SECRET
from tests.support.command import ENVIRONMENT, Environ, Project, Running, make_project, wait_until
from tests.support.databases import application_engine
from tests.support.host import free_port
from tests.support.workload import GATE

NAME = "001-password-bcrypt"
MIGRATION = f'''
import os
from dataclasses import replace
from importlib import import_module
from itertools import count

import gate

own = import_module("ante_backend.migrations.001_password_bcrypt")
numbers = count(1)


class PasswordBcrypt(own.PasswordBcrypt):
    """The host's, with the cheapest hashes. It waits at the gates of accounts whose numbers are in GATES."""

    def settings(self):
        return replace(super().settings(), bcrypt_cost={COST}, verify_sample=1000)

    def transform(self, row):
        number = str(next(numbers))
        if number in os.environ.get("GATES", "").split():
            gate.stop(number)
        return super().transform(row)
'''


@dataclass(frozen=True)
class Person:
    """Somebody with an account, and how they log in."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Accounts:
    """A project with the host's migration and its accounts, pending all of them."""

    project: Project
    developers: list[Person]
    user: Person
    """Somebody who is no developer."""


@dataclass(frozen=True)
class Host:
    """A server that answers at `url`, and its process."""

    url: str
    running: Running

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=False, timeout=60, trust_env=False)

    def wait(self) -> None:
        """Until it answers."""

        def answers() -> bool:
            with suppress(httpx.TransportError):
                return client.get("/health/live").status_code == 200
            return False

        with self.client() as client:
            wait_until(lambda: answers() or not self.running.going, f"an answer of {self.url}")
        assert self.running.going, self.running.end()


def account_project(
    folder: Path, url: str, *, accounts: int = 400, damaged: int = 0, environment: str = ENVIRONMENT
) -> Accounts:
    """A new project in `folder` on an empty database; `damaged` accounts will be held.

    Of 400 accounts eight are developers. `environment`: "production", for the page that says so.
    """
    project = make_project(folder, url)
    project.environ |= {"ENCRYPTION_KEY": KEY, "AUTH_SECRET": SECRET, "MIGRATION_ENVIRONMENT": environment}
    project.environ |= {"MIGRATIONS": str(folder / "migrations")}
    (folder / "gate.py").write_text(GATE, encoding="utf-8")
    project.write("001_password_bcrypt", MIGRATION)
    made = list(make_accounts(accounts, damaged, KEY))
    engine = application_engine(url)
    try:
        create_legacy_table(engine)
        insert_accounts(engine, made)
    finally:
        engine.dispose()
    known = [account for account in made if account.damage is None]
    developers = [_person(account) for account in known if account.row["isDeveloper"]]
    return Accounts(project, developers, next(_person(a) for a in known if not a.row["isDeveloper"]))


def _person(account: SeededAccount) -> Person:
    assert account.plaintext is not None
    return Person(account.row["username"], account.plaintext)


@contextmanager
def serve_host(project: Project, env: Environ | None = None) -> Iterator[Host]:
    """`python -m ante_backend` in a process of its own. There may be several of one project."""
    port = free_port()
    program, env = Path(sys.executable), {"PORT": str(port), **(env or {})}
    with project.start("-m", "ante_backend", program=program, env=env) as running:
        host = Host(f"http://127.0.0.1:{port}", running)
        host.wait()
        yield host


@contextmanager
def serve_command(project: Project, name: str = "ada", env: Environ | None = None) -> Iterator[tuple[Host, str]]:
    """`migration serve` in a process of its own, and the token of a developer of that name."""
    token, line = make_token(name)
    file = project.folder / f"tokens-{name}"
    file.write_text(line + "\n", encoding="utf-8")
    file.chmod(0o600)
    with project.start("serve", "--port", "0", "--tokens", str(file), env=env) as running:
        running.wait_for("Serving ")
        running.wait_for("/migration")
        (url,) = re.findall(r" on (http://\S+)/migration", running.err())
        yield Host(url, running), token


PAGE = '''
"""The page, where whoever asks is the developer whose name is given. There is a sign-in, which lets nobody in."""

import os
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, HTTPException

from system_migration import Migrator, connect, discover, read_settings
from system_migration.web import SessionCookie, SignInField, create_dashboard, create_sign_in_router

FIELDS = [
    SignInField("username", "Username or e-mail", "username"),
    SignInField("password", "Password", "current-password", is_secret=True),
]


async def refuse(request, typed):
    raise HTTPException(401, "The name or the password is wrong.")


settings = read_settings({}, os.environ, Path("pyproject.toml"))
migrator = Migrator(connect(settings.required_database_url()), discover(settings.migrations), settings)
app = FastAPI(openapi_url=None, redirect_slashes=False)
page = create_dashboard(
    migrator, require_developer=lambda: sys.argv[2], sign_in="/auth/sign-in", sign_out="/auth/sign-out"
)
app.include_router(page, prefix="/migrations")
app.include_router(create_sign_in_router(SessionCookie("migrations"), FIELDS, refuse))
app.add_api_route("/health/live", lambda: {"status": "alive"})
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
migrator.close()
'''


@contextmanager
def serve_page(project: Project, developer: str = "ada", env: Environ | None = None) -> Iterator[str]:
    """The address of the page, where everybody is that developer. For what has nothing to do with signing in."""
    with page_host(project, developer, env) as host:
        yield f"{host.url}/migrations"


@contextmanager
def page_host(project: Project, developer: str = "ada", env: Environ | None = None) -> Iterator[Host]:
    """The same for who needs its process, too. The page is below `/migrations`."""
    port = free_port()
    project.environ.setdefault("MIGRATIONS", str(project.folder / "migrations"))
    (project.folder / "page.py").write_text(PAGE, encoding="utf-8")
    with project.start("page.py", str(port), developer, program=Path(sys.executable), env=env) as running:
        host = Host(f"http://127.0.0.1:{port}", running)
        host.wait()
        yield host
