"""The promise that a run may be killed at any edge of a batch: resumed, it comes to the same end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from system_migration.rehearsal.children import CAN_FORK, run_in_child
from system_migration.rehearsal.edges import AFTER, BEFORE, watch_edges
from system_migration.rehearsal.naming import keys_of, where
from system_migration.rehearsal.report import Broken, Kept, NotCovered, Outcome
from system_migration.rehearsal.stage import Scratch, Stage
from system_migration.wording import counted

MOST_KILLS = 24
Die = Callable[[Any], None]


def survives_kills(stage: Stage) -> Outcome:
    """Kill it in turn before and after its next COMMIT, resume it, kill it again, until it comes to its end."""
    if not CAN_FORK:
        return NotCovered("this system cannot fork a process to be killed.")
    with stage.fresh() as scratch:
        killed: list[str] = []
        while len(killed) <= MOST_KILLS:
            moment = (BEFORE, AFTER, None)[2 if len(killed) == MOST_KILLS else len(killed) % 2]
            ending = _run_killed(scratch, moment)
            if "killed" not in ending:
                break
            killed.append(ending["killed"])
            scratch.bury_runner()
        return _judge(stage, scratch, killed, ending)


def _run_killed(scratch: Scratch, moment: str | None) -> dict[str, Any]:
    """Run in a child that dies at the first such moment; None for no such."""
    scratch.migrator.close()
    scratch.engine.dispose()  # nothing open that a child could inherit

    def work(die: Die) -> Any:
        def at_edge(edge: str) -> None:
            if edge == moment:
                die(edge)

        watch_edges(scratch.database, at_edge)
        return scratch.run().records_processed

    return run_in_child(work)


def _judge(stage: Stage, scratch: Scratch, killed: list[str], ending: dict[str, Any]) -> Outcome:
    times = f"Killed {len(killed)} times at the edges of its batches" if len(killed) > 1 else f"Killed {BEFORE}"
    if "error" in ending:
        last = f", the last time {killed[-1]}" if killed else ""
        return Broken(f"{times}{last}, it could not be resumed: {ending['error']}")
    if not killed:
        return Kept("nothing was written, so there was no edge to be killed at.")
    changed = stage.differences(stage.after, scratch.snapshot())
    if changed:
        return Broken(
            f"{times} and resumed, it made something else of {where(changed)} than an undisturbed run: not every row "
            "was changed exactly once.",
            keys_of(changed),
        )
    if ending["done"] != stage.report.records_processed:
        return Broken(f"{times} and resumed, it counted {ending['done']} rows, not {stage.report.records_processed}.")
    return Kept(f"killed {counted(len(killed), 'time')}.")
