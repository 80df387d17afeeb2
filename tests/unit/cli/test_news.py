"""The end of a command that has news to tell: who hears slowly is waited for, not without a word and not for ever."""

from __future__ import annotations

import signal

import pytest

from system_migration.cli import news


class Slow:
    """A migrator whose webhook hears after so many looks."""

    def __init__(self, looks: int, interrupted_at: int | None = None) -> None:
        self.looks, self._interrupted_at, self.looked = looks, interrupted_at, 0

    def flush(self, seconds: float) -> bool:
        self.looked += 1
        if self.looked == self._interrupted_at:
            signal.raise_signal(signal.SIGINT)
        return self.looked > self.looks

    def untold(self) -> list[str]:
        return ["the webhook"]


def waited(migrator: Slow, capsys: pytest.CaptureFixture[str]) -> str:
    news.wait_for_news(migrator)  # type: ignore[arg-type]
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_what_is_told_already_or_soon_is_not_spoken_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert waited(Slow(0), capsys) == ""
    assert waited(Slow(10), capsys) == ""


def test_after_two_seconds_it_is_said_what_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    slow = Slow(11)
    assert waited(slow, capsys) == "waiting for the webhook; Ctrl-C to wait no longer\n"
    assert slow.looked == 12


def test_after_ten_seconds_it_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    hanging = Slow(1_000)
    waited(hanging, capsys)
    assert hanging.looked == 1 + 10 / 0.2


def test_a_signal_ends_the_wait_and_not_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    hanging = Slow(1_000, interrupted_at=3)
    assert waited(hanging, capsys) == ""
    assert hanging.looked == 3
    assert signal.getsignal(signal.SIGINT) is before
