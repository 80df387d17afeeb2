"""Twelve processes start the same work at once: exactly one does it."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.support.command import Ended, Project, Running, wait_until
from tests.support.workload import prepare

STARTERS = 12

BARRIER = """
import os

import gate

from system_migration import BatchMigration


class Barrier(BatchMigration):
    name = "001-barrier"
    table = "item"
    reads = ("origin", "y")
    writes = ("y",)

    def setup_worker(self):
        with open("executed", "a") as file:
            file.write(f"{os.getpid()}\\n")
        gate.stop("all are there")

    def transform(self, row):
        return {"y": row.y + 1}

    def check(self, row):
        return row.y == row.origin + 1
"""
NOTHING = "Nothing to do: no migration is pending.\n"


def executed_by(project: Project) -> set[int]:
    """The processes whose workers were set up."""
    path = project.folder / "executed"
    return {int(line) for line in path.read_text().split()} if path.exists() else set()


def assert_once(project: Project, winner: Running) -> None:
    """One process did it all, the history holds one run, and a latecomer finds nothing."""
    assert executed_by(project) == {winner.process.pid}
    assert project.sql("SELECT count(*), min(y - origin), max(y - origin) FROM item") == [(20, 1, 1)]
    assert [(run["kind"], run["outcome"]) for run in project.json("history")] == [("run", "succeeded")]
    assert project.run("run").out == NOTHING


def start_all(project: Project, stack: ExitStack, *options: str) -> list[Running]:
    prepare(project, ("001_barrier", BARRIER))
    arguments = ("run", "--workers", "1", *options)
    return [
        stack.enter_context(project.start(*arguments, "--executed-by", f"starter {number}"))
        for number in range(STARTERS)
    ]


@pytest.mark.databases("sqlite", "postgresql")
def test_one_executes_and_eleven_exit_4_and_name_the_runner(project: Project) -> None:
    with ExitStack() as stack:
        starters = start_all(project, stack)
        wait_until(lambda: sum(starter.going for starter in starters) <= 1, "eleven to give up")
        (winner,) = [starter for starter in starters if starter.going] or starters[:1]
        project.wait_at("all are there", winner)
        project.open("all are there")
        first = winner.end()
        others: list[Ended] = [starter.end() for starter in starters if starter is not winner]
    assert first.code == 0, first
    name = f"is being run by starter {starters.index(winner)} on "
    for other in others:
        assert (other.code, name in other.err) == (4, True), other
    assert_once(project, winner)


@pytest.mark.databases("sqlite", "postgresql")
def test_with_wait_eleven_wait_for_the_one_and_exit_0(project: Project) -> None:
    with ExitStack() as stack:
        starters = start_all(project, stack, "--wait")

        def waiting() -> list[Running]:
            return [starter for starter in starters if "is being run by starter" in starter.err()]

        wait_until(lambda: len(waiting()) == STARTERS - 1 or not any(s.going for s in starters), "eleven to wait")
        assert all(starter.going for starter in starters), [str(s.end()) for s in starters if not s.going]
        (winner,) = [starter for starter in starters if starter not in waiting()]
        project.open("all are there")
        ended = {starter: starter.end() for starter in starters}
    assert {each.code for each in ended.values()} == {0}, [str(each) for each in ended.values() if each.code]
    assert "COMPLETED" in ended.pop(winner).out
    assert {each.out for each in ended.values()} == {NOTHING}
    assert_once(project, winner)
