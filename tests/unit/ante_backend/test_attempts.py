"""How often somebody may guess, in frozen time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ante_backend.attempts import KNOWN_LIMIT, SOURCE_SECONDS, Attempts, TooManyAttempts, network
from ante_backend.counting import FORGOTTEN_AFTER, LONGEST_WAIT


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(attempts: Attempts, times: int, name: str = "somebody", source: str = "192.0.2.1") -> None:
    for _ in range(times):
        attempts.begin(name, source)


def wait(attempts: Attempts, name: str = "somebody", source: str = "192.0.2.1") -> int:
    """How long the next attempt has to wait; 0 when it need not, and then it is made and fails."""
    try:
        attempts.begin(name, source)
    except TooManyAttempts as refusal:
        return refusal.retry_after
    return 0


def test_a_hundred_failures_in_a_row_are_judged_and_the_next_waits_a_minute(clock: Clock) -> None:
    attempts = Attempts(clock=clock)
    fail(attempts, 100)
    assert wait(attempts) == 60
    assert wait(attempts, name="somebody else") == 0
    clock.now += 59.5
    assert wait(attempts) == 1
    clock.now += 0.5
    assert wait(attempts) == 0


def test_each_further_failure_waits_twice_as_long_up_to_an_hour(clock: Clock) -> None:
    attempts = Attempts(name_limit=3, clock=clock)
    fail(attempts, 3)
    waits = []
    for _ in range(9):
        waits.append(wait(attempts))
        clock.now += waits[-1]
        assert wait(attempts) == 0
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert waits[-1] == LONGEST_WAIT


def test_a_success_clears_the_name_but_not_the_source(clock: Clock) -> None:
    attempts = Attempts(name_limit=3, source_limit=5, clock=clock)
    fail(attempts, 2)
    attempts.begin("somebody", "192.0.2.1").succeeded()
    fail(attempts, 2)
    attempts.begin("my own account", "192.0.2.1").succeeded()
    fail(attempts, 1, name="a third")
    assert wait(attempts, name="a fourth") == SOURCE_SECONDS
    assert wait(attempts, name="a fourth", source="192.0.2.2") == 0


def test_an_office_that_mistypes_every_day_is_never_shut_out(clock: Clock) -> None:
    attempts = Attempts(clock=clock)
    for _ in range(100):  # days
        for person in range(200):
            attempt = attempts.begin(f"person{person}", "192.0.2.1")
            if person % 10:
                attempt.succeeded()
            clock.now += 140
        clock.now += 24 * 3600 - 200 * 140


def test_a_source_at_its_limit_may_fail_once_in_ninety_seconds(clock: Clock) -> None:
    attempts = Attempts(source_limit=3, clock=clock)
    judged = 0
    for name in range(1000):
        judged += wait(attempts, name=str(name)) == 0
        clock.now += SOURCE_SECONDS / 10
    assert judged == 3 + 99


def test_a_right_password_makes_nobody_else_of_its_source_wait(clock: Clock) -> None:
    attempts = Attempts(source_limit=3, clock=clock)
    for name in ("a", "b", "c"):
        fail(attempts, 1, name=name)
    clock.now += SOURCE_SECONDS
    for name in ("d", "e", "f"):
        attempts.begin(name, "192.0.2.1").succeeded()


def test_an_attempt_that_was_not_judged_is_not_counted(clock: Clock) -> None:
    attempts = Attempts(name_limit=3, source_limit=3, clock=clock)
    for _ in range(10):
        attempts.begin("somebody", "192.0.2.1").not_judged()
    fail(attempts, 3)
    assert wait(attempts) == SOURCE_SECONDS


def test_an_attempt_that_was_not_judged_does_not_prolong_the_wait(clock: Clock) -> None:
    attempts = Attempts(name_limit=3, clock=clock)
    fail(attempts, 3)
    clock.now += 60
    for _ in range(3):
        attempts.begin("somebody", "192.0.2.1").not_judged()
    assert wait(attempts) == 0
    assert wait(attempts) == 120


def guess(attempts: Attempts, name: str, identity: str) -> bool:
    """Whether a wrong password for the account, under one of its names, is judged."""
    try:
        attempts.begin(name, "192.0.2.1").on(identity)
    except TooManyAttempts:
        return False
    return True


def test_an_account_has_one_limit_whichever_of_its_names_is_tried(clock: Clock) -> None:
    attempts = Attempts(name_limit=10, clock=clock)
    assert [guess(attempts, f"name {number % 2}", "account") for number in range(14)] == [True] * 10 + [False] * 4
    clock.now += 60
    assert guess(attempts, "name 0", "account")
    assert not guess(attempts, "name 1", "account")
    clock.now += 120
    attempt = attempts.begin("name 1", "192.0.2.1")
    attempt.on("account")
    attempt.succeeded()
    assert guess(attempts, "name 1", "account")


def test_an_attempt_that_was_not_judged_is_none_on_the_account(clock: Clock) -> None:
    attempts = Attempts(name_limit=3, clock=clock)
    for number in range(10):
        attempt = attempts.begin(f"name {number}", "192.0.2.1")
        attempt.on("account")
        attempt.not_judged()
    assert [guess(attempts, f"name {number}", "account") for number in range(4)] == [True, True, True, False]


HOME = "198.51.100.1"


def succeed(attempts: Attempts, name: str = "somebody", source: str = HOME) -> None:
    attempt = attempts.begin(name, source)
    attempt.on("account")
    attempt.succeeded()


def test_a_stranger_who_takes_every_attempt_there_is_keeps_no_owner_out(clock: Clock) -> None:
    attempts = Attempts(name_limit=3, clock=clock)
    succeed(attempts)
    judged = 0
    for second in range(24 * 3600):
        clock.now += 1
        judged += wait(attempts, source=f"203.0.113.{second % 200}") == 0
        if second % 600 == 0:
            succeed(attempts)
    assert judged == 3 + 6 + 22  # what it would be without the owner: no success of theirs begins the count anew


def test_who_is_known_waits_after_ten_failures_of_their_own(clock: Clock) -> None:
    attempts = Attempts(name_limit=3, clock=clock)
    succeed(attempts)
    fail(attempts, 3)
    for _ in range(2):
        fail(attempts, KNOWN_LIMIT - 1, source=HOME)
        succeed(attempts)
    fail(attempts, KNOWN_LIMIT, source=HOME)
    assert wait(attempts, source=HOME) == 60
    clock.now += 60
    succeed(attempts)
    fail(attempts, KNOWN_LIMIT, source=HOME)


def test_who_is_known_is_so_with_one_name_from_one_source(clock: Clock) -> None:
    attempts = Attempts(name_limit=3, clock=clock)
    succeed(attempts)
    fail(attempts, 3)
    fail(attempts, 3, name="another")
    assert wait(attempts, source="203.0.113.1") > 0
    assert wait(attempts, name="another", source=HOME) > 0
    assert wait(attempts, source=HOME) == 0


def test_who_is_known_waits_for_nobody_at_their_source(clock: Clock) -> None:
    attempts = Attempts(source_limit=3, clock=clock)
    succeed(attempts)
    for number in range(3):
        fail(attempts, 1, name=str(number), source=HOME)
    assert wait(attempts, name="another", source=HOME) == SOURCE_SECONDS
    succeed(attempts)


def test_who_is_known_by_a_login_may_change_the_password(clock: Clock) -> None:
    attempts = Attempts(name_limit=3, clock=clock)
    succeed(attempts)
    for name in ("a", "b", "c"):
        attempts.begin(name, "203.0.113.1").on("account")
    assert not guess(attempts, "account", "account")
    succeed(attempts, name="account")


def test_an_attempt_that_was_not_judged_is_none_of_who_is_known(clock: Clock) -> None:
    attempts = Attempts(name_limit=3, clock=clock)
    succeed(attempts)
    fail(attempts, 3)
    for _ in range(2 * KNOWN_LIMIT):
        attempts.begin("somebody", HOME).not_judged()
    fail(attempts, KNOWN_LIMIT, source=HOME)
    assert wait(attempts, source=HOME) == 60


def test_many_at_once_do_not_pass_the_limit(clock: Clock) -> None:
    attempts = Attempts(name_limit=10, clock=clock)
    with ThreadPoolExecutor(8) as pool:
        assert sum(waited == 0 for waited in pool.map(lambda _: wait(attempts), range(200))) == 10


def test_a_refusal_does_not_prolong_the_wait(clock: Clock) -> None:
    attempts = Attempts(name_limit=3, clock=clock)
    fail(attempts, 3)
    assert [wait(attempts) for _ in range(50)] == [60] * 50


def test_what_is_long_ago_is_forgotten(clock: Clock) -> None:
    attempts = Attempts(name_limit=3, clock=clock)
    fail(attempts, 3)
    clock.now += FORGOTTEN_AFTER + 1
    fail(attempts, 3)
    assert wait(attempts) == 60


def test_memory_is_bounded_and_names_are_not_kept(clock: Clock) -> None:
    attempts = Attempts(name_limit=3, source_limit=10_000, capacity=50, clock=clock)
    for number in range(1000):
        attempts.begin("n" * 1000 + str(number), "192.0.2.1")
        fail(attempts, number == 990, name="a recent one")
    assert len(attempts) == 51
    kept = attempts._names._counts
    assert {len(key) for key in kept} == {16}


def test_a_source_is_an_address_or_a_subscribers_network() -> None:
    assert network("192.0.2.1") == "192.0.2.1"
    assert network("2001:db8:1:2:3:4:5:6") == network("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert network("2001:db8:1:3::1") != network("2001:db8:1:2::1")
    assert network("fe80::1%eth0") == "fe80::/64"
    assert network("::ffff:192.0.2.1") == network("::ffff:c000:201") == "192.0.2.1"
    assert network("unknown") == "unknown"
    assert network("testclient") == "testclient"


def test_half_a_surrogate_pair_is_a_name_too(clock: Clock) -> None:
    assert wait(Attempts(clock=clock), name="a\ud800b") == 0
