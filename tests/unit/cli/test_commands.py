"""What each command asks of the `Migrator`, and what it prints."""

from __future__ import annotations

import gc
import signal
from dataclasses import replace

import pytest

from system_migration import records
from system_migration.cli import terminal
from system_migration.errors import Interrupted, MigrationFailed, Refused
from system_migration.records import Finding, Issue, RunOptions, StatusReport
from system_migration.states import RunKind, Status
from tests.unit.cli.stub import AT, DRY_RUN, LISTED, NAME, PULSE, REPORT, STATUS

STATUS_KEYS = [
    *("name", "version", "description", "status", "stale", "verified", "rollbackable", "executedAt", "executedBy"),
    *("finishedAt", "recordsProcessed", "issues", "error", "codeChanged", "heldBy", "waitsForSchema"),
]


def test_status_json_is_the_documented_shape(migrator, migration) -> None:
    told = migration("status", "--json")
    assert told.code == 0
    assert list(told.json) == ["environment", "migrations", "pending"]
    [entry] = told.json["migrations"]
    assert list(entry) == STATUS_KEYS
    assert entry["executedAt"] == "2025-11-22T08:10:14.123Z"


def test_status_check_exits_with_3_when_work_is_pending(migrator, migration) -> None:
    assert migration("status", "--check").code == 0
    migrator.answers["status"] = StatusReport("staging", [STATUS], [NAME])
    assert migration("status", "--check").code == 3
    assert migration("status", "--check", "--json").code == 3
    assert migration("status").code == 0


def test_status_text_is_an_aligned_table_with_notes_and_the_next_step(migrator, migration) -> None:
    going = replace(STATUS, status=Status.RUNNING, held_by="host:7", issues=0)
    others = [
        replace(STATUS, name="002-b", status=Status.RUNNING, stale=True, issues=0, verified=False),
        replace(STATUS, name="003-c", status=Status.RUNNING, stale=True, interrupted=True, issues=0, verified=False),
        replace(STATUS, name="004-d", status=Status.FAILED, error="the disk is full", issues=0, code_changed=True),
        replace(STATUS, name="005-e", status=Status.PENDING, executed_at=None, executed_by=None, issues=0),
        replace(STATUS, name="006-f", verified=False, issues=0),
        replace(STATUS, name="007-g", status=Status.RUNNING, held_by="host:7", issues=0, pulse=PULSE),
        replace(going, name="008-h", pulse=replace(PULSE, waiting="the replicas lag")),
        replace(going, name="009-i", pulse=replace(PULSE, waiting="so " * 100)),
        replace(going, name="010-j", pulse=replace(PULSE, waiting="the replicas lag"), stale=True, held_by=None),
    ]
    pending = ["002-b", "004-d", "005-e"]
    migrator.answers["status"] = StatusReport("staging", [STATUS, *others], pending, ["no code for 000-x"])
    told = migration("status")
    lines = told.out.splitlines()
    assert lines[0] == "Environment: staging"
    assert lines[2].split() == ["NAME", "STATUS", "ROWS", "STARTED", "(UTC)", "BY"]
    column = lines[2].index("STATUS")
    assert [line[column:].split("  ")[0] for line in lines[3:13]] == [
        "COMPLETED (3 held)",
        "RUNNING (stale)",
        "RUNNING (interrupted)",
        "FAILED (code changed)",
        "PENDING",
        "COMPLETED (not verified)",
        "RUNNING (worked on by host:7)",
        "RUNNING (worked on by host:7, waits: the replicas lag)",
        "RUNNING (worked on by host:7, waits: " + ("so " * 100)[:59] + "…)",
        "RUNNING (stale)",
    ]
    assert "1,197  2025-11-22 08:10:14  ada@host" in lines[3]
    assert "004-d: the disk is full" in lines
    assert lines[-1] == "Next: `migration run` would continue 002-b, then try 004-d again, then start 005-e."
    assert told.err == "warning: no code for 000-x\n"


def test_the_next_step_names_no_migration_that_waits_for_another(migrator, migration) -> None:
    waiting = replace(STATUS, name="002-b", status=Status.PENDING, waits_for=("001-a",))
    migrator.answers["status"] = StatusReport("staging", [waiting], ["002-b"])
    told = migration("status")
    assert told.out.splitlines()[-1] == "Next: 002-b waits for 001-a."


