"""The audit chain as an operator and a developer meet it: on the command line, over HTTP, on the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.chains import KEY, OTHER

SECRET, OTHER_SECRET = KEY.secret.decode(), OTHER.secret.decode()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/own.sqlite")
    monkeypatch.setenv("MIGRATION_ENVIRONMENT", "test")
    monkeypatch.setenv("MIGRATION_AUDIT_KEY", SECRET)
    return tmp_path


def call(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    from system_migration.cli.main import main

    code = main(list(arguments))
    told = capfd.readouterr()
    assert SECRET not in told.out + told.err
    return code, told.out, told.err


def test_a_chain_is_begun_exported_checked_and_found_cut(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def audit(*arguments: str) -> tuple[int, str, str]:
        return call(capfd, "audit", *arguments)

    assert call(capfd, "init")[0] == 0
    assert audit("verify") == (0, "The audit chain is empty: no event was recorded yet.\n", "")
    assert audit("rekey") == (0, f"From here on the audit chain is signed with the key {KEY.id}.\n", "")
    code, _, told = audit("rekey")
    assert (code, "already" in told) == (5, True)
    code, told, _ = audit("export", "--output", "audit.jsonl", "--json")
    assert (code, json.loads(told)) == (0, {"file": "audit.jsonl", "lines": 2})
    assert [each.name for each in here.iterdir() if "audit" in each.name] == ["audit.jsonl"]
    assert audit("export")[1] == (here / "audit.jsonl").read_text()
    for more in ([], ["--head", "audit.jsonl"], ["--file", "audit.jsonl"]):
        code, told, _ = audit("verify", *more)
        assert (code, told) == (0, "The audit chain holds up to event 1: 1 signed event.\n")
    changed = (here / "audit.jsonl").read_text().replace('"actor": "', '"actor": "e')
    (here / "changed.jsonl").write_text(changed)
    code, told, _ = audit("verify", "--file", "changed.jsonl", "--json")
    document: dict[str, Any] = json.loads(told)
    assert (code, document["intact"], document["at"]) == (1, False, 1)
    assert document["broken"].startswith("Event 1 (sealed by e")
    monkeypatch.setenv("MIGRATION_AUDIT_KEY", OTHER_SECRET)
    code, _, told = audit("verify")
    assert (code, "The key does not match" in told) == (2, True)
    monkeypatch.delenv("MIGRATION_AUDIT_KEY")
    code, _, told = audit("verify", "--head", "audit.jsonl")
    assert (code, "Set MIGRATION_AUDIT_KEY" in told) == (2, True)


def test_a_file_that_cannot_be_written_is_refused_and_nothing_is_left(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    call(capfd, "init")
    code, _, told = call(capfd, "audit", "export", "--output", "nowhere/audit.jsonl")
    assert (code, "nowhere/audit.jsonl cannot be written" in told) == (2, True)
