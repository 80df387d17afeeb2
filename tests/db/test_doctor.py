"""`doctor` looks at everything a run depends on, says what to do, and writes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from system_migration import MigrationFailed, Migrator, Registry, Row, RowIssue, Settings, connect
from system_migration.records import Finding
from system_migration.store import tables
from tests.db.test_workbench import Fill, Increment, execute, fingerprint, make_numbers, migrator, quick


def found(doctor: Migrator) -> dict[str, tuple[str, str]]:
    findings: list[Finding] = doctor.doctor()
    assert len({finding.subject for finding in findings}) == len(findings)
    return {finding.subject: (finding.level, finding.message) for finding in findings}


def test_all_is_well_before_and_after_the_first_write(engine: Engine) -> None:
    make_numbers(engine, 1)
    before = fingerprint(engine, but=set())
    findings = found(migrator(engine, Increment))
    assert {level for level, _ in findings.values()} == {"ok"}
    assert set(findings) == {"connection", "settings", "tables", "environment"}
    assert "answers." in findings["connection"][1]
    assert fingerprint(engine, but=set()) == before

    migrator(engine, Increment).run()
    before = fingerprint(engine, but=set())
    findings = found(migrator(engine, Increment))
    assert {level for level, _ in findings.values()} == {"ok"}
    assert findings["environment"][1] == "The database belongs to 'test'."
    assert fingerprint(engine, but=set()) == before


def test_another_environment_is_a_problem(engine: Engine) -> None:
    migrator(engine, Increment, environment="production").init()
    level, message = found(migrator(engine, Increment, environment="staging"))["environment"]
    assert level == "problem"
    assert "belongs to environment 'production', not 'staging'" in message


def test_newer_tables_are_a_problem(engine: Engine) -> None:
    migrator(engine, Increment).init()
    execute(engine, "UPDATE system_migration_meta SET schema_version = :newer", newer=tables.SCHEMA_VERSION + 1)
    level, message = found(migrator(engine, Increment))["environment"]
    assert (level, "Upgrade system-migration" in message) == ("problem", True)


def test_failed_and_abandoned_runs_are_named(engine: Engine) -> None:
    class Holding(Fill):
        def transform(self, row: Row) -> dict[str, Any]:
            raise RowIssue("held")

    class Abandoned(Increment):
        name = "002-abandoned"

        def transform(self, row: Row) -> dict[str, Any]:
            raise KeyboardInterrupt

    make_numbers(engine, 1)
    both = migrator(engine, Holding, Abandoned)
    with pytest.raises(MigrationFailed):
        both.run("001-fill")
    with pytest.raises(KeyboardInterrupt):
        both.run("002-abandoned")
    findings = found(both)
    assert findings["001-fill"][0] == "warning"
    assert findings["001-fill"][1].startswith("FAILED: ")
    assert findings["002-abandoned"] == ("warning", "RUNNING, but its runner is gone. `migration run` takes over.")


@pytest.mark.databases("sqlite")
def test_a_read_only_database_is_a_problem(engine: Engine) -> None:
    make_numbers(engine, 1)
    read_only = connect(f"sqlite:///file:{engine.url.database}?mode=ro&uri=true", create=True)
    with Migrator(read_only, Registry([Increment]), Settings(environment="test")) as doctor:
        assert found(doctor)["rights"][0] == "problem"
    read_only.dispose()


@pytest.mark.databases("postgresql", "mariadb")
def test_a_database_that_does_not_answer_is_a_problem_and_no_traceback(engine: Engine) -> None:
    elsewhere = quick(create_engine(engine.url.set(database="no_such_database", password="sesame")))
    with Migrator(elsewhere, Registry([Increment]), Settings(environment="test")) as doctor:
        (finding,) = doctor.doctor()
    assert (finding.level, finding.subject) == ("problem", "connection")
    assert "Check DATABASE_URL" in finding.message
    assert "sesame" not in finding.message


@pytest.mark.databases("mariadb")
def test_a_connection_that_counts_changed_rows_only_is_a_problem(engine: Engine) -> None:
    from pymysql.constants import CLIENT

    def without_found_rows(_dialect: Any, _record: Any, _args: Any, options: dict[str, Any]) -> None:
        options["client_flag"] = options.get("client_flag", 0) & ~CLIENT.FOUND_ROWS

    from sqlalchemy import event

    wrong = quick(create_engine(engine.url))
    event.listen(wrong, "do_connect", without_found_rows)
    make_numbers(engine, 1)
    with Migrator(wrong, Registry([Increment]), Settings(environment="test")) as doctor:
        assert "FOUND_ROWS is off" in found(doctor)["settings"][1]


@pytest.mark.databases("postgresql")
def test_a_missing_right_is_a_problem_with_its_remedy(engine: Engine) -> None:
    migrator(engine, Increment).init()
    role = f"role_{engine.url.database}"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"))
    plain = create_engine(engine.url.set(username=role))
    try:
        with Migrator(plain, Registry([Increment]), Settings(environment="test")) as doctor:
            level, message = found(doctor)["tables"]
        assert level == "problem"
        assert "permission denied" in message
        assert "`migration init --sql`" in message
    finally:
        execute(engine, f"DROP OWNED BY {role}")
        execute(engine, f"DROP ROLE {role}")
