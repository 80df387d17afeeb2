"""`migration run --processes`: a file of a folder in processes, signals to all of them, and nobody left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import Project, Running, wait_until
from tests.support.workload import INCREMENT, ONCE, increments, prepare

ARGUMENTS = ("run", "--batch-size", "5", "--processes", "2")
SHORT_LEASE = {"MIGRATION_LEASE_SECONDS": "0.5"}
UNPREPARED = INCREMENT.replace(
    "    def transform",
    "    def setup_worker(self):\n        raise SystemExit('no key')\n\n    def transform",
)


def workers(running: Running) -> list[int]:
    """The children of a run, whichever of its threads started them."""
    found = Path(f"/proc/{running.process.pid}/task").glob("*/children")
    return [int(pid) for file in found for pid in file.read_text().split()]


def at_work(project: Project, arguments: tuple[str, ...], act: Callable[[Running, list[int]], None]) -> list[int]:
    """Start a run, act when a worker stands in row 8, and wait for its end. Returns what its processes were."""
    with project.start(*arguments, env=SHORT_LEASE) as running:
        project.wait_at("transform", running)
        pids = workers(running)
        assert len(pids) == 2
        act(running, pids)
        running.end()
    return pids


def all_gone(pids: list[int]) -> None:
    wait_until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids), "the workers to end", 30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_every_process_ends_at_a_clean_checkpoint(sqlite_project: Project, number: signal.Signals) -> None:
    """As a terminal sends Ctrl-C, and a supervisor SIGTERM."""
    prepare(sqlite_project, ("002_increment", INCREMENT), open_gate=False)

    def stop(running: Running, pids: list[int]) -> None:
        for pid in pids:
            os.kill(pid, number)
        running.signal(number)
        running.wait_for("stopping after the batch in flight")
        sqlite_project.open("transform")
        ended = running.end()
        assert ended.code == 128 + number
        assert "another worker" not in ended.err

    all_gone(at_work(sqlite_project, ARGUMENTS, stop))
    sqlite_project.run(*ARGUMENTS)
    assert increments(sqlite_project) == ONCE


def test_no_process_outlives_a_run_that_is_killed(sqlite_project: Project) -> None:
    prepare(sqlite_project, ("002_increment", INCREMENT), open_gate=False)
    all_gone(at_work(sqlite_project, ARGUMENTS, lambda running, pids: running.process.kill()))
    sqlite_project.open("transform")
    sqlite_project.run(*ARGUMENTS, "--wait", env=SHORT_LEASE)
    assert increments(sqlite_project) == ONCE


def test_a_worker_that_cannot_be_prepared_is_one_sentence(sqlite_project: Project) -> None:
    prepare(sqlite_project, ("002_increment", UNPREPARED))
    ended = sqlite_project.run(*ARGUMENTS, code=1)
    assert "a worker process could not be prepared: setup_worker: SystemExit raised at 002_increment.py:" in ended.err
    assert "worker.py" not in ended.err
    assert "no key" not in ended.said
