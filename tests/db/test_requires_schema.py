"""A migration that waits for a schema revision does not start before Alembic has applied it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine

from system_migration import ConfigurationError, Migrator, Refused, Registry, Settings, Startup
from system_migration import startup as startup_module
from system_migration.cli.text import listed_lines, shown_lines, status_lines
from system_migration.errors import VerificationFailed, WaitsForSchema
from system_migration.startup_plan import Stage
from system_migration.states import Status
from system_migration.store import leases
from system_migration.wording import next_step
from tests.db.test_workbench import Fill, Increment, make_numbers, quick, rows_of
from tests.support.alembic import Schema
from tests.support.host import wait_for
from tests.web.serving import served

REASON = "schema revision second, the database is at first"


class Later(Fill):
    name = "002-later"
    requires_schema = "second"
    fails: ClassVar[bool] = False

    def check(self, row: Any) -> bool:
        return not self.fails


class Last(Increment):
    name = "003-last"


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    made = Schema(tmp_path_factory.mktemp("schema"))
    for name, after in (("first", "base"), ("second", "first"), ("third", "second")):
        made.add(name, after)
    return made


@pytest.fixture
def migrator(engine: Engine, schema: Schema) -> Iterator[Migrator]:
    """Three migrations on a database at the first revision; the second of them waits for the second one."""
    make_numbers(engine, 5)
    schema.upgrade(engine, "first")
    with on(engine, schema) as made:
        yield made


def on(engine: Engine, schema: Schema, **more: Any) -> Migrator:
    settings = Settings(**{"environment": "test", "alembic_config": str(schema.ini)} | more)
    return Migrator(quick(engine), Registry([Increment, Later, Last]), settings)


def test_nothing_starts_before_the_revision_and_all_does_after_it(
    migrator: Migrator, engine: Engine, schema: Schema
) -> None:
    with pytest.raises(WaitsForSchema) as refused:
        migrator.run()
    assert str(refused.value) == f"Migration 002-later waits for {REASON}. Run `alembic upgrade`, then start it again."
    assert [report.name for report in refused.value.reports] == ["001-increment"]  # type: ignore[attr-defined]
    assert rows_of(engine, "SELECT count(*) FROM number WHERE z IS NOT NULL OR y <> id + 1") == [(0,)]

    [dry] = migrator.dry_run("002-later")
    assert dry.refusal == str(refused.value)
    assert (dry.examined, dry.rows) == (0, None)

    schema.upgrade(engine, "third")
    assert [report.status for report in migrator.run()] == [Status.COMPLETED] * 2
    assert migrator.status().migrations[1].waits_for_schema is None


def test_every_view_says_what_it_waits_for(migrator: Migrator) -> None:
    report = migrator.status()
    assert [m.waits_for_schema for m in report.migrations] == [None, REASON, None]
    assert next_step(report) == "`migration run` would start 001-increment; 002-later waits for schema revision second."
    lines = [" ".join(line.split()) for line in status_lines(report)]
    assert any(line.startswith("002-later PENDING (waits for schema revision second)") for line in lines)
    assert f"002-later waits for {REASON}." in lines
    assert f"It waits for {REASON}." in shown_lines(migrator.show("002-later"))
    assert "(after schema revision second)" in listed_lines(migrator.list())[2]
    assert migrator.show("002-later").status.waits_for_schema == REASON


def test_the_doctor_looks_at_no_table_that_is_not_ready(migrator: Migrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Later, "writes", ("not_there_yet",))
    [found] = [each for each in migrator.doctor() if each.subject.startswith("002-later")]
    assert (found.level, found.message) == ("warning", f"Waits for {REASON}. `alembic upgrade` applies it.")


def test_a_database_without_alembic_is_said_to_be_one(engine: Engine, schema: Schema) -> None:
    make_numbers(engine, 1)
    with on(engine, schema) as migrator, pytest.raises(Refused, match="the database has no table alembic_version"):
        migrator.run("002-later")


def test_a_refused_start_begins_nothing_and_keeps_nobody_waiting(migrator: Migrator, engine: Engine) -> None:
    with pytest.raises(WaitsForSchema):
        migrator.run("002-later")
    with engine.connect() as connection:
        assert leases.holder(connection, "test", "002-later") is None
    assert migrator.history("002-later") == []


def test_what_was_begun_does_not_go_on_where_the_revision_was_taken_back(
    migrator: Migrator, engine: Engine, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.upgrade(engine, "second")
    monkeypatch.setattr(Later, "fails", True)
    with pytest.raises(VerificationFailed):
        migrator.run("002-later")
    monkeypatch.setattr(Later, "fails", False)
    schema.downgrade(engine, "first")
    with pytest.raises(WaitsForSchema):
        migrator.run("002-later")
    assert migrator.show("002-later").status.status is Status.FAILED
    schema.upgrade(engine, "second")
    assert [report.status for report in migrator.run("002-later")] == [Status.COMPLETED]


@pytest.mark.databases("sqlite")
def test_a_start_runs_what_comes_before_waits_and_goes_on_by_itself(
    migrator: Migrator, engine: Engine, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_LOOK_SECONDS", "_FOLLOW_SECONDS", "_GLANCE_SECONDS"):
        monkeypatch.setattr(startup_module, name, 0.05)
    settings = {"run_on_startup": True, "auto_migrate": True}
    with on(engine, schema, **settings) as starting:
        startup = Startup(starting)
        startup.begin()
        try:
            wait_for(lambda: startup.state().stage is Stage.PENDING, 20, "the start to wait")
            assert startup.state().sentence == (
                f"002-later waits for {REASON}. Nothing after it is started; when `alembic upgrade` has applied the "
                "revision, it goes on."
            )
            assert [m.status for m in migrator.status().migrations] == [Status.COMPLETED, *[Status.PENDING] * 2]
            schema.upgrade(engine, "second")
            wait_for(lambda: startup.state().stage is Stage.DONE, 20, "the start to end")
        finally:
            startup.stop()
    assert rows_of(engine, "SELECT count(*) FROM number WHERE z IS NULL") == [(0,)]


@pytest.mark.databases("sqlite")
def test_whoever_asks_over_http_reads_the_same(engine: Engine, schema: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    make_numbers(engine, 1)
    schema.upgrade(engine, "first")
    monkeypatch.chdir(schema.ini.parent)
    with served(engine, Later) as server, server.client() as client:
        [seen] = client.get("/status").json()["migrations"]
        assert seen["waitsForSchema"] == REASON
        assert client.get("/list").json()[0]["requiresSchema"] == "second"
        answer = client.post("/run/002-later")
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:system-migration:refused")
        assert REASON in answer.json()["detail"]
        schema.upgrade(engine, "third")
        assert client.post("/run/002-later", params={"wait": 20}).json()["run"]["outcome"] == "succeeded"


@pytest.mark.databases("sqlite")
def test_scripts_that_do_not_load_keep_nobody_from_looking(engine: Engine, tmp_path: Path) -> None:
    broken = Schema(tmp_path)
    broken.add("first")
    make_numbers(engine, 5)
    broken.upgrade(engine, "first")
    script = tmp_path / "alembic" / "versions" / "broken.py"
    script.write_text(f"with open({str(tmp_path / 'read')!r}, 'a') as f:\n    f.write('x')\nimport nothing_there")
    said = "schema revision second, of which nothing is known: Alembic's scripts cannot be read with"
    with on(engine, broken) as migrator:
        status = migrator.show("002-later").status
        assert status.waits_for_schema is not None
        assert status.waits_for_schema.startswith(said)
        assert [each.waits_for_schema is None for each in migrator.status().migrations] == [True, False, True]
        assert [each for each in migrator.doctor() if each.level == "warning" and said in each.message]
        assert (tmp_path / "read").read_text() == "x"  # once, however often it is looked at
        with pytest.raises(ConfigurationError, match="Alembic's scripts cannot be read"):
            migrator.run("002-later")
        assert migrator.run("001-increment")[0].status is Status.COMPLETED
