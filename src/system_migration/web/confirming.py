"""In production a start must name the environment, as the command line asks for it."""

from __future__ import annotations

from system_migration.settings import PRODUCTION
from system_migration.web.refusals import NotConfirmed


def check_confirmed(environment: str, confirm: str | None) -> None:
    """Raise `NotConfirmed` in production without the environment's name, and anywhere with another one's."""
    if confirm is None and environment == PRODUCTION:
        raise NotConfirmed(f"Nothing was started: in {environment} a start needs confirm={environment}.")
    if confirm is not None and confirm != environment:
        raise NotConfirmed(f"Nothing was started: this is {environment!r}, and `confirm` names another environment.")
