"""A stop signal reaches the router first, then whoever it belongs to; outside of the block nothing is changed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from system_migration.web.stopping import also_on_stop


@pytest.fixture(autouse=True)
def handlers_stay() -> Iterator[None]:
    earlier = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


def test_both_are_told_in_order_and_the_handler_is_given_back() -> None:
    told: list[Any] = []

    def theirs(number: int, frame: Any) -> None:
        told.append(("theirs", number))

    signal.signal(signal.SIGTERM, theirs)
    with also_on_stop(lambda number: told.append(("ours", number))):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert told == [("ours", signal.SIGTERM), ("theirs", signal.SIGTERM), ("theirs", signal.SIGTERM)]


def test_a_signal_that_has_no_handler_keeps_its_effect() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with also_on_stop(lambda number: None):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_a_handler_that_came_meanwhile_stays() -> None:
    def later(number: int, frame: Any) -> None: ...

    signal.signal(signal.SIGTERM, lambda *_: None)
    with also_on_stop(lambda number: None):
        signal.signal(signal.SIGTERM, later)
    assert signal.getsignal(signal.SIGTERM) is later


def test_another_thread_changes_nothing() -> None:
    seen: list[Any] = []

    def elsewhere() -> None:
        with also_on_stop(lambda number: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_IGN]
