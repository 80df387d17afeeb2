"""Event streams of runs: any number of listeners over one poller, which asks the database once a tick for all of them.

Nothing is asked while nobody listens. What is new of a run is read once for all who have seen the same so far. A
stream holds no thread. It ends after a while, so that a client who comes back with its Last-Event-ID shows its rights
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from anyio import CapacityLimiter, to_thread

from system_migration.migrator import Migrator
from system_migration.records import Event, Followed, LogLine, as_json
from system_migration.web.refusals import InvalidRequest

TICK_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
STREAM_SECONDS = 900.0
PULSE_SECONDS = 1.0
"""What a runner says of itself wakes the listeners this often at the most, where nothing else is new."""
_PAGE = 500
_PAGES_KEPT = 16
"""Pages that a channel keeps: those for who is up to date, and for some who come back. Others are read again."""
_RETRY = b"retry: 2000\n\n"
_HEARTBEAT = b": still here\n\n"
_log = logging.getLogger("system_migration.web")
_T = TypeVar("_T")


class Cursor(NamedTuple):
    """What a listener has seen: the ids of the last log line and the last event, and whether also the end."""

    line: int = 0
    event: int = 0
    end: bool = False

    def __str__(self) -> str:
        return f"{self.line}.{self.event}" + (".end" if self.end else "")


def parse_cursor(text: str | None) -> Cursor:
    """The cursor of a Last-Event-ID. Raises `InvalidRequest` for what never was one of ours."""
    if not text:
        return Cursor()
    found = re.fullmatch(r"(\d{1,18})\.(\d{1,18})(\.end)?", text, re.ASCII)
    if found is None:
        raise InvalidRequest("Last-Event-ID is not an id of this stream. Leave it out to see everything.")
    return Cursor(int(found[1]), int(found[2]), bool(found[3]))


@dataclass(frozen=True)
class Entry:
    """One thing that happened in a run, and the cursor of who has seen it."""

    cursor: Cursor
    record: LogLine | Event

    def message(self) -> bytes:
        kind = "log" if isinstance(self.record, LogLine) else "event"
        return _message(kind, self.cursor, as_json(self.record))


def _message(kind: str, cursor: Cursor, document: Any) -> bytes:
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return f"id: {cursor}\nevent: {kind}\ndata: {data}\n\n".encode()


class Channel:
    """One run that somebody listens to."""

    def __init__(self, view: Followed) -> None:
        self.view, self.listeners = view, 0
        self.turn = asyncio.Event()
        self.pages: dict[Cursor, asyncio.Task[list[Entry]]] = {}
        self._woken = float("-inf")

    def update(self, view: Followed, moment: float) -> None:
        """Wake the listeners if something is new, at this `moment` (monotonic seconds)."""
        if view == self.view:
            return
        if replace(view, pulse=self.view.pulse) == self.view and moment < self._woken + PULSE_SECONDS:
            return  # it is seen again, and newer, at the next tick
        self._woken = moment
        if (view.last_line, view.last_event) != (self.view.last_line, self.view.last_event):
            self.pages.clear()
        self.view = view
        self.wake()

    def keep(self, seen: Cursor, page: asyncio.Task[list[Entry]]) -> None:
        """Keep a page for whoever has seen the same, and of all pages the newest."""
        self.pages[seen] = page
        if len(self.pages) > _PAGES_KEPT:
            del self.pages[next(iter(self.pages))]  # who waits for it has it in hand

    def wake(self) -> None:
        turn, self.turn = self.turn, asyncio.Event()
        turn.set()


class Poller:
    """The one poller of a process. `close()` ends all streams."""

    def __init__(self, migrator: Migrator, tick: float = TICK_SECONDS) -> None:
        self._migrator, self._tick = migrator, tick
        self._channels: dict[str, Channel] = {}
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._limiter: CapacityLimiter | None = None
        self._closed = False

    def close(self) -> None:
        """End all streams, and start no more. Safe from a signal handler and from any thread."""
        self._closed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_all)

    @property
    def closed(self) -> bool:
        """Whether all streams are to end."""
        return self._closed

    async def look(self, run_id: str, find: Callable[[Migrator, str], Followed]) -> Followed:
        """What `find` finds of a run before it is listened to; if somebody listens, what was seen last."""
        if channel := self._channels.get(run_id):
            return channel.view
        return await self._ask(lambda: find(self._migrator, run_id))

    def _wake_all(self) -> None:
        for channel in self._channels.values():
            channel.wake()

    async def stream(self, view: Followed, seen: Cursor) -> AsyncIterator[bytes]:
        """What happens in a run from behind the cursor on, as the bytes of an event stream, until the run ends."""
        try:
            with self._listening(view) as channel:
                yield _RETRY
                async for message in self._messages(channel, seen):
                    yield message
        except Exception as error:  # the answer has begun, so all that can be said is that it is over: ask again
            _log.warning("an event stream ended: %s", type(error).__name__, extra={"action": "web.follow"})

    async def _messages(self, channel: Channel, seen: Cursor) -> AsyncIterator[bytes]:
        until = time.monotonic() + STREAM_SECONDS
        told: Followed | None = None
        while not self._closed and time.monotonic() < until:
            turn, view = channel.turn, channel.view
            while entries := await self._entries(channel, view, seen):
                for entry in entries:
                    yield entry.message()
                seen = entries[-1].cursor
            if view.ended:
                yield _message("end", seen._replace(end=True), as_json(view))
                return
            if view != told:
                yield _message("state", seen, as_json(view))
                told = view
            try:
                await asyncio.wait_for(turn.wait(), min(HEARTBEAT_SECONDS, until - time.monotonic()))
            except TimeoutError:
                yield _HEARTBEAT

    @contextlib.contextmanager
    def _listening(self, view: Followed) -> Any:
        self._loop = asyncio.get_running_loop()
        channel = self._channels.setdefault(view.run.id, Channel(view))
        channel.listeners += 1
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._poll())
        try:
            yield channel
        finally:
            channel.listeners -= 1
            if channel.listeners == 0:
                self._channels.pop(view.run.id, None)

    async def _poll(self) -> None:
        failing = False
        while self._channels and not self._closed:
            try:
                views = await self._ask(lambda: self._migrator.follow(list(self._channels)))
                failing = False
            except Exception as error:  # the database is away: the streams stay, and go on when it is back
                if not failing:
                    _log.warning("following runs: %s", type(error).__name__, extra={"action": "web.follow"})
                failing, views = True, []
            for view in views:
                if channel := self._channels.get(view.run.id):
                    channel.update(view, time.monotonic())
            await asyncio.sleep(self._tick)

    async def _entries(self, channel: Channel, view: Followed, seen: Cursor) -> list[Entry]:
        """A page of what is new after the cursor; read once for all listeners that have seen the same."""
        if seen.line >= view.last_line and seen.event >= view.last_event:
            return []
        page = channel.pages.get(seen)
        if page is None:
            page = asyncio.ensure_future(self._ask(lambda: self._read(view, seen)))
            channel.keep(seen, page)
        try:
            return await asyncio.shield(page)  # one listener that leaves must not take it from the others
        except Exception:
            channel.pages.pop(seen, None)  # the next one tries again
            raise

    def _read(self, view: Followed, seen: Cursor) -> list[Entry]:
        run = view.run
        lines: list[LogLine | Event] = []
        events: list[LogLine | Event] = []
        if seen.line < view.last_line:
            lines += self._migrator.lines_after(run.id, seen.line, limit=_PAGE)
        if seen.event < view.last_event:
            events += self._migrator.events_after(run, seen.event, limit=_PAGE)
        entries = []
        for record in heapq.merge(lines, events, key=lambda each: each.at):
            line, event = (record.id, seen.event) if isinstance(record, LogLine) else (seen.line, record.id)
            seen = Cursor(line, event)
            entries.append(Entry(seen, record))
        return entries

    async def _ask(self, question: Callable[[], _T]) -> _T:
        """Ask the database in a thread; one at a time, so that streams never take the threads of the handlers."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(1)
        return await to_thread.run_sync(question, limiter=self._limiter)
