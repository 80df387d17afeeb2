"""Progress as plain lines under a fake clock, and the bar on a terminal that is a string."""

from __future__ import annotations

import io
import threading

import pytest

from system_migration.cli.progress import BarWatcher, LineWatcher, Pace, watcher_for
from system_migration.wording import duration

NAME = "001-password-bcrypt"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def watcher(clock, lines) -> LineWatcher:
    return LineWatcher(lines.append, clock)


def test_a_line_at_every_phase_and_then_every_five_seconds(watcher, clock, lines) -> None:
    watcher.phase(NAME, "preflight")
    watcher.phase(NAME, "migrating")
    assert lines == [f"{NAME}  preflight", f"{NAME}  migrating"]
    lines.clear()
    for done in range(361):
        watcher.rows(done, 400, 3 if done > 100 else 0)
        clock.now += 1 / 36
    assert lines == [
        f"{NAME}  migrating  180/400 rows  36 rows/s  6.1 s left  3 held",
        f"{NAME}  migrating  360/400 rows  36 rows/s  1.1 s left  3 held",
    ]


def test_a_resumed_run_is_not_credited_with_earlier_rows(watcher, clock, lines) -> None:
    watcher.phase(NAME, "migrating")
    watcher.rows(1_000_000, 1_000_100, 0)
    clock.now += 10
    watcher.rows(1_000_050, 1_000_100, 0)
    assert lines[-1] == f"{NAME}  migrating  1,000,050/1,000,100 rows  5.0 rows/s  10 s left"


def test_an_unknown_total_and_a_standstill(watcher, clock, lines) -> None:
    watcher.phase(NAME, "preflight")
    clock.now += 5
    watcher.rows(1, None, 0)
    clock.now += 5
    watcher.rows(1, None, 0)
    assert lines[1:] == [f"{NAME}  preflight  1 row", f"{NAME}  preflight  1 row"]


def test_waiting_is_said_once_and_repeated_slowly(watcher, clock, lines) -> None:
    watcher.waiting("another runner holds the lease")
    watcher.waiting("another runner holds the lease")
    clock.now += 5
    watcher.waiting("another runner holds the lease")
    watcher.waiting("a health check\x1b")
    assert lines == [
        "waiting: another runner holds the lease",
        "waiting: another runner holds the lease",
        "waiting: a health check\\x1b",
    ]


def test_who_works_in_a_cluster_is_said_at_once_and_with_every_line(watcher, clock, lines) -> None:
    watcher.phase(NAME, "migrating")
    watcher.staff("2 workers: a, b")
    assert lines[-1] == f"{NAME}  migrating  2 workers: a, b"
    watcher.staff("1 worker: b; 1 lost")
    clock.now += 6
    watcher.rows(3, 400, 0)
    assert lines[-1] == f"{NAME}  migrating  3/400 rows  1 worker: b; 1 lost"


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    for second in range(60):
        pace.add(second, second * 1000)
    for second in range(60, 160):
        pace.add(second, 60_000 + (second - 60))
    assert pace.rate() == pytest.approx(1)


def test_rows_may_be_told_from_many_threads(watcher, clock, lines) -> None:
    watcher.phase(NAME, "migrating")

    def work() -> None:
        for done in range(2000):
            watcher.rows(done, 2000, 0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lines == [f"{NAME}  migrating"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_everything_else_lines(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(watcher_for(Terminal()), BarWatcher)
    assert isinstance(watcher_for(io.StringIO()), LineWatcher)
    assert isinstance(watcher_for(None), LineWatcher)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(watcher_for(Terminal()), LineWatcher)


def test_the_bar_draws_what_the_lines_say_and_leaves_the_screen(monkeypatch, clock) -> None:
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stderr", screen)
    bar = BarWatcher(clock)
    bar.phase(NAME, "migrating [bold]")
    bar.rows(0, 200, 0)
    clock.now += 10
    bar.rows(100, 200, 3)
    with bar.paused():
        screen.write("a question")
    bar.waiting("the health check")
    bar.close()
    bar.phase(NAME, "verifying")
    bar.close()
    bar.close()
    text = screen.getvalue()
    assert "migrating [bold]" in text
    assert "100/200 rows  10 rows/s  10 s left  3 held" in text
    assert "waiting: the health check" in text
    assert text.endswith("\x1b[2K")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (5.44, "5.4 s"), (36.4, "36 s"), (150, "2 min"), (8000, "2 h 13 min"), (200_000, "2 d 7 h")],
)
def test_durations(seconds, text) -> None:
    assert duration(seconds) == text
