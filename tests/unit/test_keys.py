"""Keys of any type, written down and read back without loss."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from system_migration.batching import keys

# Two keys are told apart by their repr: it knows 1 from True and 1.0, 1.0 from 1.00, -0.0 from 0.0, and NaN from
# nothing. No database has a `fold`, and ISO 8601 cannot write one.
OFFSETS = st.sampled_from([None, *(timezone(timedelta(minutes=minutes)) for minutes in (-210, 0, 345))])
PARTS: st.SearchStrategy[Any] = st.one_of(
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
KEYS = st.lists(PARTS, min_size=1, max_size=4).map(tuple)

ALIKE = [
    *(None, "", "null", "None", 0, 1, 1.0, True, False, "1", "true", b"", b"1", b"MQ=="),
    *(Decimal("1"), Decimal("1.0"), Decimal("1.00"), Decimal("NaN"), float("nan"), 0.0, -0.0),
    *(date(2025, 1, 2), datetime(2025, 1, 2), time(0), timedelta(0), timedelta(microseconds=1), "2025-01-02"),
    *(UUID(int=1), str(UUID(int=1)), '{"uuid":"x"}', "\ud800\udc00", "\U00010000"),
]


@given(KEYS)
def test_a_key_comes_back_with_the_same_values_of_the_same_types(key: keys.Key) -> None:
    assert repr(keys.decode(keys.encode(key))) == repr(key)


@given(KEYS, KEYS)
def test_a_digest_names_one_key(left: keys.Key, right: keys.Key) -> None:
    copy = keys.decode(keys.encode(left))
    assert keys.digest(copy) == keys.digest(left)
    assert (keys.digest(left) == keys.digest(right)) == (repr(left) == repr(right))


def test_values_that_look_alike_have_digests_of_their_own() -> None:
    singles: list[keys.Key] = [(value,) for value in ALIKE]
    composite: list[keys.Key] = [("a", "b"), ("ab",), ("a", "b", ""), ('a","b',), ("a,b",)]
    assert len({keys.digest(key) for key in [*singles, *composite]}) == len(ALIKE) + len(composite)


def test_a_digest_has_a_fixed_length_that_fits_an_index() -> None:
    assert {len(keys.digest(key)) for key in [(1,), ("x" * 10_000,), (None, b"")]} == {64}


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_every_kind_of_bytes_is_the_same_key(kind: type) -> None:
    assert keys.encode((kind(b"\x00\xff"),)) == keys.encode((b"\x00\xff",))
    assert keys.decode(keys.encode((kind(b"\x00\xff"),))) == (b"\x00\xff",)


def test_a_key_is_stored_as_json_that_people_can_read() -> None:
    assert json.loads(keys.encode((7, "ü", None, Decimal("1.50")))) == [7, "ü", None, {"decimal": "1.50"}]
    assert "ü" in keys.encode(("ü",))


@pytest.mark.parametrize("part", [[1], {"a": 1}, object(), 1j])
def test_a_type_that_cannot_be_recorded_is_an_error_that_names_it(part: Any) -> None:
    with pytest.raises(TypeError, match=f"a key of type {type(part).__name__} cannot be recorded"):
        keys.encode((1, part))


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ((7,), 7),
        (("ada",), "ada"),
        ((None,), None),
        ((b"\x00\xff",), "00ff"),
        ((UUID(int=1),), "00000000-0000-0000-0000-000000000001"),
        ((Decimal("1.50"),), "1.50"),
        ((date(2025, 1, 2),), "2025-01-02"),
        ((7, "ada", None, date(2025, 1, 2)), [7, "ada", None, "2025-01-02"]),
    ],
)
def test_a_key_is_shown_as_its_value_or_the_list_of_its_parts(key: keys.Key, shown: Any) -> None:
    assert keys.shown(key) == shown


@given(KEYS)
def test_what_is_shown_is_plain_json(key: keys.Key) -> None:
    assert json.loads(json.dumps(keys.shown(key))) == keys.shown(key)


@pytest.mark.parametrize(
    ("text", "types", "key"),
    [
        ("12", [int], (12,)),
        ("-3", [int], (-3,)),
        ("12", [str], ("12",)),
        ("", [str], ("",)),
        ("1.50", [Decimal], (Decimal("1.50"),)),
        ("00000000-0000-0000-0000-000000000001", [UUID], (UUID(int=1),)),
        ("2025-01-02", [date], (date(2025, 1, 2),)),
        ("2025-01-02T03:04:05", [datetime], (datetime(2025, 1, 2, 3, 4, 5),)),
        ("00ff", [bytes], (b"\x00\xff",)),
        ("true", [bool], (True,)),
        ('[1, "a"]', [int, str], (1, "a")),
        ('["1", "a"]', [int, str], (1, "a")),
        ('["2025-01-02", 7]', [date, int], (date(2025, 1, 2), 7)),
        ('["[1]", 2]', [str, int], ("[1]", 2)),
    ],
)
def test_a_key_that_a_person_writes_is_read_in_the_key_s_types(text: str, types: list[type], key: keys.Key) -> None:
    assert repr(keys.parse(text, types)) == repr(key)


@pytest.mark.parametrize(
    ("text", "types", "words"),
    [
        ("twelve", [int], "a value of type int is expected"),
        ("1.5", [int], "a value of type int is expected"),
        ("x", [Decimal], "a value of type Decimal is expected"),
        ("yesterday", [date], "a value of type date is expected"),
        ("0", [bool], "a value of type bool is expected"),
        ("nan", [float], "a value of type float is expected"),
        ("NaN", [Decimal], "a value of type Decimal is expected"),
        ("sNaN", [Decimal], "a value of type Decimal is expected"),
        ("xyz", [bytes], "a value of type bytes is expected"),
        ("1", [int, str], "the key has 2 columns: write it as a JSON list of 2 values"),
        ("[1]", [int, str], "the key has 2 columns"),
        ("[" * 2000, [int, str], "the key has 2 columns"),
        ('{"a": 1}', [int, str], "the key has 2 columns"),
        ('["x", "a"]', [int, str], "a value of type int is expected"),
        ("PT1H", [timedelta], "a key of type timedelta cannot be written as text"),
    ],
)
def test_a_key_that_cannot_be_read_says_why_without_its_text(text: str, types: list[type], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        keys.parse(text, types)
    assert text not in str(error.value) or len(text) < 4


@given(st.one_of(st.integers(), st.uuids(), st.dates(), st.text(st.characters(codec="utf-8"))))
def test_what_str_writes_is_read_back(part: Any) -> None:
    assert keys.parse(str(part), [type(part)]) == (part,)
