"""The hosts that browser tests look at: people log in, and the migration stops at its gates and ends well."""

from __future__ import annotations

import pytest

from tests.support.accounts import NAME
from tests.support.hosting import Accounts, serve_command, serve_host


@pytest.mark.databases("sqlite", "postgresql")
def test_the_host_serves_its_accounts_and_a_migration_that_stops_at_a_gate(accounts: Accounts) -> None:
    project = accounts.project
    with serve_host(project, {"GATES": "100"}) as host, host.client() as client:
        tokens = []
        for person, code in ((accounts.developers[0], 202), (accounts.user, 403)):
            body = {"username": person.username, "password": person.password}
            tokens.append(client.post("/auth/login", json=body).json()["accessToken"])
            headers = {"Authorization": f"Bearer {tokens[-1]}"}
            answer = client.post(f"/migration/run/{NAME}", params={"workers": 1, "batchSize": 20}, headers=headers)
            assert answer.status_code == code, answer.text
        project.wait_at("100", host.running)
        assert project.status(NAME)["status"] == "RUNNING"
        project.open("100")
        ended = project.run("run", "--wait", "--yes")
    shown = project.status(NAME)
    assert (shown["status"], shown["verified"]) == ("COMPLETED", True), ended


@pytest.mark.databases("sqlite")
def test_the_command_serves_the_same(accounts: Accounts) -> None:
    with serve_command(accounts.project) as (host, token), host.client() as client:
        assert client.get("/migration/status").status_code == 401
        shown = client.get("/migration/status", headers={"Authorization": f"Bearer {token}"}).json()
    assert [migration["name"] for migration in shown["migrations"]] == [NAME]
