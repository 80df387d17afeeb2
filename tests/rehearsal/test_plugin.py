"""The fixture `rehearse` as a team's own tests use it."""

from __future__ import annotations

import base64
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from system_migration import MigrationContext, MigrationResult, Registry, Settings
from system_migration.rehearsal.filled import FilledFiles
from system_migration.rehearsal.rehearsing import PROMISES
from system_migration.rehearsal.rehearsing import rehearse as run_rehearsal
from system_migration.testing import Rehearse
from tests.rehearsal import right, wrong
from tests.rehearsal.tables import BOOKINGS, PEOPLE, fill, metadata, person
from tests.support.databases import application_engine


def test_rows_of_a_declared_table_are_enough(rehearse: Rehearse) -> None:
    found = rehearse(right.Digits, rows=PEOPLE)
    assert (found.ok, found.first_broken) == (True, None)
    assert [promised.outcome for promised in found.promises] == [*["kept"] * 8, "not covered", "kept", "kept"]
    assert [promised.sentence for promised in found.promises[-2:]] == [
        "3 edited, 3 deleted, 3 added meanwhile.",  # in each of three batches
        "killed 6 times.",  # before and after the COMMIT of each
    ]


def test_what_it_requires_is_taken_to_be_done(rehearse: Rehearse) -> None:
    class Second(right.Touch):
        name = "002-right"
        requires = ("001-first",)

    assert rehearse(Second, rows={"person": PEOPLE}, tables=metadata).ok


def test_rows_that_are_too_few_are_told(rehearse: Rehearse) -> None:
    assert rehearse(right.Digits, rows=PEOPLE[:2]).not_covered == [
        "only 2 rows needed the change; give a dozen, each different, for batches with edges"
    ]


def test_it_fails_the_test_with_the_report(rehearse: Rehearse) -> None:
    with pytest.raises(pytest.fail.Exception) as failed:
        rehearse(wrong.ThisYear, rows=PEOPLE)
    report = str(failed.value)
    assert "broken       the same row, the same value: Its transform reads the clock" in report
    assert report.count("not tried") == 1
    assert "  not covered  8 further promises: not tried, for the one before it is broken" in report


@pytest.mark.parametrize("rows", [{"person": PEOPLE, "booking": BOOKINGS}, fill], ids=["by table", "function"])
def test_rows_may_be_those_of_several_tables(rehearse: Rehearse, rows: object) -> None:
    with pytest.raises(pytest.fail.Exception, match="It brings no verify"):
        rehearse(wrong.NoVerify, rows=rows, tables=metadata)  # type: ignore[arg-type]


def test_a_table_that_nobody_knows_is_named(rehearse: Rehearse) -> None:
    with pytest.raises(ValueError, match="rehearse does not know the columns of table 'person'"):
        rehearse(right.Prepares, rows=PEOPLE)


def test_a_database_is_copied_and_left_as_it_is(rehearse: Rehearse, tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'source.sqlite'}")
    with engine.begin() as connection:
        fill(connection)
    rehearse(right.Touch, engine=engine)
    with engine.connect() as connection:
        assert set(connection.scalars(sa.select(person.c.touched))) == {0}
        assert sa.inspect(connection).get_table_names() == ["booking", "journal", "person"]
    engine.dispose()


@pytest.mark.databases("postgresql", "mariadb")
def test_scratch_databases_are_made_on_a_server(rehearse: Rehearse, database_url: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="does not notice"):
        rehearse(wrong.ChecksTheFormOnly, rows=PEOPLE, database_url=database_url)
    engine = sa.create_engine(sa.make_url(database_url).set(drivername=_driver(database_url)))
    with engine.connect() as connection:
        kept = "SELECT datname FROM pg_database" if engine.dialect.name == "postgresql" else "SHOW DATABASES"
        assert not [name for name in connection.scalars(sa.text(kept)) if "_rehearsal_" in name]
    engine.dispose()


def _driver(url: str) -> str:
    return "postgresql+psycopg" if url.startswith("postgres") else "mysql+pymysql"


def test_the_test_of_the_page_passes(rehearse: Rehearse) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/test-a-migration.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": __name__}
    exec(page.split("```python\n")[1].partition("```")[0], names)
    names["test_digits"](rehearse)


def test_the_page_names_every_promise() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/test-a-migration.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[0].removeprefix("| ") for line in page.partition("## What it promises")[2].splitlines()]
    assert [row for row in rows if row in dict(PROMISES)] == [name for name, _ in PROMISES]


@pytest.mark.databases("postgresql", "mariadb")
def test_a_connection_to_the_real_server_is_refused_before_it_is_open(rehearse: Rehearse, database_url: str) -> None:
    real = application_engine(database_url)

    class AsksTheRealOne(right.Touch):
        def up(self, context: MigrationContext) -> MigrationResult:
            with real.connect() as connection:
                connection.execute(sa.text("CREATE TABLE got_through (id INTEGER)"))
                connection.commit()
            return super().up(context)

    with pytest.raises(pytest.fail.Exception, match="It opens a connection of its own"):
        rehearse(AsksTheRealOne, rows={}, tables=metadata, database_url=database_url)
    with real.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []


def test_nobody_is_told_of_rehearsed_runs(tmp_path: Path) -> None:
    def fill_engine(engine: sa.Engine) -> None:
        with engine.begin() as connection:
            fill(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        secret = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes ....").decode()
        settings = Settings(webhook_url=f"http://127.0.0.1:{listening.getsockname()[1]}/", webhook_secret=secret)
        copies = FilledFiles(tmp_path, fill_engine)
        found = run_rehearsal(Registry([wrong.NoVerify]), "001-wrong", copies, settings=settings)
        assert not found.ok
        assert select.select([listening], [], [], 0)[0] == []


def test_it_imports_nothing_until_it_is_used() -> None:
    asked = "import sys, system_migration.testing; print([m for m in sys.modules if m.startswith('sqlalchemy')])"
    heavy = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert heavy.stdout.strip() == "[]"


def test_no_cluster_is_sent_rehearsed_rows(tmp_path: Path) -> None:
    def fill_engine(engine: sa.Engine) -> None:
        with engine.begin() as connection:
            fill(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings = Settings(dask_scheduler=f"tcp://127.0.0.1:{listening.getsockname()[1]}")
        copies = FilledFiles(tmp_path, fill_engine)
        found = run_rehearsal(Registry([wrong.ChecksTheFormOnly]), "001-wrong", copies, settings=settings)
        assert found.first_broken is not None
        assert "does not notice" in found.first_broken.sentence
        assert select.select([listening], [], [], 0)[0] == []
