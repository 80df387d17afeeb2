"""Telling a listener: it may be slow, hang or raise, and whoever tells goes on as if nobody listened."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from system_migration import telling
from system_migration.facts import BatchCommitted, Began, Ended, Fact, WhichRun
from system_migration.states import RunKind
from system_migration.telling import NotTold, NotYetTold, Teller, flush_all

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
RUN, OTHER = (WhichRun("001-x", "staging", name, RunKind.RUN, 1, "ada", "here") for name in ("r1", "r2"))
BEGAN = Began(RUN, AT, taken_over=False)
ENDED = Ended(RUN, AT, "succeeded", 5, 0, None, None)
PATIENCE = 20.0


def batch(rows: int, run: WhichRun = RUN) -> BatchCommitted:
    return BatchCommitted(run, AT, rows, rows, 0, 0, 0.1)


class Listener:
    """Keeps what it is told; behind a gate, if it is to be slow."""

    def __init__(self, *, shut: bool = False) -> None:
        self.told: list[Fact] = []
        self.complaints: list[tuple[str, str]] = []
        self.reached, self.opened = threading.Event(), threading.Event()
        if not shut:
            self.opened.set()

    def __call__(self, fact: Fact) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE)
        self.told.append(fact)

    def complain(self, run: WhichRun, sentence: str) -> None:
        self.complaints.append((run.run_id, sentence))


@pytest.fixture
def slow() -> Iterator[Listener]:
    listener = Listener(shut=True)
    yield listener
    listener.opened.set()


def teller(listener: Listener, deliver: Callable[[Fact], object] | None = None) -> Teller[Fact]:
    return Teller("The hook", lambda fact: fact, deliver or listener, listener.complain)


def test_a_listener_is_told_everything_in_order_in_a_thread_that_then_ends() -> None:
    listener = Listener()
    one = teller(listener)
    for fact in (BEGAN, batch(1), batch(2), ENDED):
        one.tell(fact)
    assert one.flush(PATIENCE)
    assert listener.told == [BEGAN, batch(1), batch(2), ENDED]
    assert [each for each in threading.enumerate() if each.name.startswith("migration tells") and each.is_alive()] == []
    one.tell(BEGAN)
    assert one.flush(PATIENCE)
    assert listener.told[-1] == BEGAN


def test_who_tells_does_not_wait_for_a_listener_that_hangs(slow: Listener) -> None:
    one = teller(slow)
    began = time.monotonic()
    for number in range(500):
        one.tell(batch(number))
    assert slow.reached.wait(PATIENCE)
    assert slow.told == []  # all was told while the first was still in its hands
    assert not one.flush(0.05)
    assert time.monotonic() - began < PATIENCE
    slow.opened.set()
    assert one.flush(PATIENCE)
    assert len(slow.told) == 500


def test_batches_beyond_the_bound_are_dropped_with_one_count_and_ends_are_not(
    slow: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "LIMIT", 10)
    one = teller(slow)
    one.tell(BEGAN)
    assert slow.reached.wait(PATIENCE)
    for number in range(25):
        one.tell(batch(number))
    one.tell(ENDED)
    slow.opened.set()
    assert one.flush(PATIENCE)
    assert slow.told == [BEGAN, *map(batch, range(10)), ENDED]
    assert slow.complaints == [("r1", "The hook is too slow: 15 batches were not told to it.")]


def test_not_even_ends_are_kept_without_bound(slow: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "LIMIT", 10)
    one = teller(slow)
    one.tell(BEGAN)
    assert slow.reached.wait(PATIENCE)
    for _ in range(50):
        one.tell(ENDED)
    left, dropped = one.give_up()
    assert (len(left), dropped) == (1 + 20, 30)
    slow.opened.set()
    assert one.flush(PATIENCE)
    assert slow.told == [BEGAN]


@pytest.mark.parametrize("error", [ValueError("a row's value"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_listener_raises_is_said_once_a_run_and_without_its_text(error: BaseException) -> None:
    listener = Listener()

    def raises(fact: Fact) -> None:
        listener(fact)
        raise error

    one = teller(listener, raises)
    for fact in (BEGAN, batch(1), ENDED, batch(1, OTHER)):
        one.tell(fact)
    assert one.flush(PATIENCE)
    assert listener.complaints == [(run, f"The hook raised {type(error).__name__}.") for run in ("r1", "r2")]
    assert len(listener.told) == 4  # and it is told on


def test_a_listener_of_ours_says_its_own_sentence() -> None:
    listener = Listener()

    def raises(fact: Fact) -> None:
        raise NotTold("The webhook at x was not told.")

    one = teller(listener, raises)
    one.tell(ENDED)
    assert one.flush(PATIENCE)
    assert listener.complaints == [("r1", "The webhook at x was not told.")]


def test_a_listener_is_told_in_the_context_in_which_it_happened() -> None:
    here = contextvars.ContextVar("here", default="nowhere")
    seen: list[str] = []
    one = teller(Listener(), lambda fact: seen.append(here.get()))
    here.set("in a request")
    one.tell(BEGAN)
    contextvars.Context().run(one.tell, ENDED)
    assert one.flush(PATIENCE)
    assert seen == ["in a request", "nowhere"]


def test_all_are_waited_for_together_and_not_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    now, given = [100.0], []

    class SevenSeconds(Teller[Fact]):
        def flush(self, seconds: float) -> bool:
            given.append(seconds)
            now[0] += 7.0
            return True

    monkeypatch.setattr(telling, "time", SimpleNamespace(monotonic=lambda: now[0]))
    flush_all([SevenSeconds("x", lambda fact: fact, print, Listener().complain) for _ in range(3)], 10.0)
    assert given == [10.0, 3.0, 0.0]


def test_who_is_given_up_is_not_waited_for_again(slow: Listener) -> None:
    one = teller(slow)
    one.tell(ENDED)
    assert slow.reached.wait(PATIENCE)
    assert one in telling._all  # the end of the process would wait
    assert one.give_up() == ([ENDED], 0)
    assert one not in telling._all


def test_where_no_thread_can_start_any_more_nothing_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    teller(Listener()).tell(ENDED)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_process_tells_its_own_and_leaves_to_its_parent_what_is_the_parent_s(slow: Listener) -> None:
    one = teller(slow)
    for fact in (BEGAN, ENDED):
        one.tell(fact)
    assert slow.reached.wait(PATIENCE)
    if (child := os.fork()) == 0:
        slow.opened.set()
        one.tell(batch(1, OTHER))
        os._exit(0 if one.flush(PATIENCE) and slow.told == [batch(1, OTHER)] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    slow.opened.set()
    assert one.flush(PATIENCE)
    assert slow.told == [BEGAN, ENDED]


def test_what_may_be_told_later_lets_what_is_newer_go_first() -> None:
    """An hour's pause after the first attempt: the end is tried all the same, and all that is left is given back."""
    listener, both = Listener(), threading.Event()

    def refused(fact: Fact) -> None:
        listener(fact)
        if len(listener.told) == 2:
            both.set()
        raise NotYetTold("Not now.")

    one = Teller("The hook", lambda fact: fact, refused, listener.complain, pauses=(3_600.0,))
    one.tell(BEGAN)
    assert listener.reached.wait(PATIENCE)
    one.tell(ENDED)
    assert both.wait(PATIENCE)
    left, dropped = one.give_up()
    assert sorted(map(str, left)) == sorted(map(str, [BEGAN, ENDED]))
    assert dropped == 0
    assert one.flush(PATIENCE)
    assert listener.told == [BEGAN, ENDED]
    assert listener.complaints == []


def test_it_is_tried_again_once_for_each_pause() -> None:
    listener = Listener()

    def refused(fact: Fact) -> None:
        listener(fact)
        raise NotYetTold("Not now.")

    one = Teller("The hook", lambda fact: fact, refused, listener.complain, pauses=(0.01, 0.01))
    one.tell(BEGAN)
    assert one.flush(PATIENCE)
    assert listener.told == [BEGAN] * 3
    assert listener.complaints == [("r1", "Not now.")]
