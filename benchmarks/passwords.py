"""How close 001-password-bcrypt comes to the number of bcrypt hashes this machine can make at all."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import bcrypt

from ante_backend.seed import create_legacy_table, insert_accounts, make_accounts
from benchmarks.harness import Phases, Timing, heading, judged, row
from benchmarks.plan import Plan
from system_migration import Migrator, RunOptions, Settings, connect, discover

ACCOUNTS = 1_200
LIMIT_HASHES = 300
GOAL = 0.97
_COST = 10
KEY = "benchmark key, protects nothing"


def measure(plan: Plan) -> Iterator[str]:
    """Accounts a second while migrating, beside bare hashing on all cores just before and just after."""
    accounts, hashes = plan.rows(ACCOUNTS), plan.rows(LIMIT_HASHES)
    before = _bare_hashes_per_second(hashes)
    timing = migrated(accounts)
    limit = (before + _bare_hashes_per_second(hashes)) / 2
    assert timing.whole is not None
    share, whole = accounts / timing.seconds / limit, accounts / timing.whole / limit
    yield from heading(f"{accounts:,} accounts, cost {_COST}, SQLite", "a second", "of the limit", "goal")
    yield row(["bare bcrypt on all cores, before and after", f"{limit:.1f}", "1", ""])
    yield row(["001-password-bcrypt, migrating", f"{share * limit:.1f}", f"{share:.3f}", judged(share, GOAL)])
    yield row(["the same with preflight and verification", f"{whole * limit:.1f}", f"{whole:.3f}", ""])


def _bare_hashes_per_second(hashes: int) -> float:
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        began = time.monotonic()
        list(pool.map(lambda _: bcrypt.hashpw(b"a password", bcrypt.gensalt(_COST)), range(hashes)))
        return hashes / (time.monotonic() - began)


def migrated(accounts: int, options: RunOptions | None = None) -> Timing:
    """How long so many accounts took, and the run with its preflight and verification."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, ENCRYPTION_KEY=KEY):
        engine = connect(f"sqlite:///{Path(folder, 'accounts.db')}", create=True)
        create_legacy_table(engine)
        insert_accounts(engine, make_accounts(accounts, 0, KEY))
        phases = Phases()
        with Migrator(engine, discover("ante_backend.migrations"), Settings(), progress=phases) as migrator:
            began = time.monotonic()
            migrator.run("001-password-bcrypt", options)
            ended = time.monotonic()
        engine.dispose()
    return Timing(phases.migrating, ended - began)