def test_one_held_row_is_looked_up_by_its_key(migrator, migration) -> None:
    assert "bad-iv" in migration("issues", NAME, "--key", '["a", 1]').out
    assert migrator.calls[-1] == ("issue_of", NAME, '["a", 1]')
    migrator.answers["issue_of"] = None
    assert migration("issues", NAME, "--key", "x").out == "No row is held.\n"
    migrator.answers["issue_of"] = ValueError()
    refused = migration("issues", NAME, "--key", "x")
    assert (refused.code, refused.out) == (2, "")
    assert "--key cannot be a key of 001-password-bcrypt" in refused.err


def test_nothing_foreign_reaches_the_terminal_unescaped(migrator, migration) -> None:
    evil = "a\nb\x1b[31mc\x9b\u202ed"
    migrator.answers["issues"] = [Issue(evil, evil, evil, AT)]
    migrator.answers["status"] = StatusReport(evil, [replace(STATUS, name=evil, error=evil, executed_by=evil)], [evil])
    migrator.answers["run"] = MigrationFailed(evil, evil)
    migrator.answers["dry_run"] = [replace(DRY_RUN, name=evil, refusal=evil, not_covered=[evil])]
    outputs = [migration("issues", NAME), migration("status"), migration("run"), migration("dry-run")]
    for told in outputs:
        text = told.out + told.err
        assert not set(text) & {"\x1b", "\x9b", "\u202e"}
        assert "\\x1b[31mc\\x9b\\u202ed" in text
    assert "a\\nb" in outputs[0].out
    assert len(outputs[0].out.splitlines()) == 2
    told = migration("issues", NAME, "--json")
    assert told.json[0]["key"] == evil
    assert told.out.isascii()


def test_issues_json_is_the_documented_shape(migrator, migration) -> None:
    told = migration("issues", NAME, "--json")
    assert told.json == [
        {"key": ["a", 1], "code": "bad-iv", "message": "the IV has 15 bytes", "at": "2025-11-22T08:10:14.123Z"}
    ]
    assert migrator.calls[-1] == ("issues", NAME)
    migrator.answers["issues"] = [Issue([b"\xff", float("nan")], "c", "m", AT)]
    assert migration("issues", NAME, "--json").json[0]["key"] == ["ff", "nan"]
    migrator.answers["issues"] = []
    assert migration("issues", NAME).out == "No row is held.\n"


def test_run_passes_its_options_on(migrator, migration) -> None:
    options = (
        "--batch-size=50",
        "--workers=4",
        "--processes=3",
        "--dask=tcp://x:1",
        "--max-rate=9.5",
        "--max-issues=0",
        "--stop-after-issues=7",
    )
    flags = ("--dask-fallback", "--wait", "--accept-code-change", "--allow-environment", "--verbose")
    assert migration("run", NAME, *options, *flags, "--executed-by", "ada").code == 0
    given = {
        "batch_size": 50,
        "workers": 4,
        "processes": 3,
        "dask": "tcp://x:1",
        "max_rate": 9.5,
        "max_issues": 0,
        "stop_after_issues": 7,
    }
    said = dict.fromkeys(("dask_fallback", "wait", "accept_code_change", "allow_environment", "verbose"), True)
    assert migrator.calls[-1] == ("run", NAME, RunOptions(**given, **said))
    assert migration("run").code == 0
    assert migrator.calls[-1] == ("run", None, RunOptions())
    assert migration("run-one", NAME).code == 0
    assert migrator.calls[-1] == ("run", NAME, RunOptions())
    assert migration("run-one").code == 2


def test_run_text_and_json(migrator, migration) -> None:
    told = migration("run")
    assert told.out.splitlines() == [
        f"{NAME}  COMPLETED  197 rows, 3 held  5.4 s  verified",
        f"See `migration issues {NAME}` for the rows that are held.",
    ]
    document = migration("run", "--json").json
    assert list(document) == ["environment", "reports"]
    assert document["reports"][0]["recordsProcessed"] == 197


def test_run_with_nothing_pending(migrator, migration) -> None:
    migrator.answers["run"] = []
    told = migration("run")
    assert (told.code, told.out) == (0, "Nothing to do: no migration is pending.\n")
    assert migration("run", "--json").json == {"environment": "staging", "reports": []}


