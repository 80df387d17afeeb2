"""A row as `transform` sees it: the declared columns, read-only, and silent about its values."""

from __future__ import annotations

import copy
import pickle

import pytest

from system_migration.batch_migration import Row


@pytest.fixture
def row() -> Row:
    return Row({"id": 0, "email": 1}, (7, "ada@example.org"))


def test_declared_columns_are_attributes_and_items(row: Row) -> None:
    assert (row.id, row["id"]) == (7, 7)
    assert (row.email, row["email"]) == ("ada@example.org", "ada@example.org")


def test_a_column_that_is_null_is_none_and_no_error() -> None:
    assert Row({"email": 0}, (None,)).email is None


def test_an_undeclared_column_is_an_error_that_names_it(row: Row) -> None:
    with pytest.raises(AttributeError, match="column 'phone' is not declared in reads"):
        _ = row.phone
    with pytest.raises(KeyError, match="column 'phone' is not declared in reads"):
        _ = row["phone"]


@pytest.mark.parametrize("column", ["email", "phone", "_values", "_positions"])
def test_a_row_is_read_only(row: Row, column: str) -> None:
    with pytest.raises(AttributeError, match="return the new values from transform"):
        setattr(row, column, "x")
    with pytest.raises(TypeError):
        row[column] = "x"
    assert row.email == "ada@example.org"


def test_the_repr_names_columns_and_shows_no_values(row: Row) -> None:
    assert repr(row) == str(row) == f"{row}" == "Row(id, email)"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_row_travels_to_another_process(row: Row, protocol: int) -> None:
    travelled = pickle.loads(pickle.dumps(row, protocol))
    assert (type(travelled), travelled.id, travelled["email"]) == (Row, 7, "ada@example.org")


def test_a_row_can_be_copied(row: Row) -> None:
    assert [copied.email for copied in (copy.copy(row), copy.deepcopy(row))] == ["ada@example.org"] * 2
