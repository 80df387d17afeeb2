"""pause, cancel, resume, retry, a part of the keys, and the batches: what is asked, and what is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from system_migration.errors import Cancelled, Paused, Refused, UnreadableKey
from system_migration.records import RunOptions, StatusReport
from system_migration.states import Status
from tests.unit.cli.stub import BATCH, NAME, REPORT, STATUS


def test_a_pause_that_the_runner_has_yet_to_obey(migrator, migration) -> None:
    told = migration("pause", NAME)
    assert (told.code, told.out) == (
        0,
        f"{NAME} was asked to pause; its runner obeys within a batch. "
        "If it died a moment ago, ask again when its lease is over (MIGRATION_LEASE_SECONDS).\n",
    )
    assert migrator.calls[-1] == ("pause", NAME, ("allow_environment", False))
    assert migration("pause", NAME, "--json").json["status"] == "RUNNING"


def test_a_cancel_that_was_done_at_once(migrator, migration) -> None:
    told = migration("cancel", NAME, "--allow-environment")
    assert (told.code, told.out) == (0, f"{NAME} is now FAILED.\n")
    assert migrator.calls[-1] == ("cancel", NAME, ("allow_environment", True))


@pytest.mark.parametrize("verb", ["pause", "cancel", "resume", "retry"])
def test_a_refusal_exits_with_5_and_its_sentence(verb, migrator, migration) -> None:
    migrator.answers[verb] = Refused("Nothing runs.")
    told = migration(verb, NAME)
    assert told.code == 5
    assert told.err == "migration: Nothing runs.\n"


@pytest.mark.parametrize("verb", ["resume", "retry"])
def test_resume_and_retry_take_the_options_of_a_start(verb, migrator, migration) -> None:
    told = migration(verb, NAME, "--workers", "2", "--max-rows", "9", "--allow-scan", "--accept-code-change")
    assert told.code == 0
    assert told.out.startswith(f"{NAME}  COMPLETED")
    options = RunOptions(workers=2, max_rows=9, allow_scan=True, accept_code_change=True)
    assert migrator.calls[-1] == (verb, NAME, options)


def test_a_retry_may_be_of_chosen_rows(migrator, migration) -> None:
    assert migration("retry", NAME, "--key", "7", "--key", '["a", 1]').code == 0
    assert migrator.calls[-1] == ("retry", NAME, RunOptions(keys=("7", '["a", 1]')))
    migrator.answers["retry"] = UnreadableKey(NAME)
    told = migration("retry", NAME, "--key", "x")
    assert (told.code, told.err) == (2, f"migration: {UnreadableKey(NAME)}\n")


@pytest.mark.parametrize("verb", ["resume", "retry"])
def test_resume_and_retry_are_confirmed_in_production(verb, migrator, migration) -> None:
    migrator.environment = "production"
    assert migration(verb, NAME).code == 5
    assert verb not in migrator.verbs()
    assert migration(verb, NAME, "--yes").code == 0


def test_a_pause_that_was_taken_back_in_time(migrator, migration) -> None:
    migrator.answers["resume"] = None
    told = migration("resume", NAME)
    assert (told.code, told.out) == (0, "It still runs, and goes on: the pause that was asked for is taken back.\n")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            Paused(NAME, "ada asked for it.", f"Go on with `migration resume {NAME}`."),
            f"Migration {NAME} paused: ada asked for it. Go on with `migration resume {NAME}`.",
        ),
        (
            Cancelled(NAME, "ada"),
            f"Migration {NAME} was cancelled by ada. What is committed stays; `migration run {NAME}` continues, "
            "nothing else starts it.",
        ),
    ],
)
def test_the_run_that_was_stopped_exits_with_1_and_says_by_whom(error, sentence, migrator, migration) -> None:
    migrator.answers["run"] = error
    told = migration("run")
    assert (told.code, told.err) == (1, f"migration: {sentence}\n")


def test_status_tells_what_was_asked_and_by_whom(migrator, migration) -> None:
    others = [
        replace(STATUS, name="002-b", status=Status.RUNNING, request="pause", requested_by="ada", issues=0),
        replace(STATUS, name="003-c", status=Status.FAILED, cancelled=True, requested_by="ada", issues=0),
    ]
    migrator.answers["status"] = StatusReport("staging", others, [])
    told = migration("status")
    assert "RUNNING (pause asked for by ada)" in told.out
    assert "FAILED (cancelled by ada)" in told.out


def test_a_part_of_the_keys(migrator, migration) -> None:
    note = "Keys 10 to 20 are done; 3 rows outside of them remain. `migration run 001` does the rest."
    migrator.answers["run"] = [replace(REPORT, status=Status.PAUSED, issues=0, metadata={"note": note})]
    told = migration("run", NAME, "--from-key", "10", "--to-key", "20", "--max-rows", "5", "--allow-scan")
    assert told.code == 0
    assert f"{NAME}: {note}" in told.out
    options = RunOptions(from_key="10", to_key="20", max_rows=5, allow_scan=True)
    assert migrator.calls[-1] == ("run", NAME, options)


@pytest.mark.parametrize("arguments", [("run", NAME, "--dry-run"), ("run-one", NAME, "--dry-run")])
def test_a_dry_run_has_no_part(arguments, migrator, migration) -> None:
    told = migration(*arguments, "--from-key", "10")
    assert told.code == 2
    assert "--from-key" in told.err
    assert migrator.calls == []


def test_batches_as_a_table_and_as_a_document(migrator, migration) -> None:
    told = migration("history", NAME, "--batches", "--run", "r1", "--limit", "5")
    assert migrator.calls[-1] == ("batches", NAME, ("run_id", "r1"), ("limit", 5))
    heading, line = told.out.splitlines()
    assert heading.split() == [
        *("COMMITTED", "(UTC)", "GENERATION", "PASS", "BATCHES", "ROWS", "CHANGED", "HELD", "DEFERRED", "VANISHED"),
        *("SECONDS", "RUN"),
    ]
    assert line.split() == ["2025-11-22", "08:10:14", "1", "1", "12", "500", "497", "3", "1", "2", "0.25", "r1"]
    [document] = migration("history", NAME, "--batches", "--json").json
    assert list(document)[:4] == ["passNumber", "range", "rows", "changed"]
    assert document["batches"] == BATCH.batches
    migrator.answers["batches"] = []
    assert migration("history", NAME, "--batches").out == "There are no batches.\n"


@pytest.mark.parametrize("arguments", [("--batches",), (NAME, "--run", "r1")])
def test_batches_need_a_name_and_a_run_needs_batches(arguments, migrator, migration) -> None:
    assert migration("history", *arguments).code == 2
    assert migrator.calls == []
