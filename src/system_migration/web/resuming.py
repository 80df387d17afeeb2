"""Going on, after a restart, with the runs that were started over HTTP and have no end.

What such a start asked for is in its run's own record, so any later process can repeat it. A run whose process was
killed still has a lease: it is waited for until that is over. One that another process works on is left to it, and
looked after until it has ended: that process may stop first, as in a rolling update.
"""

from __future__ import annotations

import asyncio
import logging

from starlette.concurrency import run_in_threadpool

from system_migration.errors import Interrupted
from system_migration.migrator import Migrator
from system_migration.records import Unfinished
from system_migration.startup_plan import passes, words
from system_migration.states import RunKind
from system_migration.web.refusals import RunGoing
from system_migration.web.starts import DOORS, REST, Job, Starts, Wanted, wait_for

_log = logging.getLogger("system_migration.web")
_LONGEST_PAUSE = 10.0
"""It is looked this often, or three times in a lease that is shorter, while such a run is unfinished."""


class Resuming:
    """Goes on with what earlier processes left unfinished, one run after the other.

    A run is tried once. Only where it was going elsewhere, or the database was away, is it tried again: whatever else
    ended it would end it again, and each try stands in the record.
    """

    def __init__(self, migrator: Migrator, starts: Starts) -> None:
        self._migrator, self._starts = migrator, starts
        self._pause = min(_LONGEST_PAUSE, migrator.settings.lease_seconds / 3)
        self._tried: set[str] = set()
        self._said = ""

    async def resume(self) -> None:
        """Return when nothing that may be tried is unfinished, or when the process is to stop."""
        going = True
        while going:
            try:
                found = await run_in_threadpool(self._unfinished)
                if stale := next((each for each in found if each.stale), None):
                    await self._go_on_with(stale)
                    continue  # another one may have waited for this one's end
                going = bool(found)
            except Interrupted:
                return
            except RunGoing:
                pass
            except Exception as error:  # the database is away: the server serves, and this is tried again
                self._say_once(f"Unfinished runs are looked for again. {words(error)}")
            if going:
                await asyncio.sleep(self._pause)

    def _unfinished(self) -> list[Unfinished]:
        return [each for each in self._migrator.unfinished_from(*DOORS) if each.run_id not in self._tried]

    async def _go_on_with(self, unfinished: Unfinished) -> None:
        """Repeat its start, and wait for its end. Raises what does not speak against trying it again."""
        job = await run_in_threadpool(self._begin, unfinished)
        await wait_for(job.done)
        error = job.done.exception()
        if error is not None and (passes(error) or isinstance(error, Interrupted)):
            raise error
        self._tried.add(unfinished.run_id)
        if error is not None:
            self._say_once(f"{words(error)} This process does not start it again.")

    def _begin(self, unfinished: Unfinished) -> Job:
        verb = "rollback" if unfinished.kind is RunKind.ROLLBACK else "run"
        start = unfinished.start
        wanted = Wanted(verb, unfinished.name if start.named else None, start.options)
        job = self._starts.begin(wanted, start.actor, door=start.door or REST)
        _log.info("resumed %s", unfinished.name, extra={"action": "web.resume", "migration": unfinished.name})
        return job

    def _say_once(self, sentence: str) -> None:
        if sentence != self._said:
            _log.warning("%s", sentence, extra={"action": "web.resume"})
        self._said = sentence
