"""`migration run --dask`: the password migration on a worker that has its key and no database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.support.accounts import KEY, NAME, create_table, insert, make, read
from tests.support.clusters import Cluster
from tests.support.command import Project
from tests.support.databases import application_engine

ACCOUNTS = 8
OWN = {"ENCRYPTION_KEY": KEY}
FOLDER = """
from system_migration import BatchMigration


class Plain(BatchMigration):
    name = "001-plain"
    table = "Account"
    reads = ("status",)
    writes = ("firstName",)

    def transform(self, row):
        return {"firstName": row.status.lower()}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as made:
        made.worker("left", OWN)
        yield made


@pytest.fixture
def accounts(sqlite_project: Project) -> Project:
    """Legacy accounts; the operator's shell knows the cluster from `DASK_SCHEDULER`."""
    engine = application_engine(sqlite_project.url)
    create_table(engine)
    insert(engine, [make(number, f"password {number}") for number in range(ACCOUNTS)])
    engine.dispose()
    sqlite_project.environ |= OWN | {"MIGRATIONS": "ante_backend.migrations"}
    return sqlite_project


def hashes(project: Project) -> dict[str, str]:
    engine = application_engine(project.url)
    found = {identity: row["passwordHash"] for identity, row in read(engine).items()}
    engine.dispose()
    return found


def test_the_password_migration_on_a_cluster(cluster: Cluster, accounts: Project) -> None:
    ended = accounts.run("run", NAME, "--yes", "--dask", cluster.address, "--json")
    (report,) = ended.document["reports"]
    assert (report["status"], report["verified"], report["recordsProcessed"]) == ("COMPLETED", True, ACCOUNTS)
    assert "1 worker: left" in ended.err
    for number in (0, ACCOUNTS - 1):
        stored = hashes(accounts)[f"account-{number:05}"]
        assert bcrypt.checkpw(f"password {number}".encode(), stored.encode())
    said = cluster.said()
    assert KEY not in said
    assert "password 1" not in said


def test_a_worker_without_the_key_is_named_and_nothing_is_written(cluster: Cluster, accounts: Project) -> None:
    cluster.worker("bare")
    cluster.wait_for_workers(2)
    env = {"DASK_SCHEDULER": cluster.address}
    ended = accounts.run("dry-run", NAME, code=5, env=env)
    assert "Worker bare cannot work for this run: " in ended.said
    ended = accounts.run("run", NAME, "--yes", code=5, env=env)
    assert "Worker bare cannot work for this run: " in ended.err
    assert "ENCRYPTION_KEY" in ended.err
    assert "Nothing was started; mend or stop it, or start without --dask." in ended.err
    assert "passwordHash" not in str(accounts.sql("SELECT sql FROM sqlite_master WHERE name = 'Account'"))
    cluster.kill("bare")


def test_a_folder_must_be_in_the_same_place_there(cluster: Cluster, accounts: Project, tmp_path: Path) -> None:
    path = accounts.write("001_plain", FOLDER)
    env = {"MIGRATIONS": "migrations", "DASK_SCHEDULER": cluster.address}
    accounts.run("run", "001-plain", "--yes", env=env)
    assert accounts.sql('SELECT DISTINCT "firstName" FROM "Account"') == [("active",)]
    assert path.is_file()


def test_two_ways_out_of_the_process_exclude_each_other(accounts: Project) -> None:
    ended = accounts.run("run", NAME, "--yes", "--dask", "tcp://127.0.0.1:1", "--processes", "2", code=2)
    assert "--dask and --processes exclude each other" in ended.err
