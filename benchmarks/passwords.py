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
from system_migration import Migrator, Settings, connect, discover

ACCOUNTS = 1_200
LIMIT_HASHES = 300
_COST = 10
_KEY = "benchmark key, protects nothing"


class _Phases:
    """A progress that only notes when each phase began."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}

    def phase(self, migration: str, phase: str) -> None:
        self.began[phase] = time.perf_counter()

    def rows(self, done: int, total: int | None, held: int) -> None: ...
    def waiting(self, reason: str) -> None: ...


def measure() -> Iterator[str]:
    """Accounts a second while migrating, beside bare hashing on all cores just before and just after."""
    before = _bare_hashes_per_second()
    migrating, whole = _accounts_per_second()
    limit = (before + _bare_hashes_per_second()) / 2
    yield f"bare bcrypt, cost {_COST}, all cores   {limit:8.1f} hashes/s"
    share = migrating / limit
    yield f"001-password-bcrypt, migrating     {migrating:8.1f} accounts/s   {share:.3f} of the limit (goal 0.95)"
    yield f"  with preflight and verification  {whole:8.1f} accounts/s   {whole / limit:.3f} of the limit"


def _bare_hashes_per_second() -> float:
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        began = time.perf_counter()
        list(pool.map(lambda _: bcrypt.hashpw(b"a password", bcrypt.gensalt(_COST)), range(LIMIT_HASHES)))
        return LIMIT_HASHES / (time.perf_counter() - began)


def _accounts_per_second() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, ENCRYPTION_KEY=_KEY):
        engine = connect(f"sqlite:///{Path(folder, 'accounts.db')}", create=True)
        create_legacy_table(engine)
        insert_accounts(engine, make_accounts(ACCOUNTS, 0, _KEY))
        phases = _Phases()
        with Migrator(engine, discover("ante_backend.migrations"), Settings(), progress=phases) as migrator:
            began = time.perf_counter()
            migrator.run("001-password-bcrypt")
            ended = time.perf_counter()
        engine.dispose()
    return ACCOUNTS / (phases.began["verifying"] - phases.began["migrating"]), ACCOUNTS / (ended - began)
