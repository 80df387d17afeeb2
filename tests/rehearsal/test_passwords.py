"""The first shipped migration stands its own rehearsal, with the cheapest hashes there are."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from ante_backend.tables import account, metadata
from system_migration import Registry
from system_migration.rehearsal.rehearsing import rehearse
from tests.rehearsal.conftest import MakeCopies
from tests.support.accounts import KEY, NAME, QuickPasswordBcrypt, make


@pytest.mark.parametrize("make_copies", ["sqlite"], indirect=True)
def test_the_password_migration_stands_its_rehearsal(make_copies: MakeCopies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", KEY)

    def fill(connection: sa.Connection) -> None:
        metadata.create_all(connection, tables=[account])
        connection.execute(sa.insert(account), [make(number, f"password {number}!") for number in range(1, 13)])

    found = rehearse(Registry([QuickPasswordBcrypt]), NAME, make_copies(fill))
    assert found.ok, found.text()
