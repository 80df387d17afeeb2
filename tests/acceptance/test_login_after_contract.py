"""Logging in while the reversible passwords are deleted, and afterwards without the key."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from system_migration import RunOptions, Status
from tests.support.accounts import DROP, KEY, both
from tests.support.backend import Backend, account_database, configuration

PASSWORD = "the right password"
ACCOUNTS = 8


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("ENCRYPTION_KEY", KEY)
    monkeypatch.setenv("LEGACY_OBSERVATION_DAYS", "0")
    with account_database(request.param, tmp_path, request) as url:
        yield url


def test_nobody_is_locked_out_and_nobody_needs_the_key(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Backend(configuration(url)) as backend, both(backend.engine) as m:
        names = [backend.add(PASSWORD) for _ in range(ACCOUNTS)]
        m.run()
        tokens = {name: backend.token(name) for name in names}
        changing, failures = names[::2], list[str]()

        def change_passwords() -> None:
            for name in changing:
                if backend.change_password(tokens[name], PASSWORD, f"new {name}").status_code >= 300:
                    failures.append(name)

        busy = threading.Thread(target=change_passwords)
        busy.start()
        (report,) = m.run(DROP, RunOptions(batch_size=2, workers=1))
        busy.join()
        assert failures == []
        assert (report.status, report.verified, report.issues) == (Status.COMPLETED, True, 0)
        assert all((backend.row(name)["password"], backend.row(name)["key"]) == (None, None) for name in names)
        stayed = names[1]
        assert backend.me(tokens[stayed]).status_code == 200  # a cleared ciphertext is no other password

    monkeypatch.delenv("ENCRYPTION_KEY")
    with Backend(configuration(url, encryption_key=None, encryption_keys_old=())) as backend:
        for name in names:
            newest, former = (f"new {name}", PASSWORD) if name in changing else (PASSWORD, "another password")
            assert backend.log_in(name, newest).status_code == 200
            assert backend.log_in(name, former).status_code == 401
