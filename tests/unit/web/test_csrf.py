"""The tokens of forms: good for whom they were made, for a day's work, and made by nobody else."""

from __future__ import annotations

import pytest

from system_migration.web.dashboard.csrf import LIFETIME_SECONDS, FormTokens
from system_migration.web.refusals import ForgedForm

SECRET = b"thirty-two bytes that nobody has"
START = 1_800_000_000


class Clock:
    now = float(START)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> FormTokens:
    return FormTokens(SECRET, clock)


def test_a_token_is_good_for_its_developer_until_it_expires(tokens: FormTokens, clock: Clock) -> None:
    token = tokens.issue("ada")
    clock.now += LIFETIME_SECONDS - 3600
    tokens.check("ada", token)
    clock.now += 3601
    with pytest.raises(ForgedForm):
        tokens.check("ada", token)


def test_servers_that_share_the_secret_accept_each_others(tokens: FormTokens, clock: Clock) -> None:
    FormTokens(SECRET, clock).check("ada", tokens.issue("ada"))
    for stranger in (
        FormTokens(b"another secret of as many bytes.", clock),
        FormTokens(None, clock),
        FormTokens(None, clock),
    ):
        with pytest.raises(ForgedForm):
            stranger.check("ada", tokens.issue("ada"))


@pytest.mark.parametrize("other", ["eve", "", "ada\0", "ADA", "\udc80"])
def test_it_is_of_no_use_to_anybody_else(tokens: FormTokens, other: str) -> None:
    with pytest.raises(ForgedForm):
        tokens.check(other, tokens.issue("ada"))


def test_whatever_else_is_sent_is_refused(tokens: FormTokens) -> None:
    until, seal = tokens.issue("ada").split(".")
    longer = f"{int(until) + 3600}.{seal}"
    other_digits = until.translate({48 + n: 0x660 + n for n in range(10)})
    for token in (None, "", ".", until, f"{until}.", longer, f"{until}.{'0' * 64}", f"{other_digits}.{seal}"):
        with pytest.raises(ForgedForm, match="Nothing was done"):
            tokens.check("ada", token)
    for around in (f" {until}.{seal}", f"{until}.{seal}\n", f"0{until}.{seal.upper()}"):
        with pytest.raises(ForgedForm):
            tokens.check("ada", around)


def test_a_refusal_repeats_nothing_that_was_sent(tokens: FormTokens) -> None:
    with pytest.raises(ForgedForm) as refusal:
        tokens.check("ada", "a secret of somebody")
    assert "secret" not in str(refusal.value)
    assert "ada" not in str(refusal.value)


@pytest.mark.parametrize("secret", [b"", SECRET[:-1]])
def test_a_secret_that_can_be_guessed_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        FormTokens(secret)
