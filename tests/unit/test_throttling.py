"""A run is held while a check names a reason, and stays open to pause, cancel and stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from system_migration.errors import Interrupted
from system_migration.migration import SilentProgress
from system_migration.running.run_log import RunLog
from system_migration.running.throttling import ASK_SECONDS, Throttle


@dataclass
class HandClock:
    """Time that passes only when somebody sleeps; `then` happens at a moment."""

    now: float = 100.0
    then: dict[float, Callable[[], None]] = field(default_factory=dict)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds <= 0.2  # else a pause would wait
        self.now += seconds
        for moment in [moment for moment in self.then if moment <= self.now]:
            self.then.pop(moment)()


class Watched(SilentProgress):
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def waiting(self, reason: str) -> None:
        self.reasons.append(reason)


@dataclass
class Held:
    """A throttle whose check answers what the test says."""

    reason: str | None = None
    asked: list[float] = field(default_factory=list)
    clock: HandClock = field(default_factory=HandClock)
    progress: Watched = field(default_factory=Watched)
    log: RunLog = field(default_factory=lambda: RunLog("001-a"))
    error: Exception | None = None
    stopped: bool = False
    throttle: Throttle = field(init=False)

    def __post_init__(self) -> None:
        self.throttle = Throttle(self.ask, repr, self.clock, self.progress, self.log, self.heed)

    def ask(self) -> str | None:
        self.asked.append(self.clock.now)
        if self.error is not None:
            raise self.error
        return self.reason

    def heed(self) -> None:
        if self.stopped:
            raise Interrupted(15)

    def recover(self) -> None:
        self.reason = None

    def stop(self) -> None:
        self.stopped = True


def test_a_good_answer_stands_for_some_seconds() -> None:
    held = Held()
    for _ in range(60):
        held.throttle.check()
        held.clock.sleep(0.2)
    assert len(held.asked) == 3
    assert all(later - earlier >= ASK_SECONDS for earlier, later in zip(held.asked, held.asked[1:], strict=False))
    assert held.progress.reasons == []


def test_it_holds_until_the_reason_is_gone_and_asks_every_second() -> None:
    held = Held(reason="a replica is 60 s behind")
    held.clock.then[110.0] = held.recover
    held.throttle.check()
    assert 110.0 <= held.clock.now < 111.5
    assert 10 <= len(held.asked) <= 12
    assert set(held.progress.reasons) == {"a replica is 60 s behind"}


def test_a_stop_acts_while_it_holds() -> None:
    held = Held(reason="busy")
    held.clock.then[102.5] = held.stop
    with pytest.raises(Interrupted):
        held.throttle.check()
    assert held.clock.now < 102.8


def test_a_check_that_fails_holds_nothing_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    held = Held(error=ValueError("broken"))
    for _ in range(3):
        held.throttle.check()
        held.clock.now += 10
    assert held.progress.reasons == []
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["healthy() ended with an error, so it holds nothing: ValueError('broken')"]
