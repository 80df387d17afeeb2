"""The application: accounts log in at /auth, developers administer migrations at /migration, or on a page: /migrations.

`uvicorn --factory ante_backend.app:create_app`, or `python -m ante_backend`. Of one server process: throttling counts
and hashing threads are its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import sqlalchemy as sa
from fastapi import FastAPI

from ante_backend.access_log import hide_queries
from ante_backend.accounts import Accounts
from ante_backend.app_settings import Configuration
from ante_backend.attempts import Attempts
from ante_backend.auth_api import account_dependency, create_auth_router, developer_dependency
from ante_backend.authentication import Authentication
from ante_backend.body_limit import BodyLimit
from ante_backend.hashing import Hashing
from ante_backend.legacy_cipher import named_keys
from ante_backend.login import Judge
from ante_backend.page_renewal import PageRenewal
from ante_backend.page_sessions import PageSessions, form_secret
from ante_backend.page_sign_in import create_page_sign_in, developer_cookie_dependency
from ante_backend.plausibility import KeyRing
from ante_backend.settings import HostSettings
from ante_backend.tokens import Tokens
from system_migration import Background, Migrator, Startup, connect, discover
from system_migration.web import (
    HoldUntilReady,
    SessionCookie,
    create_dashboard,
    create_health_router,
    create_router,
    install_problem_handlers,
    migrations_lifespan,
)

_log = logging.getLogger(__name__)

#: No request of ours is longer; what is, is refused before it is read.
MAX_BODY_BYTES: Final = 16 * 1024
#: Except a form of the page in which many rows are chosen. The page itself takes fewer, and says so in its own words.
MAX_FORM_BYTES: Final = 512 * 1024


def create_app(configuration: Configuration | None = None, clock: Callable[[], float] = time.time) -> FastAPI:
    """The application, from the environment if no configuration is given. Opens no connection yet.

    Takes the time of one hash, and 30 ms for each key. Raises SettingsError or the library's ConfigurationError.
    `clock` is what the page's sessions go by.
    """
    configuration = configuration or Configuration.from_environment()
    hide_queries()
    authentication = _authentication(configuration)
    engine = authentication.engine
    migrator = Migrator(engine, discover(configuration.library.migrations), configuration.library)
    background = Background(migrator)  # one for what a start runs and what developers start
    startup = Startup(migrator, background)
    app = FastAPI(
        title="ANTE backend",
        redirect_slashes=False,  # a redirect would be built from the Host that the client sent
        lifespan=_lifespan(authentication, migrator, startup),
        openapi_url="/openapi.json" if configuration.is_development else None,  # and with it the pages made of it
    )
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES, below={"/migrations": MAX_FORM_BYTES})
    install_problem_handlers(app)  # around the limit, which leaves the answer to them
    app.state.authentication = authentication
    current_account = account_dependency(authentication)
    app.include_router(create_auth_router(authentication, current_account))
    mount_migrations(app, migrator, background, startup, developer_dependency(current_account))
    mount_page(app, migrator, background, authentication, configuration, clock)
    return app


def mount_migrations(
    app: FastAPI,
    migrator: Migrator,
    background: Background,
    startup: Startup,
    require_developer: Callable[..., str],
) -> None:
    """The library's routes: health for whoever probes, the rest behind this application's own accounts.

    While a migration keeps the application from serving, developers can log in and look after it.
    """
    app.include_router(create_health_router(startup))
    api = create_router(migrator, require_developer=require_developer, background=background)
    app.include_router(api, prefix="/migration")
    app.add_middleware(HoldUntilReady, startup=startup, open_paths=("/health", "/migration", "/migrations", "/auth"))


def mount_page(
    app: FastAPI,
    migrator: Migrator,
    background: Background,
    authentication: Authentication,
    configuration: Configuration,
    clock: Callable[[], float],
) -> None:
    """The library's page, for developers who sign in with their account's password."""
    secrets = [secret for _, secret in configuration.app.secrets]
    sessions = PageSessions(secrets, clock)
    cookie = SessionCookie("migrations", always_secure=not configuration.is_development)
    app.include_router(create_page_sign_in(authentication, sessions, cookie))
    dashboard = create_dashboard(
        migrator,
        require_developer=developer_cookie_dependency(authentication, sessions, cookie),
        background=background,
        secret=form_secret(secrets[0]),
        sign_in="/auth/sign-in",
        sign_out="/auth/sign-out",
    )
    app.include_router(dashboard, prefix="/migrations")
    app.add_middleware(PageRenewal, cookie=cookie)


def _authentication(configuration: Configuration) -> Authentication:
    app, host = configuration.app, configuration.host
    return Authentication(
        engine=_engine(configuration.database_url),
        judge=Judge(_key_ring(host), host.bcrypt_cost, host.over_72_bytes),
        tokens=Tokens([secret for _, secret in app.secrets], 60 * app.access_token_minutes),
        accounts=Accounts(),
        attempts=Attempts(),
        hashing=Hashing(),
    )


def _engine(url: str) -> sa.Engine:
    address = connect(url).url  # as the library reads it, from any of the ways in which people write one
    # PostgreSQL statements are not prepared: a pooler may give every transaction another session.
    options = {"prepare_threshold": None} if address.get_backend_name() == "postgresql" else {}
    return sa.create_engine(address, hide_parameters=True, pool_pre_ping=True, connect_args=options)


def _key_ring(host: HostSettings) -> KeyRing | None:
    if not host.encryption_key:
        _log.warning("ENCRYPTION_KEY is not set: accounts that are not migrated yet cannot log in.")
        return None
    return KeyRing(named_keys(host.encryption_key, host.encryption_keys_old))


def _lifespan(
    authentication: Authentication, migrator: Migrator, startup: Startup
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with migrations_lifespan(startup)(app):
                yield
        finally:
            migrator.close()
            authentication.close()

    return lifespan
