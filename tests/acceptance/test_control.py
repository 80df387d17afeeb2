"""An operator at a second terminal: pause, cancel and resume a run that another process makes."""

from __future__ import annotations

import time

import pytest

from system_migration.running.requests import EVERY_SECONDS
from tests.support.command import Project
from tests.support.workload import INCREMENT, ONCE, increments, prepare

NAME = "002-increment"
RUN = ("run", "--batch-size", "1", "--workers", "1", "--executed-by", "anna")


def open_when_a_look_is_due(project: Project, stood: float) -> None:
    """Let the runner go on that stood at the gate at this time: it looked before, and looks again after its batch."""
    time.sleep(max(0.0, stood + EVERY_SECONDS - time.monotonic()))
    project.open("transform")


def test_a_run_is_paused_from_elsewhere_and_resumed_exactly(project: Project) -> None:
    prepare(project, ("002_increment", INCREMENT), open_gate=False)
    with project.start(*RUN) as running:
        project.wait_at("transform", running)
        stood = time.monotonic()
        told = project.run("pause", NAME, "--executed-by", "ada")
        assert told.out.startswith(f"{NAME} was asked to pause; its runner obeys within a batch. If it died")
        assert "RUNNING (pause asked for by ada" in project.run("status").out
        open_when_a_look_is_due(project, stood)
        ended = running.end()
    assert ended.code == 1
    assert f"Migration {NAME} paused: ada asked for it. Go on with `migration resume {NAME}`." in ended.err
    assert project.status(NAME)["status"] == "PAUSED"
    assert project.run("run", code=1).err.startswith(f"migration: Migration {NAME} paused: ada asked for it.")
    assert "COMPLETED" in project.run("resume", NAME).out
    assert increments(project) == ONCE
    assert [run["outcome"] for run in project.json("history", NAME)] == ["succeeded", "paused"]
    assert sum(batch["changed"] for batch in project.json("history", NAME, "--batches", "--limit", "1000")) == 19


def test_a_cancelled_run_is_left_alone_until_it_is_named(project: Project) -> None:
    prepare(project, ("002_increment", INCREMENT), open_gate=False)
    with project.start(*RUN) as running:
        project.wait_at("transform", running)
        stood = time.monotonic()
        project.run("cancel", NAME, "--executed-by", "ada")
        open_when_a_look_is_due(project, stood)
        ended = running.end()
    assert ended.code == 1
    assert f"Migration {NAME} was cancelled by ada." in ended.err
    assert "FAILED (cancelled by ada)" in project.run("status").out
    assert project.run("run").out == "Nothing to do: no migration is pending.\n"
    assert project.run("status", "--check", code=3).out.endswith(
        f"Half-done, and waiting for you to name it: {NAME}.\n"
    )
    project.run("run", NAME)
    assert increments(project) == ONCE


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_killed_runner_keeps_nobody_from_deciding(sqlite_project: Project, verb: str) -> None:
    project = sqlite_project
    prepare(project, ("002_increment", INCREMENT), open_gate=False)
    with project.start(*RUN, env={"MIGRATION_LEASE_SECONDS": "1"}) as running:
        project.wait_at("transform", running)
        running.kill()
    project.open("transform")
    said = ""
    for _ in range(20):  # each takes a while, and the lease ends in one second and a sixth
        said = project.run(verb, NAME, "--executed-by", "ada").out
        if "is now" in said:
            break
    assert said == f"{NAME} is now {'PAUSED' if verb == 'pause' else 'FAILED'}.\n"
    project.run("run", NAME)
    assert increments(project) == ONCE


def test_what_cannot_be_asked_exits_with_5(sqlite_project: Project) -> None:
    prepare(sqlite_project, ("002_increment", INCREMENT))
    sqlite_project.run("run")
    for verb, words in (
        ("pause", "is COMPLETED; nothing runs that could be paused."),
        ("cancel", "is COMPLETED; nothing runs that could be cancelled."),
        ("resume", "is COMPLETED, not PAUSED."),
    ):
        assert words in sqlite_project.run(verb, NAME, code=5).err
