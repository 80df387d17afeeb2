"""The same change of the same rows by everybody, beside one UPDATE in the same run."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa

from benchmarks import databases
from benchmarks.contestants import (
    BATCH,
    ONE_UPDATE,
    Arena,
    Contestant,
    one_update,
    one_update_by_function,
    ours,
    sqlalchemy_executemany,
)
from benchmarks.django_peer import BATCH as DJANGO_BATCH
from benchmarks.django_peer import bulk_update
from benchmarks.hand_written import guarded_loop
from benchmarks.harness import Timing, heading, judged, note, row, sentence
from benchmarks.plan import Plan
from benchmarks.workload import NUMERIC, TEXT, AddOne, Change, RotateInPython, RotateInSql, fill_source, fresh_table
from benchmarks.workload import wrong_rows as count_wrong_rows
from system_migration import connect
from tests.support.host import BinaryMissing

ROWS = 200_000
TWO_WORKERS = "transform, 2 workers"
ONE_WORKER = "transform, 1 worker"  # what a run chooses where only one can write
EXECUTEMANY = f"SQLAlchemy executemany, {BATCH:,} at a time"
DJANGO = f"Django bulk_update, {DJANGO_BATCH:,} at a time"

_GOALS: Mapping[tuple[str, str], float] = {
    ("postgresql", TWO_WORKERS): 0.9,
    ("postgresql", "assign"): 0.85,
    ("mariadb", TWO_WORKERS): 0.5,
    ("sqlite", ONE_WORKER): 0.45,
}
# How many times as fast as a peer we claim to be.
_FACTORS: Mapping[str, tuple[tuple[str, float], ...]] = {
    "postgresql": ((DJANGO, 15.0),),
    "mariadb": ((EXECUTEMANY, 5.0),),
}

Result = Timing | str  # an error in a sentence stands for the time


class RowsWrong(Exception):
    """A contestant ended without an error, and left rows that do not hold the right value."""


def measure(plan: Plan) -> Iterator[str]:
    """A table for each database, and one for a type whose guard compares in Python."""
    rows = plan.rows(ROWS)
    yield (
        f"{rows:,} rows, a bigint key and a text of about 30 characters; each moves its first character to its end. "
        "Every contestant gets a table of its own, freshly filled, analysed and written to disk; the order is random, "
        "the best round counts, and every row is compared afterwards. Ratio: speed, with one UPDATE as 1."
    )
    for kind in plan.databases:
        try:
            yield from _tables(kind, rows, plan.only)
        except BinaryMissing as missing:
            yield ""
            yield f"**{kind} not measured**: {missing}"


def _tables(kind: str, rows: int, only: str) -> Iterator[str]:
    with databases.database(kind) as url:
        chosen = [each for each in contestants(kind) if each.name == ONE_UPDATE or only in each.name]
        yield from _table(kind, url, TEXT, rows, chosen)
    if kind != "postgresql" or only not in TWO_WORKERS:
        return
    yield ""
    yield "The same for an unconstrained numeric column, whose equality in SQL is not exact:"
    rereading = Contestant(TWO_WORKERS, ours(AddOne, workers=2), goal=0.6)
    with databases.database(kind) as url:
        yield from _table(kind, url, NUMERIC, rows, [Contestant(ONE_UPDATE, one_update), rereading])


def contestants(kind: str) -> list[Contestant]:
    """Everybody who can run on this kind of database. One UPDATE, the measure of all, comes first."""
    yardstick = one_update_by_function if kind == "sqlite" else one_update
    found = [Contestant(ONE_UPDATE, yardstick)]
    if kind == "sqlite":
        found = [Contestant(ONE_UPDATE, yardstick), Contestant("one UPDATE without a Python function", one_update)]
    for workers in (1, 2, 4):
        name = f"transform, {workers} worker{'s' if workers > 1 else ''}"
        found.append(Contestant(name, ours(RotateInPython, workers=workers), goal=_GOALS.get((kind, name))))
    found.append(Contestant("assign", ours(RotateInSql), goal=_GOALS.get((kind, "assign"))))
    found.append(Contestant(f"hand-written guarded loop, {BATCH:,} at a time", guarded_loop, rounds=1))
    found.append(Contestant(EXECUTEMANY, sqlalchemy_executemany, rounds=1))
    if kind != "sqlite":
        found.append(Contestant(DJANGO, bulk_update, rounds=1))
    return found


def _table(kind: str, url: str, change: Change, rows: int, everybody: Sequence[Contestant]) -> Iterator[str]:
    engine = connect(url)
    try:
        fill_source(engine, change, rows)
        yield ""
        yield databases.title(kind, engine)
        yield ""
        results = compete(engine, Arena(kind, url, change), rows, everybody)
    finally:
        engine.dispose()
    yield from heading("contestant", "seconds", "rows/s", "ratio", "goal", "whole run, s")
    unit = results[ONE_UPDATE]
    for contestant in everybody:
        yield _line(contestant, results[contestant.name], unit, rows)
    yield from _factors(kind, results)


def compete(engine: sa.Engine, arena: Arena, rows: int, everybody: Sequence[Contestant]) -> dict[str, Result]:
    """The best round of each contestant; one that fails is out, with its reason, and the others go on."""
    rounds = [contestant for contestant in everybody for _ in range(contestant.rounds)]
    random.shuffle(rounds)
    results: dict[str, Result] = {}
    for contestant in rounds:
        before = results.get(contestant.name)
        if isinstance(before, str):
            continue
        result = _round(engine, arena, rows, contestant)
        best = isinstance(before, Timing) and isinstance(result, Timing) and before.seconds <= result.seconds
        results[contestant.name] = before if best and before is not None else result
        told = f"{result.seconds:.2f} s" if isinstance(result, Timing) else f"failed: {result}"
        note(f"{arena.kind}: {contestant.name}: {told}")
    return results


def _round(engine: sa.Engine, arena: Arena, rows: int, contestant: Contestant) -> Result:
    try:
        fresh_table(engine, arena.change)
        gc.collect()
        timing = contestant.run(arena)
        if wrong := count_wrong_rows(engine, arena.change, rows):
            raise RowsWrong(f"{wrong:,} of {rows:,} rows do not hold the right value afterwards")
    except Exception as error:  # whatever it was: it is this contestant's result
        return sentence(error)
    return timing


def _line(contestant: Contestant, result: Result, unit: Result, rows: int) -> str:
    if isinstance(result, str):
        return row([contestant.name, f"**failed**: {result}", "", "", "", ""])
    ratio = unit.seconds / result.seconds if isinstance(unit, Timing) else None
    return row(
        [
            contestant.name,
            f"{result.seconds:.2f}",
            f"{rows / result.seconds:,.0f}",
            "" if ratio is None else f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.3f}",
            judged(ratio, contestant.goal) if ratio is not None and contestant.goal is not None else "",
            "" if result.whole is None else f"{result.whole:.2f}",
        ]
    )


def _factors(kind: str, results: Mapping[str, Result]) -> Iterator[str]:
    mine = results.get(TWO_WORKERS)
    for peer, goal in _FACTORS.get(kind, ()):
        theirs = results.get(peer)
        if isinstance(mine, Timing) and isinstance(theirs, Timing):
            factor = theirs.seconds / mine.seconds
            yield ""
            yield f"{TWO_WORKERS}: {factor:.1f} times as fast as {peer} ({judged(factor, goal)})"
