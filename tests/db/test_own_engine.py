"""The library's connections beside the host's: made the same way, and in nobody's way."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from system_migration import Migrator, Registry, Settings
from tests.support.databases import KINDS, MakeDatabaseUrl, application_engine


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_done_at_the_first_connection_is_done_for_the_host(
    kind: str, make_database_url: MakeDatabaseUrl
) -> None:
    """However late it comes: its dialect is set up with its own connection, and its listeners hear of theirs."""
    host = application_engine(make_database_url(kind))
    heard: list[str] = []

    def hear(*_: Any) -> None:
        heard.append("each")

    def hear_once(*_: Any) -> None:
        heard.append("first")

    event.listen(host, "connect", hear)
    event.listen(host, "connect", hear_once, once=True)
    with Migrator(host, Registry([]), Settings(environment="test")) as migrator:
        migrator.status()
        assert set(heard) == {"each"}
        with host.connect() as connection:
            assert heard[-2:] == ["each", "first"]
            assert connection.dialect.server_version_info is not None
            assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    host.dispose()
