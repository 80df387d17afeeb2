"""The HTTP side of the library. Each name is imported when it is first used: not every host has FastAPI.

`app.include_router(create_router(migrator, require_developer=developer), prefix="/migration")` mounts the API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from system_migration.web.dashboard.router import create_dashboard as create_dashboard
    from system_migration.web.handlers import install_problem_handlers as install_problem_handlers
    from system_migration.web.health import create_health_router as create_health_router
    from system_migration.web.lifespan import migrations_lifespan as migrations_lifespan
    from system_migration.web.openapi import problem_responses as problem_responses
    from system_migration.web.problems import ProblemRoute as ProblemRoute
    from system_migration.web.problems import problem_response as problem_response
    from system_migration.web.router import create_router as create_router
    from system_migration.web.session_cookie import SessionCookie as SessionCookie
    from system_migration.web.sign_in import SignInField as SignInField
    from system_migration.web.sign_in import create_sign_in_router as create_sign_in_router
    from system_migration.web.waiting import HoldUntilReady as HoldUntilReady

_HOMES = {
    "HoldUntilReady": "waiting",
    "ProblemRoute": "problems",
    "SessionCookie": "session_cookie",
    "SignInField": "sign_in",
    "create_dashboard": "dashboard.router",
    "create_health_router": "health",
    "create_router": "router",
    "create_sign_in_router": "sign_in",
    "install_problem_handlers": "handlers",
    "migrations_lifespan": "lifespan",
    "problem_response": "problems",
    "problem_responses": "openapi",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
