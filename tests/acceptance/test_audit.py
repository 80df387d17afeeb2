"""The audit chain as an operator and a developer meet it: on the command line, over HTTP, on the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from system_migration.errors import ConfigurationError
from system_migration.whole_files import write_whole
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


def test_an_export_that_is_there_is_replaced_only_where_that_was_said(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    call(capfd, "init")
    kept = here / "audit.jsonl"
    kept.write_text("last night's\n")
    export = ("audit", "export", "--output", "audit.jsonl")
    told = "audit.jsonl is there already. Name another file, or replace it with --overwrite."
    code, out, err = call(capfd, *export)
    assert (code, out, told in err) == (2, "", True)
    assert kept.read_text() == "last night's\n"
    assert call(capfd, *export, "--overwrite")[0] == 0
    assert '"head"' in kept.read_text()
    assert call(capfd, "audit", "export", "--overwrite")[0] == 2
    assert [each.name for each in here.iterdir() if "audit" in each.name] == ["audit.jsonl"]


def test_a_file_that_appears_while_an_export_is_written_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "audit.jsonl"

    def lines() -> Iterator[str]:
        target.write_text("another's")
        yield "ours"

    with pytest.raises(ConfigurationError, match="is there already"):
        write_whole(target, lines())
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("audit.jsonl", "another's")]


def test_a_head_from_a_file_that_is_not_there_is_told_so(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    call(capfd, "init")
    code, _, told = call(capfd, "audit", "verify", "--head", "nofile")
    assert code == 2
    assert "nofile cannot be read (No such file or directory). Give the file of an export, or the text of its" in told


def test_an_approval_is_given_or_taken_back_and_not_both(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, told = call(capfd, "approve", "001-any", "--report", "0" * 12, "--withdraw")
    assert (code, "Give --report HASH or --withdraw, not both." in told) == (2, True)
