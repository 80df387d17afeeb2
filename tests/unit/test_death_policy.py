"""What a range that runners died of is still trusted with."""

from __future__ import annotations

import pytest

from system_migration.batching.deaths import must_hold, rows_allowed


@pytest.mark.parametrize(
    ("deaths", "rows"), [(0, None), (1, None), (2, 500), (3, 250), (4, 125), (5, 62), (10, 1), (11, 1), (99, 1)]
)
def test_a_batch_is_halved_by_every_death_after_the_first(deaths: int, rows: int | None) -> None:
    assert rows_allowed(1000, deaths) == rows


def test_a_row_is_held_after_a_death_on_its_own() -> None:
    assert [deaths for deaths in range(13) if must_hold(1000, deaths)] == [11, 12]


def test_a_batch_of_one_row_is_given_a_second_try() -> None:
    assert [deaths for deaths in range(4) if must_hold(1, deaths)] == [2, 3]


@pytest.mark.parametrize("planned", [1, 2, 3, 100, 1000, 50_000])
def test_a_poisonous_row_costs_few_deaths(planned: int) -> None:
    """As many as halvings, and three."""
    deaths = next(deaths for deaths in range(100) if must_hold(planned, deaths))
    assert deaths <= planned.bit_length() + 2
