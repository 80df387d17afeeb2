"""The SQL on "Account": finding one by what a person types, upgrading a row, changing a password.

Every write is a compare-and-set on the three columns that hold a password, the guard of migration 001: whoever writes
second changes nothing and is told so. Functions take a connection and never commit.

Until migration 001 has added `passwordHash` the column is read as NULL and nothing can be written: no account is
upgraded, no password changed, every legacy login works. The application changes no schema and needs no restart. Where
the legacy columns have been dropped one day, an application that is started afterwards does without them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from ante_backend.passwords import is_recognised_hash, salt_of
from ante_backend.tables import utc_now

_ACTIVE: Final = "ACTIVE"
_HASH: Final = "passwordHash"
_SECRETS: Final = ("password", "key", _HASH)
_COLUMNS: Final = ("id", "email", "username", "isDeveloper", "isDeleted", "status", *_SECRETS, "updatedAt")

# Columns without a type: what the driver gives is what the guard compares, whether an IV is bytes or text.
_account = sa.table("Account", *(sa.column(name) for name in _COLUMNS))


@dataclass(frozen=True, slots=True)
class Account:
    """One row as it was read; what a password hides behind stays out of the repr."""

    id: str
    username: str = field(repr=False)
    email: str = field(repr=False)
    is_developer: bool
    is_active: bool
    ciphertext: Any = field(repr=False)
    iv: Any = field(repr=False)
    stored_hash: str | None = field(repr=False)
    can_store_hash: bool = True

    @property
    def marks(self) -> tuple[bytes, ...]:
        """What identifies the present password and survives its upgrade, the mark that lasts longest first.

        A hash is known by its salt, which a higher cost keeps; a ciphertext, which the upgrade leaves in place, by its
        bytes and IV. So what was marked before an upgrade, by a login or by the batch, is still marked after it, and a
        new password has neither mark.
        """
        hashed = [b"hash\0" + salt_of(self.stored_hash).encode()] if is_recognised_hash(self.stored_hash) else []
        if self.ciphertext is None or self.iv is None:
            return tuple(hashed)
        return (*hashed, b"legacy\0" + _bytes(self.iv) + b"\0" + _bytes(self.ciphertext))


class Accounts:
    """The accounts of one database; it remembers only which columns there are."""

    def __init__(self) -> None:
        self._columns: frozenset[str] = frozenset()

    def named(self, connection: sa.Connection, name: str) -> list[Account]:
        """Those whose e-mail or username is exactly this text, character by character, on every database.

        The database may be laxer (MariaDB ignores case and accents): what it finds is compared once more here.
        """
        if "\0" in name:  # PostgreSQL cannot be asked for it
            return []
        found = self._select(connection, (_account.c.email == name) | (_account.c.username == name))
        return [account for account in found if name in (account.email, account.username)]

    def by_id(self, connection: sa.Connection, identity: str) -> Account | None:
        """The account with this key, if there is one."""
        if "\0" in identity:
            return None
        found = self._select(connection, _account.c.id == identity)
        return next((account for account in found if account.id == identity), None)

    def upgrade(self, connection: sa.Connection, read: Account, new_hash: str) -> bool:
        """Store another hash of the same password; False when the row is not what was read, or is being written.

        A row that somebody holds locked is passed over, so that no login waits for it: the next one tries again.
        """
        query = sa.select(_account.c.id).where(self._unchanged(read)).with_for_update(skip_locked=True)
        if connection.execute(query).first() is None:
            return False
        return self._update(connection, read, {_HASH: new_hash})

    def change_password(self, connection: sa.Connection, read: Account, new_hash: str) -> bool:
        """Store a new password's hash and clear the reversible columns, in one statement.

        False when the row is not what was read any more; nothing is changed then.
        """
        values = {_HASH: new_hash, "password": None, "key": None, "updatedAt": utc_now()}
        return self._update(connection, read, {name: values[name] for name in values.keys() & self._columns})

    def _update(self, connection: sa.Connection, read: Account, values: dict[str, Any]) -> bool:
        return connection.execute(sa.update(_account).where(self._unchanged(read)).values(values)).rowcount == 1

    def _unchanged(self, read: Account) -> sa.ColumnElement[bool]:
        """The guard: the row still has the password columns that were read."""
        secrets = zip(_SECRETS, (read.ciphertext, read.iv, read.stored_hash), strict=True)
        same = (_account.c[name].is_not_distinct_from(value) for name, value in secrets if name in self._columns)
        return sa.and_(_account.c.id == read.id, *same)

    def _select(self, connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[Account]:
        if _HASH not in self._columns:  # looked for until it is there
            self._columns = frozenset(column["name"] for column in sa.inspect(connection).get_columns(_account.name))
        columns_read = [column for column in _account.c if column.name in self._columns]
        rows = connection.execute(sa.select(*columns_read).where(which)).mappings()
        return [_account_from(row.get, _HASH in self._columns) for row in rows]


def _account_from(value: Callable[[str], Any], can_store_hash: bool) -> Account:
    return Account(
        id=value("id"),
        username=value("username"),
        email=value("email"),
        is_developer=bool(value("isDeveloper")),
        is_active=not value("isDeleted") and value("status") == _ACTIVE,
        ciphertext=value("password"),
        iv=value("key"),
        stored_hash=value(_HASH),
        can_store_hash=can_store_hash,
    )


def _bytes(value: Any) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)
