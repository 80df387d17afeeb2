"""Going on, after a restart, with the runs that were started over HTTP and have no end.

What such a start asked for is in its run's own record, so any later process can repeat it. A run whose process was
killed still has a lease: it is waited for until that is over. One that another process works on is left to it.
"""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.concurrency import run_in_threadpool

from system_migration.migrator import Migrator
from system_migration.records import Unfinished
from system_migration.states import RunKind
from system_migration.web.refusals import RunGoing
from system_migration.web.starts import DOOR, Starts, Wanted

_log = logging.getLogger("system_migration.web")
_LEASES = 1.5
"""A dead process's lease is over, grace included, before this many of its length."""


async def resume_unfinished(migrator: Migrator, starts: Starts) -> None:
    """Start what an earlier process left unfinished, as soon as it may be; return when nothing is left to wait for."""
    lease = migrator.settings.lease_seconds
    until = time.monotonic() + _LEASES * lease
    pause = min(2.0, lease / 10)
    while True:
        try:
            found = await run_in_threadpool(migrator.unfinished_from, DOOR)
            if not found:
                return
            for each in found:
                if each.stale:
                    await run_in_threadpool(_begin, starts, each)
                    until = time.monotonic() + _LEASES * lease  # another one may have to wait for this one's end
        except RunGoing:
            pass
        except Exception as error:  # the database is away: the server serves, and this is tried again
            _log.warning("resuming: %s", type(error).__name__, extra={"action": "web.resume"})
        if time.monotonic() > until:
            return
        await asyncio.sleep(pause)


def _begin(starts: Starts, unfinished: Unfinished) -> None:
    verb = "rollback" if unfinished.kind is RunKind.ROLLBACK else "run"
    name = unfinished.name if unfinished.start.named else None
    starts.begin(Wanted(verb, name, unfinished.start.options), unfinished.start.actor)
    _log.info("resumed %s", unfinished.name, extra={"action": "web.resume", "migration": unfinished.name})
