"""A migration put through everything that a night can bring, one promise after the other, cheapest first."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from system_migration.migration import Migration, MigrationResult
from system_migration.registry import Registry
from system_migration.rehearsal import (
    again,
    completing,
    connections,
    damage,
    going_back,
    killing,
    live_writer,
    looking_first,
    sameness,
    swallowing,
)
from system_migration.rehearsal.copies import Copies
from system_migration.rehearsal.report import BROKEN, NOT_TRIED, NotCovered, Outcome, Promised, Rehearsal
from system_migration.rehearsal.stage import Stage
from system_migration.settings import Settings
from system_migration.wording import counted

ENVIRONMENT = "rehearsal"
FEWEST_ROWS = 6

PROMISES: tuple[tuple[str, Callable[[Stage], Outcome]], ...] = (
    ("no connection of its own", connections.no_own_connection),
    ("a dry run changes nothing", looking_first.dry_run_changes_nothing),
    ("the same row, the same value", sameness.same_row_same_value),
    ("a run completes, as declared", completing.completes_as_declared),
    ("running again changes nothing", again.nothing_is_left),
    ("the same in other batches", sameness.same_in_other_batches),
    ("no error is swallowed", swallowing.errors_surface),
    ("verification notices damage", damage.verify_notices),
    ("rolled back, as it was", going_back.rolls_back),
    ("nothing that is written meanwhile is lost", live_writer.nothing_is_lost),
    ("killed at every edge, resumed exactly", killing.survives_kills),
)
"""In the order in which they are tried: each may rest on what those before it left on the stage."""


def _quiet(_: str) -> None:
    """For who wants no progress."""


def rehearse(
    registry: Registry,
    name: str,
    copies: Copies,
    *,
    settings: Settings | None = None,
    progress: Callable[[str], None] = _quiet,
) -> Rehearsal:
    """Try every promise on scratch databases until one is broken. `progress` is told the name of each.

    Only the scratch databases are written to, and each is removed before this returns or raises. What the migration
    itself raises is a broken promise; an error here is one of the database's or of ours.
    """
    began = time.monotonic()
    stage = Stage(registry, registry[name].name, copies, _alone(settings or Settings()))
    tried: list[Promised] = []
    with _silence(), stage.opened(), connections.watched(stage) as watch:
        for promise, keeps in PROMISES:
            progress(promise)
            found = keeps(stage)
            tried.append(Promised.of(promise, watch.outcome() or found))
            if tried[-1].outcome == BROKEN:
                break
    missed = [Promised.of(promise, NotCovered(NOT_TRIED)) for promise, _ in PROMISES[len(tried) :]]
    broken = next((promised for promised in tried if promised.outcome == BROKEN), None)
    return Rehearsal(
        name=stage.name,
        ok=broken is None,
        promises=[*tried, *missed],
        not_covered=[*copies.not_covered, *_too_few(stage)],
        seconds=time.monotonic() - began,
        first_broken=broken,
    )


def _alone(settings: Settings) -> Settings:
    """Nobody is told by webhook of what a rehearsed run comes to, and no cluster is sent its rows."""
    return replace(settings, environment=ENVIRONMENT, webhook_url=None, webhook_secret=None, dask_scheduler=None)


def _too_few(stage: Stage) -> list[str]:
    """Rows that are too few for batches to have edges, and neighbours."""
    rows = stage.dry_run.rows if stage.dry_run is not None else None
    if stage.batches is None or rows is None or rows >= FEWEST_ROWS:
        return []
    return [f"only {counted(rows, 'row')} needed the change; give a dozen, each different, for batches with edges"]


@contextmanager
def _silence() -> Iterator[None]:
    """Failures that are meant to happen are no news for whoever reads the log."""
    logger = logging.getLogger("system_migration")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def registry_for(migration: type[Migration]) -> Registry:
    """A registry of one migration. What it requires is taken to be there: stand-ins, which a rehearsal skips."""
    if migration.requires_schema is not None:
        as_it_is = {"__module__": migration.__module__, "__qualname__": migration.__qualname__}
        migration = type(migration.__name__, (migration,), {**as_it_is, "requires_schema": None})
    return Registry([*(_stand_in(name, migration.__module__) for name in migration.requires), migration])


def _stand_in(name: str, module: str) -> type[Migration]:
    body = {"__module__": module, "name": name, "up": lambda self, context: MigrationResult()}  # no class of ours
    return type("StandIn", (Migration,), body)
