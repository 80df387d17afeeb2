"""The REST API: a router for a FastAPI application, with every verb of `Migrator` behind the host's own login.

app.include_router(create_router(migrator, require_developer=developer), prefix="/migration")
"""

from __future__ import annotations

from system_migration.web.problems import install_problem_handlers, problem_response
from system_migration.web.router import create_router

__all__ = ["create_router", "install_problem_handlers", "problem_response"]
