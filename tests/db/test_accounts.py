"""The SQL on "Account", on every database: names compared exactly, and writes that only one of two can win."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from ante_backend.accounts import Account, Accounts
from ante_backend.passwords import hash_password
from tests.support.accounts import change, create_table, insert, make, read

HASH = hash_password(b"the password", 4, "hold")
OTHER = hash_password(b"another password", 4, "hold")
ONE = "account-00001"


@pytest.fixture
def accounts() -> Accounts:
    return Accounts()


@pytest.fixture
def table(engine: sa.Engine) -> sa.Engine:
    create_table(engine, passwordHash=sa.String(255))
    insert(engine, [make(1, "the password", username="Zoë", email="zoe@example.test"), make(2, "x")])
    return engine


def named(engine: sa.Engine, accounts: Accounts, name: str) -> list[str]:
    with engine.connect() as connection:
        return [account.id for account in accounts.named(connection, name)]


def one(engine: sa.Engine, accounts: Accounts) -> Account:
    with engine.connect() as connection:
        found = accounts.by_id(connection, ONE)
    assert found is not None
    return found


def test_a_name_is_compared_character_by_character(table: sa.Engine, accounts: Accounts) -> None:
    assert named(table, accounts, "Zoë") == named(table, accounts, "zoe@example.test") == [ONE]
    others = ("zoë", "ZOË", "Zoe", "Zoe\u0308", "Zoë ", " Zoë", "Zoë\0", "\0", "", "%", "Zo_", "Zoe@example.test")
    assert [name for name in others if named(table, accounts, name)] == []


def test_a_login_reads_no_table_from_end_to_end(table: sa.Engine, accounts: Accounts) -> None:
    asked: list[tuple[str, Any]] = []

    def listen(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    with table.connect() as connection:
        sa.event.listen(connection, "before_cursor_execute", listen)
        accounts.named(connection, "Zoë")
        sa.event.remove(connection, "before_cursor_execute", listen)
        statement, parameters = asked[-1]
        if table.dialect.name == "postgresql":  # so small a table is not worth an index
            connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
        explain = "EXPLAIN QUERY PLAN " if table.dialect.name == "sqlite" else "EXPLAIN "
        plan = str(connection.exec_driver_sql(explain + statement, parameters).all())
    assert "Account_email_idx" in plan, plan
    assert "Account_username_idx" in plan, plan


def test_one_row_under_both_names_is_one_and_two_rows_are_two(table: sa.Engine, accounts: Accounts) -> None:
    insert(table, [make(3, "x", username="same", email="same"), make(4, "x", username="person2@example.test")])
    assert named(table, accounts, "same") == ["account-00003"]
    assert sorted(named(table, accounts, "person2@example.test")) == ["account-00002", "account-00004"]


def test_a_row_is_read_as_it_is(table: sa.Engine, accounts: Accounts) -> None:
    change(table, ONE, isDeveloper=True, status="INACTIVE")
    account = one(table, accounts)
    assert (account.is_developer, account.is_active, account.can_store_hash) == (True, False, True)
    assert (account.ciphertext, bytes(account.iv)) == (read(table)[ONE]["password"], (1).to_bytes(16, "big"))
    with table.connect() as connection:
        assert [accounts.by_id(connection, identity) for identity in ("nobody", "ACCOUNT-00001", "a\0b")] == [None] * 3


def meanwhiles() -> Iterator[Any]:
    renewed = make(9, "the password")
    yield pytest.param({"passwordHash": OTHER, "password": None, "key": None}, id="changed")
    yield pytest.param({"passwordHash": OTHER}, id="upgraded")
    yield pytest.param({"passwordHash": ""}, id="the empty hash")
    yield pytest.param({"password": renewed["password"], "key": renewed["key"]}, id="changed in the old application")
    yield pytest.param({"key": renewed["key"]}, id="another IV")
    yield pytest.param({"password": None, "key": None}, id="cleared")


@pytest.mark.parametrize("values", list(meanwhiles()))
@pytest.mark.parametrize("write", ["upgrade", "change_password"])
def test_whoever_writes_second_changes_nothing(
    table: sa.Engine, accounts: Accounts, write: str, values: dict[str, Any]
) -> None:
    read_before = one(table, accounts)
    change(table, ONE, **values)
    before = read(table)
    with table.begin() as connection:
        assert getattr(accounts, write)(connection, read_before, HASH) is False
    assert read(table) == before


@pytest.mark.parametrize("stored", [None, "", OTHER])
def test_an_upgrade_writes_the_hash_alone(table: sa.Engine, accounts: Accounts, stored: str | None) -> None:
    change(table, ONE, passwordHash=stored)
    before = read(table)
    with table.begin() as connection:
        assert accounts.upgrade(connection, one(table, accounts), HASH)
    assert read(table) == before | {ONE: before[ONE] | {"passwordHash": HASH}}


def test_a_new_password_clears_the_reversible_columns(table: sa.Engine, accounts: Accounts) -> None:
    before = read(table)
    with table.begin() as connection:
        assert accounts.change_password(connection, one(table, accounts), HASH)
    after = read(table)
    assert after[ONE]["updatedAt"] > before[ONE]["updatedAt"]
    written = {"passwordHash": HASH, "password": None, "key": None, "updatedAt": after[ONE]["updatedAt"]}
    assert after == before | {ONE: before[ONE] | written}


@pytest.mark.databases("postgresql", "mariadb")
def test_an_upgrade_does_not_wait_for_a_locked_row(table: sa.Engine, accounts: Accounts) -> None:
    account = one(table, accounts)
    with table.begin() as other, table.begin() as connection:
        other.execute(sa.text("SELECT 1 FROM " + _quoted(table) + " WHERE id = :id FOR UPDATE"), {"id": ONE})
        assert accounts.upgrade(connection, account, HASH) is False
    with table.begin() as connection:
        assert accounts.upgrade(connection, account, HASH)


def _quoted(engine: sa.Engine) -> str:
    return engine.dialect.identifier_preparer.quote_identifier("Account")


def test_until_there_is_a_column_for_hashes_none_is_read(engine: sa.Engine, accounts: Accounts) -> None:
    create_table(engine)
    insert(engine, [make(1, "the password")])
    account = one(engine, accounts)
    assert (account.can_store_hash, account.stored_hash) == (False, None)
    with engine.begin() as connection:
        connection.execute(sa.text(f"ALTER TABLE {_quoted(engine)} ADD COLUMN {_hash_column(engine)} VARCHAR(255)"))
    account = one(engine, accounts)
    assert account.can_store_hash
    with engine.begin() as connection:
        assert accounts.upgrade(connection, account, HASH)
    assert one(engine, accounts).stored_hash == HASH


def test_without_the_legacy_columns_hashes_are_read_and_written(table: sa.Engine, accounts: Accounts) -> None:
    change(table, ONE, passwordHash=OTHER)
    with table.begin() as connection:
        for column in ("password", "key"):
            quoted = table.dialect.identifier_preparer.quote_identifier(column)
            connection.execute(sa.text(f"ALTER TABLE {_quoted(table)} DROP COLUMN {quoted}"))
    account = one(table, accounts)
    assert (account.ciphertext, account.iv, account.stored_hash) == (None, None, OTHER)
    with table.begin() as connection:
        assert accounts.upgrade(connection, account, HASH)
        assert not accounts.change_password(connection, account, HASH)
    account = one(table, accounts)
    with table.begin() as connection:
        assert accounts.change_password(connection, account, OTHER)
    assert one(table, accounts).stored_hash == OTHER


def _hash_column(engine: sa.Engine) -> str:
    return engine.dialect.identifier_preparer.quote_identifier("passwordHash")


def test_an_iv_that_is_text_is_compared_as_text(engine: sa.Engine, accounts: Accounts) -> None:
    create_table(engine, key=sa.String(32), passwordHash=sa.String(255))
    insert(engine, [make(1, "the password") | {"key": "00" * 16}])
    account = one(engine, accounts)
    assert account.iv == "00" * 16
    with engine.begin() as connection:
        assert accounts.upgrade(connection, account, HASH)
