"""Values of rows of any type, JSON ones too, written down and read back without loss."""

from __future__ import annotations

from datetime import timedelta, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from system_migration.batching import values

OFFSETS = st.sampled_from([None, *(timezone(timedelta(minutes=minutes)) for minutes in (-210, 0, 345))])
SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(st.characters()),  # lone surrogates too
    st.binary(),
    st.floats(),
    st.decimals(),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=OFFSETS).map(lambda value: value.replace(fold=0)),
    st.times(timezones=OFFSETS).map(lambda value: value.replace(fold=0)),
    st.timedeltas(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)


# By repr: it knows 1 from True and 1.0, 1.0 from 1.00, -0.0 from 0.0, and two NaNs from nothing.
@given(st.lists(VALUES, max_size=4).map(tuple))
def test_values_come_back_the_same_and_of_the_same_types(row: tuple[Any, ...]) -> None:
    assert repr(values.decode(values.encode(row))) == repr(row)


@given(st.lists(VALUES, max_size=4).map(tuple))
def test_the_text_is_one_that_a_database_stores(row: tuple[Any, ...]) -> None:
    assert "\0" not in values.encode(row).encode("utf-8").decode("utf-8")


def test_json_that_looks_like_our_own_form_comes_back_as_it_was() -> None:
    row = ({"float": "0x1p0"}, [{"list": []}], {"surrogates": "eA=="}, "\ud800\udc00", "\U00010000")
    assert values.decode(values.encode(row)) == row


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_every_kind_of_bytes_is_the_same_value(kind: type) -> None:
    assert values.decode(values.encode((kind(b"\x00\xff"),))) == (b"\x00\xff",)


class Colour(Enum):
    RED = 1


class Word(StrEnum):
    RED = "red"


@pytest.mark.parametrize("value", [object(), 1j, Colour.RED, Word.RED, [Colour.RED], {"a": {1}}])
def test_what_would_come_back_as_another_type_is_an_error(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be recorded"):
        values.encode((Decimal(1), value))
