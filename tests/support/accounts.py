"""Legacy accounts in a test's database, and the password migration over them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from ante_backend.legacy_cipher import LegacyCipher, derive_key
from ante_backend.settings import HostSettings
from ante_backend.tables import account
from system_migration import Migrator, Registry, Settings
from system_migration.clock import Clock

NAME = "001-password-bcrypt"
KEY = "a test key with ümlaut"
OLD_KEY = "a former test key"

PasswordBcrypt: Any = importlib.import_module("ante_backend.migrations.001_password_bcrypt").PasswordBcrypt


class QuickPasswordBcrypt(PasswordBcrypt):  # type: ignore[misc]
    """The migration, with the cheapest hashes there are."""

    def settings(self) -> HostSettings:
        settings: HostSettings = super().settings()
        return replace(settings, bcrypt_cost=4, verify_sample=1000)


def migrator(
    engine: sa.Engine,
    migration: type[Any] = QuickPasswordBcrypt,
    ask: Callable[[str], str | None] = lambda prompt: None,
    clock: Clock | None = None,
) -> Migrator:
    return Migrator(engine, Registry([migration]), Settings(environment="test"), ask=ask, clock=clock)


def create_table(engine: sa.Engine, **columns: sa.types.TypeEngine[Any]) -> None:
    """The legacy table; a column given here is of that type instead, or added as nullable."""
    table = account.to_metadata(sa.MetaData())
    for name, kind in columns.items():
        if name in table.c:
            table.c[name].type = kind
        else:
            table.append_column(sa.Column(name, kind, nullable=True))
    table.create(engine)


def make(number: int, password: str, key: str = KEY, **columns: Any) -> dict[str, Any]:
    """A row of the legacy table."""
    iv = number.to_bytes(16, "big")
    created = datetime(2022, 1, 1) + timedelta(days=number)
    row = {
        "id": f"account-{number:05}",
        "email": f"person{number}@example.test",
        "username": f"person{number}",
        "firstName": None,
        "lastName": None,
        "password": LegacyCipher(_derived(key)).encrypt(password.encode(), iv),
        "key": iv,
        "isDeveloper": False,
        "isDeleted": False,
        "status": "ACTIVE",
        "createdAt": created,
        "updatedAt": created,
    }
    return row | columns


_KEYS: dict[str, bytes] = {}


def _derived(key: str) -> bytes:
    if key not in _KEYS:
        _KEYS[key] = derive_key(key)
    return _KEYS[key]


def insert(engine: sa.Engine, rows: Iterable[Mapping[str, Any]]) -> None:
    with engine.begin() as connection:
        table = reflected(engine)
        for row in rows:
            connection.execute(sa.insert(table), row)


def reflected(engine: sa.Engine) -> sa.Table:
    return sa.Table("Account", sa.MetaData(), autoload_with=engine)


def read(engine: sa.Engine) -> dict[str, dict[str, Any]]:
    """Every row by id, as it is."""
    table = reflected(engine)
    with engine.connect() as connection:
        return {row["id"]: _plain(row) for row in connection.execute(sa.select(table)).mappings()}


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in row.items()}


def change(engine: sa.Engine, identity: str, **values: Any) -> None:
    """What the application does meanwhile."""
    table = sa.table("Account", *(sa.column(name) for name in {"id", *values}))
    with engine.begin() as connection:
        changed = connection.execute(sa.update(table).where(table.c.id == identity).values(values))
    assert changed.rowcount == 1


# The contract step

DROP = "002-drop-legacy-passwords"

DropLegacyPasswords: Any = importlib.import_module(
    "ante_backend.migrations.002_drop_legacy_passwords"
).DropLegacyPasswords


def both(engine: sa.Engine) -> Migrator:
    """A migrator over both migrations of passwords, with the cheapest hashes there are."""
    return Migrator(engine, Registry([QuickPasswordBcrypt, DropLegacyPasswords]), Settings(environment="test"))