def test_a_failed_run_shows_what_was_done_before(migrator, migration) -> None:
    error = MigrationFailed("002-b", "the disk is full")
    error.reports = [REPORT, replace(REPORT, name="002-b", status=Status.FAILED, error="the disk is full")]
    migrator.answers["run"] = error
    told = migration("run")
    assert told.code == 1
    assert NAME in told.out
    assert "the disk is full" not in told.out
    assert told.err == "migration: Migration 002-b failed: the disk is full\n"
    told = migration("run", "--json")
    assert (told.code, told.err) == (1, "")
    assert told.json["error"] == {"code": "migration-failed", "message": str(error)}
    assert len(told.json["reports"]) == 2


def test_an_interrupted_run_exits_by_the_signal(migrator, migration) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        migrator.answers["run"] = Interrupted(number)
        assert migration("run").code == code


def test_a_dry_run_tells_whether_there_is_a_way_back(migrator, migration) -> None:
    migrator.answers["dry_run"] = [replace(DRY_RUN, rollback="cannot be rolled back: it declares so.")]
    assert "  afterwards     it cannot be rolled back: it declares so.\n" in migration("dry-run").out


def test_dry_run_text(migrator, migration) -> None:
    told = migration("dry-run")
    assert told.code == 0
    assert told.out == (
        "001-password-bcrypt: dry run, no data was changed\n"
        "  rows to read   200\n"
        "  examined       100 (a sample; --full takes all)\n"
        "  would change   97\n"
        "  would be held  3\n"
        "  speed          36 rows/s with 2 workers\n"
        "  estimate       5.5 s with 2 workers\n"
        "  Rows that would be held:\n"
        "    bad-iv  3 rows  a; b; c\n"
        "  Samples (before -> after):\n"
        "    a  passwordHash  NULL -> ***\n"
        "  Changes that `prepare` would make first:\n"
        "    - add column Account.passwordHash\n"
        "  Not covered by a dry run:\n"
        "    - writes of the application meanwhile\n"
    )


@pytest.mark.parametrize(
    "arguments", [("dry-run", NAME, "--full"), ("run", NAME, "--dry-run"), ("run-one", NAME, "--dry-run")]
)
def test_a_dry_run_is_never_a_run(arguments, migrator, migration) -> None:
    assert list(migration(*arguments, "--json").json) == ["environment", "reports"]
    assert migrator.calls[-1] == ("dry_run", NAME, RunOptions(), ("full", "--full" in arguments))
    assert "run" not in migrator.verbs()


def test_a_dry_run_shows_what_a_run_would_warn_of(migrator, migration) -> None:
    migrator.answers["dry_run"] = [replace(DRY_RUN, warnings=["Trigger 'audit' acts."])]
    told = migration("dry-run")
    assert "  WARNING: Trigger 'audit' acts.\n" in told.out
    assert migration("dry-run", "--json").json["reports"][0]["warnings"] == ["Trigger 'audit' acts."]


def test_a_refusal_in_a_dry_run_exits_with_5(migrator, migration) -> None:
    migrator.answers["dry_run"] = [replace(DRY_RUN, refusal="The key is wrong.")]
    told = migration("dry-run")
    assert told.code == 5
    assert "  REFUSED: The key is wrong." in told.out
    assert told.err == f"migration: A run of {NAME} would be refused.\n"
    told = migration("dry-run", "--json")
    assert told.code == 5
    assert told.json["error"]["code"] == "refused"
    assert "The key is wrong." in told.json["error"]["message"]
    assert told.json["reports"][0]["refusal"] == "The key is wrong."
    migrator.answers["dry_run"] = [replace(DRY_RUN, error="transform broke")]
    assert migration("dry-run").code == 1


def test_verify_fails_when_one_does_not_hold(migrator, migration) -> None:
    assert migration("verify").code == 0
    bad = replace(REPORT, name="002-b", kind=RunKind.VERIFY, verified=False, error="2 hashes are malformed")
    migrator.answers["verify"] = [REPORT, bad]
    told = migration("verify")
    assert told.code == 1
    assert "002-b: 2 hashes are malformed" in told.out
    assert told.err == "migration: 1 of 2 migrations did not verify.\n"
    assert migration("verify", "--json").json["error"]["code"] == "verification-failed"
    migrator.answers["verify"] = []
    assert migration("verify").code == 0


def test_rollback_by_name_and_of_the_last_one(migrator, migration) -> None:
    assert migration("rollback", NAME).code == 0
    assert migrator.calls[-1] == ("rollback", NAME, RunOptions())
    told = migration("rollback")
    assert told.code == 5
    assert f"migration rollback {NAME}" in told.err
    assert migrator.verbs().count("rollback") == 1
    assert migration("rollback", "--yes").code == 0
    assert migrator.calls[-1] == ("rollback", NAME, RunOptions())
    migrator.answers["last_completed"] = None
    assert migration("rollback", "--yes").out == "Nothing to do: no migration is completed.\n"


