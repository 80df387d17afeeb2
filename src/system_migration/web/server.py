"""A server of its own for the API and the page, where no host application brings one."""

from __future__ import annotations

import hashlib
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse

from system_migration.background import Background
from system_migration.errors import ConfigurationError
from system_migration.migrator import Migrator
from system_migration.web.dashboard.pages import root_of
from system_migration.web.dashboard.router import create_dashboard
from system_migration.web.handlers import install_problem_handlers
from system_migration.web.health import create_liveness_router
from system_migration.web.router import create_router
from system_migration.web.session_cookie import SessionCookie
from system_migration.web.sign_in import SIGN_IN, SIGN_OUT, create_sign_in_router
from system_migration.web.token_sessions import TOKEN_FIELDS, TokenDoor
from system_migration.web.tokens import TokenFile

PAGE = "/migrations"

GRACE_SECONDS = 10
"""How long open answers are waited for at the end; event streams end at once."""


def create_app(migrator: Migrator, require_developer: Callable[..., Any], tokens: TokenFile | None = None) -> FastAPI:
    """The API under /migration, the page under /migrations, and `GET /health/live`.

    Without a token file `require_developer` decides for the page as well, and who signs people in is its affair. The
    API's description is closed: docs/reference has it.
    """
    # A redirect would go, before anybody's token is asked for, to whatever host the client named.
    app = FastAPI(title="system-migration", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    install_problem_handlers(app)
    background = Background(migrator)
    identity = "account" if tokens is None else "token"
    api = create_router(migrator, require_developer=require_developer, background=background, identity=identity)
    app.include_router(api, prefix="/migration")
    if tokens is None:
        page = create_dashboard(migrator, require_developer=require_developer, background=background)
    else:
        door = TokenDoor(tokens, SessionCookie(_cookie_name(migrator.environment)))
        app.include_router(create_sign_in_router(door.cookie, TOKEN_FIELDS, door.enter, door.leave))
        page = create_dashboard(
            migrator,
            require_developer=door.require,
            background=background,
            sign_in=SIGN_IN,
            sign_out=SIGN_OUT,
            identity=identity,
        )
    app.include_router(page, prefix=PAGE)
    app.add_api_route("/", _to_the_page, methods=["GET"], include_in_schema=False)
    app.include_router(create_liveness_router())
    return app


def _to_the_page(request: Request) -> RedirectResponse:
    """Who opens the address that `migration serve` names without a path looks for the page."""
    return RedirectResponse(root_of(request), 303)


def _cookie_name(environment: str) -> str:
    """One for each environment: to a browser all ports of a machine are one place, and tunnels end on one machine."""
    return f"migrations-{hashlib.sha256(environment.encode()).hexdigest()[:8]}"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `ConfigurationError` where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigurationError(f"Nothing can listen on {host}, port {port} ({reason}). Choose another.") from None


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Serve until a SIGTERM or Ctrl-C. The run that is going ends at a clean checkpoint before this returns."""
    config = uvicorn.Config(
        app, lifespan="on", log_config=None, access_log=False, timeout_graceful_shutdown=GRACE_SECONDS
    )
    with _signals_are_spent():
        uvicorn.Server(config).run(sockets=[listening])


@contextmanager
def _signals_are_spent() -> Iterator[None]:
    """The server raises the signal that ended it once more when it is done; here that must not kill us."""
    earlier = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
