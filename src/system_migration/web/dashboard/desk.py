"""What every screen works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from system_migration.errors import UnknownMigration
from system_migration.migrator import Migrator
from system_migration.records import MigrationStatus, StatusReport
from system_migration.web.dashboard import said
from system_migration.web.dashboard.csrf import FormTokens
from system_migration.web.dashboard.pages import Pages
from system_migration.web.following import Poller
from system_migration.web.starts import Starts

HIDDEN = ("token", "request", "seen", "confirm")
"""The fields of a form that nobody types, or has to type anew each time."""


@dataclass(frozen=True)
class Desk:
    """The migrator that the screens show and steer, and how they are rendered."""

    migrator: Migrator
    starts: Starts
    poller: Poller
    pages: Pages
    tokens: FormTokens
    sign_in: str | None

    def answer(self, request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """A screen for the developer of this request. May ask the database for the environment's name, once."""
        return self._answer(request, template, status, self.migrator.environment, context)

    def failure(self, request: Request, template: str, status: int, **context: Any) -> HTMLResponse:
        """The same for what went wrong, which may be the database: the environment is told where it is known."""
        try:
            environment = self.migrator.environment
        except Exception:  # what went wrong is being told already
            environment = ""
        return self._answer(request, template, status, environment, context)

    def _answer(
        self, request: Request, template: str, status: int, environment: str, context: Mapping[str, Any]
    ) -> HTMLResponse:
        token = self.tokens.issue(developer_of(request))
        told = said.sentence(request.query_params.get(said.NAME))
        return self.pages.answer(request, template, status, environment=environment, token=token, told=told, **context)


def status_in(report: StatusReport, name: str) -> MigrationStatus:
    """Where one migration stands. Raises `UnknownMigration`."""
    found = next((m for m in report.migrations if m.name == name), None)
    if found is None:
        raise UnknownMigration(name, ())
    return found


def developer_of(request: Request) -> str:
    """In whose name the request acts; empty before that was asked."""
    return str(getattr(request.state, "developer", ""))