def test_a_dry_run_of_a_rollback_changes_nothing_and_lists_the_rows(migrator, migration) -> None:
    told = migration("rollback", "--dry-run")
    assert (told.code, migrator.verbs()) == (0, ["open", "last_completed", "dry_rollback"])
    assert told.out.startswith(f"{NAME}: dry run of a rollback, no data was changed\n")
    assert "17" in told.out
    assert "changed_since  3 rows  a; b; c" in told.out
    migrator.answers["dry_rollback"] = replace(DRY_RUN, refusal="Its journal was pruned.")
    told = migration("rollback", NAME, "--dry-run")
    assert told.code == 5
    assert "REFUSED: Its journal was pruned." in told.out
    assert migration("rollback", NAME, "--dry-run", "--json").json["error"]["code"] == "refused"


def test_rows_that_a_rollback_left_as_they_are_are_pointed_at(migrator, migration) -> None:
    told = migration("rollback", NAME)
    assert "197 rows, 3 not restored" in told.out
    assert f"See `migration issues {NAME}` for the rows that were not restored." in told.out


def test_prune_says_what_is_lost(migrator, migration, at_terminal) -> None:
    told = migration("prune", NAME)
    assert told.out == (f"Deleted the journal of {NAME}: 1,197 changes in 2 parts. It can no longer be rolled back.\n")
    assert migration("prune", NAME, "--json").json == {"name": NAME, "rows": 1197, "parts": 2}
    migrator.environment = "production"
    assert migration("prune", NAME).code == 5
    assert migrator.verbs().count("prune") == 2
    at_terminal("production")
    assert migration("prune", NAME).code == 0


def test_status_says_that_a_journal_was_pruned(migrator, migration) -> None:
    migrator.answers["status"] = StatusReport("staging", [replace(STATUS, unjournalled=True)], [])
    assert "cannot be rolled back, its journal was pruned" in migration("status").out


def test_a_dry_run_says_how_large_the_journal_becomes(migrator, migration) -> None:
    assert "journal" not in migration("dry-run").out
    migrator.answers["dry_run"] = [replace(DRY_RUN, journal_bytes=3_500_000)]
    assert "about 3.3 MiB, for an automatic rollback" in migration("dry-run").out


def test_rollback_of_the_last_one_is_confirmed_on_a_terminal(migrator, migration, at_terminal) -> None:
    at_terminal("n")
    assert migration("rollback").code == 5
    assert "rollback" not in migrator.verbs()
    at_terminal("y")
    told = migration("rollback")
    assert told.code == 0
    assert f"Roll back {NAME}, the last completed migration in staging?" in told.err


@pytest.mark.parametrize("arguments", [("run",), ("run", NAME), ("run-one", NAME), ("rollback", NAME), ("rollback",)])
def test_production_needs_a_confirmation(arguments, migrator, migration, at_terminal) -> None:
    migrator.environment = "production"
    verb = "rollback" if arguments[0] == "rollback" else "run"
    told = migration(*arguments)
    assert told.code == 5
    assert "--yes" in told.err
    at_terminal("productoin")
    assert migration(*arguments).code == 5
    assert verb not in migrator.verbs()
    at_terminal("production")
    assert migration(*arguments).code == 0
    assert migrator.verbs().count(verb) == 1
    at_terminal(None)
    assert migration(*arguments, "--yes").code == 0
    assert migrator.verbs().count(verb) == 2


def test_whoever_must_agree_is_told_when_there_is_no_way_back(migrator, migration, monkeypatch) -> None:
    migrator.environment = "production"
    back = replace(LISTED, name="004-and-back", rollbackable=True)
    monkeypatch.setattr(migrator.registry, "listed", lambda: [replace(LISTED, name="003-forward"), back])
    assert "to run 003-forward, which cannot be rolled back, in production, give --yes" in (
        migration("run", "003-forward").err
    )
    assert "to run 004-and-back in production, give --yes" in migration("run", "004-and-back").err
    assert "to run the pending migrations in production, give --yes" in migration("run").err


def test_production_refusal_is_a_document_under_json(migrator, migration) -> None:
    migrator.environment = "production"
    told = migration("run", "--json")
    assert told.code == 5
    assert told.json["error"]["code"] == "refused"


