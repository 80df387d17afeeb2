"""Several who act through one migrator: each under a name of its own, all ended by one stop."""

from __future__ import annotations

import signal

import pytest
import sqlalchemy as sa

from system_migration import Migration, MigrationContext, MigrationResult, Migrator, Registry, Settings
from system_migration.errors import Interrupted


class Nothing(Migration):
    name = "001-nothing"

    def up(self, context: MigrationContext) -> MigrationResult:
        return MigrationResult()


def test_who_acts_is_on_the_record_and_the_other_keeps_its_name(engine: sa.Engine) -> None:
    with Migrator(engine, Registry([Nothing]), Settings(environment="staging"), executed_by="host") as migrator:
        migrator.acting_as("account 7").skip("001-nothing", "not here")
        migrator.reset("001-nothing", "after all")
        events = {event.action: event.actor for event in migrator.show("001-nothing").events}
    assert (events["skipped"], events["reset"]) == ("account 7", "host")


def test_a_stop_ends_everyone(engine: sa.Engine) -> None:
    with Migrator(engine, Registry([Nothing]), Settings(environment="staging")) as migrator:
        other = migrator.acting_as("account 7")
        migrator.request_stop(signal.SIGTERM)
        with pytest.raises(Interrupted):
            other.run()
