"""Shows that the passwords of a seeded table open its new hashes, and wrong ones do not.

`python -m ante_backend.proof --accounts N --damaged M [--database-url ...]`, with the numbers of the seeding.
"""

from __future__ import annotations

import argparse
import os
import sys

import sqlalchemy as sa

from ante_backend.passwords import check_password
from ante_backend.seed import make_accounts
from ante_backend.settings import HostSettings, required_key
from ante_backend.tables import account as account_table
from system_migration import Settings, connect

CHECKED = 5


def main(argv: list[str]) -> int:
    """Check a few accounts and print what happened; 1 when a password did not behave as it must."""
    parser = argparse.ArgumentParser(prog="python -m ante_backend.proof", description=__doc__)
    parser.add_argument("--accounts", type=int, required=True)
    parser.add_argument("--damaged", type=int, default=0)
    parser.add_argument("--database-url")
    chosen = parser.parse_args(argv)
    settings = HostSettings.from_environment(os.environ)
    seeded = make_accounts(chosen.accounts, chosen.damaged, required_key(settings))
    known = [account for account in seeded if account.plaintext is not None and account.damage is None][:CHECKED]

    engine = connect(Settings(database_url=chosen.database_url or settings.database_url).required_database_url())
    query = (
        sa.select(sa.column("passwordHash", sa.String))
        .select_from(account_table)
        .where(account_table.c.id == sa.bindparam("id"))
    )
    right = wrong = 0
    with engine.connect() as connection:
        for account in known:
            stored = connection.execute(query, {"id": account.row["id"]}).scalar_one()
            plain = str(account.plaintext).encode()
            right += check_password(plain, stored, settings.over_72_bytes)
            wrong += check_password(plain + b"!", stored, settings.over_72_bytes)
    engine.dispose()
    print(f"{right} of {len(known)} old passwords open their new hash.")
    print(f"{wrong} of {len(known)} do with one character more.")
    return 0 if (right, wrong) == (len(known), 0) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
