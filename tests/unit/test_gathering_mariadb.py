"""What is taken for the rows of a page, and what is not."""

from __future__ import annotations

import pytest

from system_migration.store.writers.gathering_mariadb import unpacked


def test_a_text_of_all_values_is_taken_apart_into_rows() -> None:
    assert unpacked('1,"a",null,2,"\\u0000\\"",3', 2, 3, 1) == [(1, "a", None), (2, '\0"', 3)]
    assert unpacked("", 0, 3, 1) == []


@pytest.mark.parametrize(
    "text",
    [
        '1,"a",2,"b',  # cut within a text
        '1,"a",2',  # cut after a value
        '1,"a"',  # a row too few
        '1,"a",2,"b",3,"c"',  # and one too many
        '2,"b",1,"a"',  # not in the order of the keys
        '1,"a",1,"b"',  # a key twice
        '1,"a",02,"b"',  # not JSON
        "",
    ],
)
def test_any_other_text_is_no_answer(text: str) -> None:
    assert unpacked(text, 2, 2, 1) is None


def test_keys_of_two_columns_are_ordered_by_the_first_of_them() -> None:
    assert unpacked("1,9,2,0", 2, 2, 2) == [(1, 9), (2, 0)]
    assert unpacked("1,9,1,0", 2, 2, 2) is None