def test_production_with_nothing_pending_asks_nothing(migrator, migration) -> None:
    migrator.environment = "production"
    migrator.answers["pending"] = []
    told = migration("run")
    assert (told.code, told.out) == (0, "Nothing to do: no migration is pending.\n")
    assert "run" not in migrator.verbs()


def test_a_dry_run_in_production_asks_nothing(migrator, migration) -> None:
    migrator.environment = "production"
    assert migration("dry-run").code == 0
    assert migration("run", "--dry-run").code == 0


@pytest.mark.parametrize("verb", ["skip", "reset"])
def test_skip_and_reset_need_a_reason(verb, migrator, migration) -> None:
    assert migration(verb, NAME).code == 2
    told = migration(verb, NAME, "--reason", "not needed here", "--allow-environment")
    assert told.code == 0
    assert migrator.calls[-1] == (verb, NAME, "not needed here", ("allow_environment", True))
    assert list(migration(verb, NAME, "--reason", "x", "--json").json) == STATUS_KEYS


def test_the_lists(migrator, migration) -> None:
    assert migration("pending").out == f"{NAME}\n"
    assert migration("pending", "--json").json == [NAME]
    assert migration("list", "--json").json[0]["requires"] == []
    assert NAME in migration("list").out
    assert migrator.verbs() == ["open", "pending"] * 2
    assert migration("history", "--limit", "5").code == 0
    assert migrator.calls[-1] == ("history", None, 5)
    assert migration("history", NAME, "--json").json[0]["kind"] == "run"
    told = migration("logs", NAME, "--run", "r1", "--level", "warning", "--limit", "9")
    assert told.out == "2025-11-22 08:10:14  INFO  batch 1 committed\n"
    assert migrator.calls[-1] == ("logs", NAME, ("run_id", "r1"), ("level", "warning"), ("limit", 9))


@pytest.mark.skipif(not hasattr(records, "Shown"), reason="the record is being written")
def test_show(migrator, migration) -> None:
    told = migration("show", NAME)
    assert told.code == 0
    assert "generation" in told.out
    assert set(migration("show", NAME, "--json").json) >= {"status", "listed", "runs", "generation", "report", "events"}


def test_init_and_adopt(migrator, migration) -> None:
    assert migration("init").out == "Created the tracking tables; the database belongs to environment staging.\n"
    assert migrator.calls[-2][2]["create"] is True
    assert migration("init", "--json").json == {"environment": "staging", "created": True}
    told = migration("init", "--sql")
    assert told.out == "CREATE TABLE system_migration_meta (...);\n"
    assert migrator.verbs().count("init") == 2
    assert migration("adopt").out == "The database now belongs to staging.\n"


def test_doctor_reports_also_what_cannot_be_opened(migrator, migration, monkeypatch) -> None:
    assert migration("doctor").code == 0
    migrator.answers["doctor"] = [Finding("warning", "a", "b"), Finding("problem", "c", "do this")]
    assert migration("doctor").code == 1
    migrator.answers["doctor"] = Refused("no")
    told = migration("doctor", "--json")
    assert told.code == 1
    assert told.json == {"ok": False, "findings": [{"level": "problem", "subject": "database", "message": "no"}]}
    monkeypatch.setenv("LOG_FORMAT", "xml")
    assert migration("doctor", "--json").json["findings"][0]["subject"] == "settings"


def test_what_a_migration_prints_does_not_spoil_the_document(migrator, migration) -> None:
    def talkative(name, options):
        print("hello from a migration")
        return [REPORT]

    migrator.run = talkative
    told = migration("run", "--json")
    assert told.json["reports"]
    assert "hello from a migration" in told.err


def test_the_first_signal_asks_for_a_stop_and_the_second_ends_at_once(migrator, migration, monkeypatch) -> None:
    ended = []
    monkeypatch.setattr(terminal.os, "_exit", ended.append)

    def run(name, options):
        signal.raise_signal(signal.SIGTERM)
        assert (ended, migrator.calls[-1]) == ([], ("request_stop", signal.SIGTERM))
        signal.raise_signal(signal.SIGINT)
        raise Interrupted(signal.SIGTERM)

    migrator.run = run
    before = signal.getsignal(signal.SIGTERM)
    told = migration("run")
    assert ended == [130]
    assert told.code == 143
    assert "stopping after the batch in flight; again to stop at once" in told.err
    assert signal.getsignal(signal.SIGTERM) is before
    assert gc.isenabled()
