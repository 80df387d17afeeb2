"""The audit chain over HTTP and on the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from system_migration.auditing import verify_file
from tests.support.chains import KEY
from tests.web.screens import words
from tests.web.serving import Mark, Served, served


@pytest.fixture
def server(items: sa.Engine) -> Iterator[Served]:
    with served(items, Mark) as server:
        server.migrator.settings = replace(server.migrator.settings, audit_key=KEY)
        server.migrator._database.signer = KEY
        yield server


def test_the_chain_is_checked_and_exported(server: Served, tmp_path) -> None:
    with server.client() as client:
        assert client.post("/run/001-mark", params={"wait": 30}).status_code == 200
        verdict = client.get("/audit/verify").json()
        assert (verdict["intact"], verdict["broken"], verdict["key"]) == (True, None, KEY.id)
        assert verdict["position"] == verdict["head"] == verdict["signed"] > 2
        (tmp_path / "export.jsonl").write_text(client.get("/audit/export").text)
    assert verify_file(server.migrator.settings, str(tmp_path / "export.jsonl")).position == verdict["position"]


def test_the_page_checks_when_asked_and_tells_the_broken_link(server: Served, items: sa.Engine) -> None:
    with server.browser() as client:
        server.migrator.run("001-mark")
        page = client.get("/history/audit")
        assert "The audit chain" not in words(page.text)
        assert 'href="/migrations/history/audit?check=true"' in page.text
        assert "The audit chain holds up to event" in words(client.get("/history/audit?check=true").text)
        with items.begin() as connection:
            connection.exec_driver_sql("UPDATE system_migration_event SET actor = '<b>eve' WHERE action = 'completed'")
        told = client.get("/history/audit?check=true").text
        assert "The audit chain is broken." in words(told)
        assert "<b>eve" not in told
