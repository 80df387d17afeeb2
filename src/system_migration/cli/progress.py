"""How far a run is, for the person who watches stderr: a bar on a terminal, plain lines elsewhere.

Both are told from any thread, as often as the run likes, and draw only now and then.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from system_migration import wording
from system_migration.cli import output
from system_migration.migration import Progress, SilentProgress
from system_migration.wording import counted, duration, speed

if TYPE_CHECKING:
    from rich.progress import TaskID

Clock = Callable[[], float]

LINE_SECONDS = 5.0
BAR_SECONDS = 0.1
SAMPLE_SECONDS = 0.5
WINDOW_SAMPLES = 60  # half a minute


class Watcher(Progress, Protocol):
    """A `Progress` that draws, steps aside for a question, and is closed at the end."""

    def paused(self) -> contextlib.AbstractContextManager[None]: ...
    def close(self) -> None: ...


def watcher_for(stream: TextIO | None) -> Watcher:
    """A bar when `stream` is a terminal that can move its cursor, lines when it is anything else."""
    if stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return BarWatcher()
    return LineWatcher()


class Pace:
    """How fast rows finish, over the last half minute: a resumed run does not count what was done before."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=WINDOW_SAMPLES)
        self._latest = (0.0, 0)

    def add(self, now: float, done: int) -> None:
        """At `now`, `done` rows were finished in all."""
        self._latest = (now, done)
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_SECONDS:
            self._samples.append(self._latest)

    def rate(self) -> float | None:
        """Rows a second, or None while nothing can be said."""
        if not self._samples:
            return None
        seconds, rows = (new - old for new, old in zip(self._latest, self._samples[0], strict=True))
        return rows / seconds if seconds >= SAMPLE_SECONDS and rows > 0 else None


class State:
    """What the run told last."""

    def __init__(self) -> None:
        self.migration = self.phase = ""
        self.begin("", "")

    def begin(self, migration: str, phase: str) -> None:
        self.migration, self.phase = migration, phase
        self.done, self.total, self.held = 0, None, 0
        self.reason: str | None = None
        self.pace = Pace()

    staff: str | None = None
    done: int
    total: int | None
    held: int

    def update(self, now: float, done: int, total: int | None, held: int) -> None:
        self.done, self.total, self.held, self.reason = done, total, held, None
        self.pace.add(now, done)

    def title(self) -> str:
        return f"{wording.shown(self.migration)}  {wording.shown(self.phase)}"

    def detail(self) -> str:
        """`120/200 rows  36 rows/s  2 s left  3 held`: what is known of it."""
        known = f"{self.done:,}/{self.total:,} rows" if self.total is not None else counted(self.done, "row")
        parts = [known]
        if rate := self.pace.rate():
            parts.append(speed(rate))
            if self.total is not None and self.total > self.done:
                parts.append(f"{duration((self.total - self.done) / rate)} left")
        if self.held:
            parts.append(f"{self.held:,} held")
        if self.staff:
            parts.append(wording.shown(self.staff))
        if self.reason:
            parts.append(f"waiting: {wording.shown(self.reason)}")
        return "  ".join(parts)


class LineWatcher(SilentProgress):
    """A line at every new phase, then one at most every five seconds."""

    def __init__(self, write: Callable[[str], None] = output.notice, clock: Clock = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._state, self._lock = State(), threading.Lock()
        self._next = 0.0

    def phase(self, migration: str, phase: str) -> None:
        with self._lock:
            self._state.begin(migration, phase)
            self._next = self._clock() + LINE_SECONDS
            self._write(self._state.title())

    def rows(self, done: int, total: int | None, held: int) -> None:
        with self._lock:
            now = self._clock()
            self._state.update(now, done, total, held)
            if now >= self._next:
                self._next = now + LINE_SECONDS
                self._write(f"{self._state.title()}  {self._state.detail()}")

    def waiting(self, reason: str) -> None:
        with self._lock:
            now = self._clock()
            if reason != self._state.reason or now >= self._next:
                self._next = now + LINE_SECONDS
                self._state.reason = reason
                self._write(f"{self._state.title()}  waiting: {wording.shown(reason)}".strip())

    def staff(self, text: str) -> None:
        """Which workers of a cluster work from now on: a line at once."""
        with self._lock:
            self._state.staff = text
            self._write(f"{self._state.title()}  {wording.shown(text)}")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        yield

    def close(self) -> None:
        """Nothing is left to draw."""


class BarWatcher(SilentProgress):
    """A bar that is redrawn in place and leaves nothing behind. Imports rich when the first phase begins."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._state, self._lock = State(), threading.Lock()
        self._next = 0.0
        self._bar: Any = None
        self._task: TaskID | None = None

    def phase(self, migration: str, phase: str) -> None:
        with self._lock:
            self._state.begin(migration, phase)
            self._draw(afresh=True)

    def rows(self, done: int, total: int | None, held: int) -> None:
        with self._lock:
            now = self._clock()
            self._state.update(now, done, total, held)
            if now >= self._next or done == total:
                self._next = now + BAR_SECONDS
                self._draw()

    def waiting(self, reason: str) -> None:
        with self._lock:
            self._state.reason = reason
            self._draw()

    def staff(self, text: str) -> None:
        """Which workers of a cluster work from now on."""
        with self._lock:
            self._state.staff = text
            self._draw()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self.close()
        yield

    def close(self) -> None:
        """Take the bar off the screen; the next report draws a new one."""
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
                self._bar = self._task = None

    def _draw(self, *, afresh: bool = False) -> None:
        if self._bar is None:
            self._bar = _rich_bar()
            self._bar.start()
        if afresh and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        if self._task is None:
            self._task = self._bar.add_task("", total=None, detail="")
        state = self._state
        told = state.done or state.total is not None or state.reason
        self._bar.update(
            self._task,
            description=state.title(),
            total=state.total,
            completed=state.done,
            detail=state.detail() if told else "",
        )


def _rich_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[detail]}", markup=False),
        console=Console(stderr=True, highlight=False),
        transient=True,
    )
