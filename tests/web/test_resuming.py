"""What was started over HTTP and has no end is gone on with by the next server, as it was asked for."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from system_migration import Migration, MigrationContext, MigrationResult, Migrator, Registry, Settings
from tests.support.host import wait_for
from tests.web.serving import ONCE, PATIENCE, Increment, Mark, changes, gated, served, wait_until_ended

pytestmark = pytest.mark.databases("sqlite")
ONE_BY_ONE = {"batchSize": 1, "workers": 1}


class Last(Migration):
    """Comes after the increment."""

    name = "003-last"

    def up(self, context: MigrationContext) -> MigrationResult:
        return MigrationResult()


ALL = (Mark, Increment, Last)


def interrupt(engine: sa.Engine, path: str) -> str:
    """Start something over HTTP, and end its server while it stands in row 8 of the increment. The run's id."""
    with served(engine, *ALL) as server, server.client() as client, gated() as gate:
        client.post(path, params=ONE_BY_ONE)
        assert gate.reached.wait(PATIENCE)
        server.migrator.request_stop(15)
        gate.opened.set()
        found: str = client.get("/runs").json()["runs"][0]["id"]
    return found


def statuses(engine: sa.Engine) -> list[str]:
    with Migrator(engine, Registry(list(ALL)), Settings(environment="staging")) as looking:
        return [each.status for each in looking.status().migrations]


@pytest.mark.parametrize(("path", "last"), [("/run", "COMPLETED"), ("/run/002-increment", "PENDING")])
def test_as_much_is_done_as_was_asked_for(items: sa.Engine, path: str, last: str) -> None:
    run_id = interrupt(items, path)
    assert statuses(items)[1:] == ["RUNNING", "PENDING"]
    with served(items, *ALL) as server, server.client() as client:
        assert wait_until_ended(client, run_id)["state"] == "succeeded"
        wait_for(lambda: statuses(items)[2] == last, PATIENCE, "the last migration")
    assert statuses(items)[1:] == ["COMPLETED", last]
    assert changes(items) == ONCE


def test_a_run_that_the_command_line_took_over_is_its_own(items: sa.Engine) -> None:
    run_id = interrupt(items, "/run/002-increment")
    with Migrator(items, Registry(list(ALL)), Settings(environment="staging"), executed_by="cli") as other:
        with gated(row=15) as gate:
            gate.opened.set()
            other.run("002-increment")
        assert other.unfinished_from("rest") == []
    with served(items, *ALL) as server, server.client() as client:
        assert client.get(f"/runs/{run_id}").json()["state"] == "succeeded"
    assert changes(items) == ONCE
