"""The collector looks less often during a run, and afterwards as it did before."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from system_migration.batching.garbage import seldom_collected


@pytest.fixture(autouse=True)
def own_threshold() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def test_the_threshold_is_raised_and_put_back() -> None:
    with seldom_collected():
        assert gc.get_threshold() == (5_000, 10, 10)
    assert gc.get_threshold() == (700, 10, 10)


def test_of_two_runs_at_once_the_last_one_puts_it_back() -> None:
    first, second = seldom_collected(), seldom_collected()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_threshold()[0] == 5_000
    second.__exit__(None, None, None)
    assert gc.get_threshold()[0] == 700


def test_an_error_puts_it_back_too() -> None:
    with pytest.raises(KeyError), seldom_collected():
        raise KeyError
    assert gc.get_threshold()[0] == 700


@pytest.mark.parametrize("own", [0, 90_000])
def test_a_host_that_collects_even_less_is_left_alone(own: int) -> None:
    gc.set_threshold(own, 10, 10)
    with seldom_collected():
        assert gc.get_threshold()[0] == own
    assert gc.get_threshold()[0] == own


@pytest.mark.parametrize("before", [700, 90_000])
def test_what_a_host_sets_meanwhile_stays(before: int) -> None:
    gc.set_threshold(before, 10, 10)
    with seldom_collected():
        gc.set_threshold(30_000, 5, 5)
    assert gc.get_threshold() == (30_000, 5, 5)
