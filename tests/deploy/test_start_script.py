"""deploy/start.sh as whoever supervises it sees it: one process from the first moment to the server's last."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.deploy.conftest import ROOT
from tests.support.command import COMMAND, Project, Running, make_project, wait_until
from tests.support.host import free_port
from tests.support.serving import Backend
from tests.support.workload import INCREMENT, increments, prepare

START = ROOT / "deploy/start.sh"
SEVERAL_BATCHES = 1500


@pytest.fixture
def project(tmp_path: Path, sqlite_url: str) -> Project:
    """A host with migrations of its own, so that a test can stop them."""
    project = make_project(tmp_path / "project", sqlite_url)
    project.environ |= {
        "MIGRATIONS": str(project.folder / "migrations"),
        "MIGRATION_ENVIRONMENT": "production",
        "PYTHONPATH": f"{project.folder}:{os.environ.get('PYTHONPATH', '')}",
        "PATH": f"{COMMAND.parent}:{project.environ['PATH']}",
        "AUTH_SECRET": "a secret for tokens, of tests only",
        "PORT": str(free_port()),
    }
    return project


@pytest.fixture
def server(project: Project) -> Iterator[Backend]:
    with closing(Backend(int(project.environ["PORT"]))) as backend:
        yield backend


def come_up(running: Running, server: Backend) -> None:
    wait_until(lambda: server.is_live() or not running.going, "the server to answer")
    assert running.going, running.end()


def test_where_only_a_person_can_help_the_server_answers_and_serves_when_they_have(
    project: Project, server: Backend
) -> None:
    strict = INCREMENT.replace("    max_issues = 1", "    max_issues = 0\n    blocks_startup = True")
    prepare(project, ("002_increment", strict))
    project.run("run", "--yes", code=1)  # of row 13
    with project.start(program=START) as running:
        come_up(running, server)
        server.come_to((503, "attention"))
        project.run("run", "002-increment", "--yes", "--max-issues", "1")
        server.come_to((200, "done"))
        server.close()


def test_a_signal_while_it_migrates_ends_the_run_at_a_clean_checkpoint_and_the_next_start_goes_on_and_serves(
    project: Project, server: Backend
) -> None:
    prepare(project, ("002_increment", INCREMENT), rows=SEVERAL_BATCHES, open_gate=False)
    with project.start(program=START) as running:
        project.wait_at("transform", running)
        running.signal(signal.SIGTERM)
        running.wait_for("stopping after the batch in flight")
        project.open("transform")
        assert running.end().code == 143
    assert project.sql("SELECT released FROM system_migration_lease") == [(1,)]
    assert 0 < sum(increments(project).values()) < SEVERAL_BATCHES - 1

    with project.start(program=START) as running:
        come_up(running, server)
        assert set(increments(project).values()) == {0, 1}
        server.come_to((200, "done"))
        variables = Path(f"/proc/{running.process.pid}/environ").read_bytes().split(b"\0")
        assert b"AUTO_MIGRATE=false" in variables  # of the same process, which starts nothing by itself any more
        assert [name for name in variables if name.startswith(b"ALLOW_PRODUCTION")] == []
        server.close()
        running.signal(signal.SIGTERM)
        assert running.end().code == -signal.SIGTERM
