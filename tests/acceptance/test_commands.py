"""Every command as a process: exit codes, what stands on stdout and stderr, and the JSON documents."""

from __future__ import annotations

import json
import re
import shutil
import signal
from datetime import datetime
from typing import Any

import pytest

from tests.acceptance.conftest import MakeProject
from tests.support.command import ENVIRONMENT, Environ, Project
from tests.support.workload import INCREMENT, MARK, ONCE, ROWS, increments, prepare

MARK_FILE = ("001_mark", MARK)
INCREMENT_FILE = ("002_increment", INCREMENT)

JSON_LINES = {"LOG_FORMAT": "json"}
PENDING = """
from system_migration import BatchMigration


class Fill(BatchMigration):
    name = "001-fill"
    table = "item"
    reads = ("id",)
    writes = ("note",)

    def pending(self, t):
        return t.c.note.is_(None)

    def transform(self, row):
        return {"note": "filled"}
"""

STATUS_FIELDS = [
    *("name", "version", "description", "status", "stale", "verified", "rollbackable", "executedAt", "executedBy"),
    *("finishedAt", "recordsProcessed", "issues", "error", "codeChanged", "heldBy", "waitsForSchema"),
]
REPORT_FIELDS = {
    *("name", "kind", "status", "verified", "recordsProcessed", "issues", "unchanged", "vanished"),
    *("changedMeanwhile", "seconds", "runId", "error", "metadata"),
}
PROGRESS = ("preflight", "migrating", "verifying")


def is_time(text: str) -> bool:
    return text.endswith("Z") and datetime.fromisoformat(text) is not None


def failing(name: str, body: str) -> str:
    """A migration file whose `up` is `body`."""
    return f"""
from system_migration import Migration, MigrationResult, Refused

class Failing(Migration):
    name = "{name}"
    def up(self, context):
        {body}
"""


# The central commands, on every database


def test_a_life_from_pending_to_rolled_back(project: Project) -> None:
    prepare(project, MARK_FILE, INCREMENT_FILE)

    first = project.run("status", "--check", "--json", code=3)
    assert first.err == ""
    assert list(first.document) == ["environment", "migrations", "pending"]
    assert first.document["environment"] == ENVIRONMENT
    assert first.document["pending"] == ["001-mark", "002-increment"]
    assert [list(m) for m in first.document["migrations"]] == [STATUS_FIELDS, STATUS_FIELDS]
    assert first.document["migrations"][1] == {
        "name": "002-increment",
        "version": "2.1.0",
        "description": "Add one to every item",
        "status": "PENDING",
        "stale": False,
        "verified": False,
        "rollbackable": False,
        "executedAt": None,
        "executedBy": None,
        "finishedAt": None,
        "recordsProcessed": 0,
        "issues": 0,
        "error": None,
        "codeChanged": False,
        "heldBy": None,
        "waitsForSchema": None,
    }

    ran = project.run("run", "--executed-by", "the operator")
    assert [line.split()[:2] for line in ran.out.splitlines()[:2]] == [
        ["001-mark", "COMPLETED"],
        ["002-increment", "COMPLETED"],
    ]
    assert "19 rows, 1 held" in ran.out
    assert ran.out.count("verified") == 2
    for word in PROGRESS:
        assert word in ran.err
        assert word not in ran.out
    assert "a migration may print" in ran.err
    assert "a migration may print" not in ran.out
    assert increments(project) == ONCE

    status = project.run("status", "--check", "--json").document
    assert status["pending"] == []
    done = status["migrations"][1]
    assert (done["status"], done["verified"], done["recordsProcessed"], done["issues"]) == ("COMPLETED", True, 19, 1)
    assert (done["executedBy"], done["heldBy"], done["error"], done["stale"]) == ("the operator", None, None, False)
    assert is_time(done["executedAt"])
    assert is_time(done["finishedAt"])

    (issue,) = project.json("issues", "002-increment")
    assert list(issue) == ["key", "code", "message", "at"]
    assert (issue["key"], issue["code"], issue["message"]) == (13, "unlucky", "thirteen stays as it is")
    assert is_time(issue["at"])

    verified = project.json("verify")
    assert [(r["name"], r["kind"], r["verified"]) for r in verified["reports"]] == [
        ("001-mark", "verify", True),
        ("002-increment", "verify", True),
    ]

    assert project.run("run").out == "Nothing to do: no migration is pending.\n"
    assert increments(project) == ONCE

    assert "cannot be rolled back" in project.run("rollback", "002-increment", code=5).err
    undone = project.json("rollback", "001-mark")
    assert set(undone["reports"][0]) == REPORT_FIELDS
    assert undone["reports"][0]["status"] == "ROLLED_BACK"
    assert project.sql("SELECT count(*) FROM item WHERE note IS NOT NULL") == [(0,)]
    assert project.status("001-mark")["status"] == "ROLLED_BACK"

    runs = project.json("history")
    assert [(r["migration"], r["kind"], r["outcome"]) for r in runs] == [
        ("001-mark", "rollback", "succeeded"),
        ("002-increment", "verify", "succeeded"),
        ("001-mark", "verify", "succeeded"),
        ("002-increment", "run", "succeeded"),
        ("001-mark", "run", "succeeded"),
    ]
    assert runs[3]["recordsProcessed"] == 19
    assert runs[3]["executedBy"] == "the operator"

    lines = project.json("logs", "001-mark")
    assert [set(line) for line in lines] == [{"at", "level", "message", "runId"}] * len(lines)
    assert ("info", "marking") in [(line["level"].lower(), line["message"]) for line in lines]


def test_one_that_raises_exits_1_says_why_and_leaves_nothing(project: Project) -> None:
    body = """context.connection.exec_driver_sql("UPDATE item SET y = 0")
        raise RuntimeError("the gizmo is gone")"""
    prepare(project, ("001_broken", failing("001-broken", body)))
    ran = project.run("run", "--json", code=1)
    assert ran.document["error"]["code"] == "migration-failed"
    assert "the gizmo is gone" in ran.document["error"]["message"]
    assert set(increments(project).values()) == {0}
    status = project.status("001-broken")
    assert status["status"] == "FAILED"
    assert "the gizmo is gone" in status["error"]
    assert "the gizmo is gone" in project.run("status").out


def test_a_second_runner_exits_4_and_says_who_runs_and_wait_waits(project: Project) -> None:
    prepare(project, INCREMENT_FILE, open_gate=False)
    with project.start("run", "--executed-by", "runner one") as one:
        project.wait_at("transform", one)
        refused = project.run("run", code=4)
        assert "is being run by runner one" in refused.err
        document = project.json("run", "002-increment", code=4)
        assert document["error"]["code"] == "held-elsewhere"
        assert "runner one" in document["error"]["message"]
        status = project.status("002-increment")
        assert (status["status"], status["stale"]) == ("RUNNING", False)
        assert "runner one" in status["heldBy"]
        with project.start("run", "--wait") as two:
            two.wait_for("is being run by runner one")
            assert one.going
            project.open("transform")
            assert one.end().code == 0
            ended = two.end()
    assert (ended.code, ended.out) == (0, "Nothing to do: no migration is pending.\n")
    assert increments(project) == ONCE
    assert len(project.json("history")) == 1


def stop_in_the_middle(project: Project, number: signal.Signals) -> None:
    """A signal while a row is transformed: the batch in flight is finished, the next run does the rest."""
    prepare(project, INCREMENT_FILE, open_gate=False)
    with project.start("run", "--batch-size", "5", "--workers", "1") as running:
        project.wait_at("transform", running)
        running.signal(number)
        running.wait_for("stopping after the batch in flight")
        project.open("transform")
        ended = running.end()
    assert ended.code == 128 + number, ended
    assert f"Stopped by {number.name} at a clean checkpoint" in ended.err
    assert [identity for identity, by in increments(project).items() if by] == list(range(1, 11))

    assert "RUNNING (interrupted)" in project.run("status").out
    status = project.run("status", "--check", "--json", code=3).document
    assert status["pending"] == ["002-increment"]
    (stopped,) = status["migrations"]
    assert (stopped["status"], stopped["stale"], stopped["heldBy"]) == ("RUNNING", True, None)

    assert project.json("run")["reports"][0]["recordsProcessed"] == 19
    assert increments(project) == ONCE
    assert project.status("002-increment")["status"] == "COMPLETED"


def test_sigterm_ends_at_a_clean_checkpoint_and_the_next_run_continues(project: Project) -> None:
    stop_in_the_middle(project, signal.SIGTERM)


def test_ctrl_c_does_too(sqlite_project: Project) -> None:
    stop_in_the_middle(sqlite_project, signal.SIGINT)


def test_one_that_waits_heeds_a_signal_too(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, INCREMENT_FILE, open_gate=False)
    with project.start("run") as one:
        project.wait_at("transform", one)
        with project.start("run", "--wait") as two:
            two.wait_for("is being run by")
            two.signal(signal.SIGTERM)
            assert two.end().code == 143
        project.open("transform")
        assert one.end().code == 0
    assert increments(project) == ONCE


def test_a_second_signal_stops_at_once_and_still_safely(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, INCREMENT_FILE, open_gate=False)
    with project.start("run", "--batch-size", "5", "--workers", "1", env={"MIGRATION_LEASE_SECONDS": "0.5"}) as running:
        project.wait_at("transform", running)
        running.signal(signal.SIGTERM)
        running.wait_for("stopping after the batch in flight")
        running.signal(signal.SIGTERM)
        assert running.end().code == 143
    project.open("transform")
    project.run("run", "--wait", env={"MIGRATION_LEASE_SECONDS": "0.5"})
    assert increments(project) == ONCE


# Exit code 1


def test_verification_that_does_not_hold_exits_1(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, ("001_mark", MARK.replace("note = 'marked'", "note = NULL")))
    ran = project.run("run", code=1)
    assert "verify() did not return True" in ran.err
    status = project.status("001-mark")
    assert (status["status"], status["verified"]) == ("FAILED", False)


def test_verify_finds_what_was_damaged_later(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, MARK_FILE)
    project.run("run")
    project.sql("UPDATE item SET note = NULL WHERE id = 7")
    document = project.json("verify", "001-mark", code=1)
    assert document["error"]["code"] == "verification-failed"
    assert document["reports"][0]["verified"] is False
    assert "1 of 1 migration did not verify" in project.run("verify", code=1).err
    assert "COMPLETED (not verified)" in project.run("status").out


def test_success_false_fails_like_an_exception(sqlite_project: Project) -> None:
    body = """context.connection.exec_driver_sql("UPDATE item SET y = 0")
        return MigrationResult(success=False, error="half of it was missing")"""
    prepare(sqlite_project, ("001_sad", failing("001-sad", body)))
    assert "half of it was missing" in sqlite_project.run("run", code=1).err
    assert set(increments(sqlite_project).values()) == {0}


def test_more_held_rows_than_allowed_fail_the_run_and_can_be_accepted(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, ("002_increment", INCREMENT.replace("max_issues = 1", "max_issues = 0")))
    assert "--max-issues 1" in project.run("run", code=1).err
    assert project.status("002-increment")["status"] == "FAILED"
    project.run("run", "--max-issues", "1")
    assert project.status("002-increment")["status"] == "COMPLETED"
    assert increments(project) == ONCE


def test_a_failure_is_told_once_on_stderr_and_completely_in_json_lines(sqlite_project: Project) -> None:
    project, reason = sqlite_project, "half of it was missing"
    prepare(project, ("001_sad", failing("001-sad", f'return MigrationResult(success=False, error="{reason}")')))
    assert project.run("run", code=1).err.count(reason) == 1
    records = [
        json.loads(line) for line in project.run("run", code=1, env=JSON_LINES).err.splitlines() if line[0] == "{"
    ]
    (ended,) = [record for record in records if reason in record["message"]]
    assert (ended["level"], ended["action"], ended["migration"]) == ("error", "run.ended", "001-sad")
    with_document = project.run("run", "--json", code=1)
    assert reason in with_document.err  # no sentence stands there
    assert reason in with_document.document["error"]["message"]


# Exit code 2


def test_a_key_that_is_none_is_a_mistake_in_the_command(sqlite_project: Project) -> None:
    prepare(sqlite_project, ("001_fill", PENDING))
    ended = sqlite_project.run("run", "001-fill", "--from-key", "abc", code=2)
    assert "--from-key cannot be read as a key of table 'item': a value of type int is expected." in ended.err
    assert sqlite_project.status("001-fill")["status"] == "PENDING"


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        (["status"], {"DATABASE_URL": None}, "DATABASE_URL is not set"),
        (["run"], {"DATABASE_URL": None, "MIGRATION_ENVIRONMENT": "production"}, "DATABASE_URL is not set"),
        (["status"], {"DATABASE_URL": "mongodb://here/there"}, "mongodb"),
        (["status"], {"DATABASE_URL": "no address at all"}, "database URL"),
        (["run"], {"DATABASE_URL": "sqlite:////nowhere/at-all.db"}, "/nowhere/at-all.db does not exist"),
        (["run", "007-nobody"], {}, "There is no migration named '007-nobody'"),
        (["issues", "007-nobody"], {}, "There is no migration named '007-nobody'"),
        (["run", "--batch-size", "0"], {}, "--batch-size"),
        (["run", "--no-such-option"], {}, "--no-such-option"),
        (["status", "too", "many"], {}, "unexpected extra argument"),
        (["skip", "001-mark"], {}, "--reason"),
        (["stauts"], {}, "Did you mean status?"),
        (["status"], {"MIGRATIONS": "nowhere"}, "'nowhere'"),
        (["run"], {"MIGRATION_LEASE_SECONDS": "soon"}, "MIGRATION_LEASE_SECONDS"),
        (["status"], {"LOG_FORMAT": "xml"}, "LOG_FORMAT"),
    ],
)
def test_usage_and_configuration_exit_2_with_one_sentence(
    sqlite_project: Project, arguments: list[str], environ: Environ, words: str
) -> None:
    prepare(sqlite_project, MARK_FILE)
    ended = sqlite_project.run(*arguments, code=2, env=environ)
    assert words in ended.err
    assert ended.out == ""
    document = sqlite_project.json(*arguments, code=2, env=environ)
    assert set(document) in ({"error"}, {"environment", "reports", "error"})
    assert set(document["error"]) == {"code", "message"}
    assert words in document["error"]["message"]


def test_no_arguments_show_the_help_and_exit_2(sqlite_project: Project) -> None:
    ended = sqlite_project.run(code=2)
    assert "Usage: migration COMMAND" in ended.err
    assert sqlite_project.run("--help").out == ended.err


def test_in_development_a_file_stands_in_for_a_missing_address(sqlite_project: Project) -> None:
    project = sqlite_project
    project.write(*MARK_FILE)
    unset: Environ = {"DATABASE_URL": None, "MIGRATION_ENVIRONMENT": None}
    assert "development.db does not exist" in project.run("status", code=2, env=unset).err
    project.run("init", env=unset)
    assert (project.folder / "development.db").exists()
    assert project.json("status", env=unset)["environment"] == "development"


@pytest.mark.databases("postgresql", "mariadb")
def test_a_server_database_wants_its_environment_named_once(project: Project) -> None:
    prepare(project, MARK_FILE)
    for arguments in (["status"], ["run"]):
        ended = project.run(*arguments, code=2, env={"MIGRATION_ENVIRONMENT": None})
        assert "MIGRATION_ENVIRONMENT" in ended.err
    project.run("run", "--environment", "staging", env={"MIGRATION_ENVIRONMENT": None})
    assert project.json("status", env={"MIGRATION_ENVIRONMENT": None})["environment"] == "staging"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def broken(:\n", "syntax error in line 1"),
        ("import no_such_module_anywhere\n", "no_such_module_anywhere"),
        ("x = 1\n", "defines no migration"),
        (MARK.replace('"001-mark"', '"001-mark"\n    requires = ("000-nobody",)'), "000-nobody"),
        (MARK.replace("def down", "def other"), "down"),
    ],
    ids=["syntax", "import", "empty", "requirement", "no down"],
)
def test_a_migration_file_that_does_not_load_is_named(sqlite_project: Project, text: str, words: str) -> None:
    prepare(sqlite_project, INCREMENT_FILE, ("003_broken", text))
    for arguments in (["status"], ["run"], ["list"]):
        ended = sqlite_project.run(*arguments, code=2)
        assert "003_broken.py" in ended.err
        assert words in ended.err
    doctor = sqlite_project.run("doctor", code=1)
    assert "003_broken.py" in doctor.out
    assert set(increments(sqlite_project).values()) == {0}


# Exit code 5


def test_a_preflight_that_refuses_exits_5_and_changes_nothing(sqlite_project: Project) -> None:
    text = MARK.replace(
        "def up", 'def preflight(self, context):\n        raise Refused("not on a Monday")\n\n    def up'
    )
    text = text.replace("import Migration,", "import Migration, Refused,")
    prepare(sqlite_project, ("001_mark", text))
    document = sqlite_project.json("run", code=5)
    assert document["error"] == {"code": "refused", "message": "not on a Monday"}
    assert "not on a Monday" in sqlite_project.run("dry-run", code=5).said
    assert sqlite_project.status("001-mark")["status"] == "PENDING"
    assert sqlite_project.sql("SELECT count(*) FROM item WHERE note IS NOT NULL") == [(0,)]


def test_a_database_of_another_environment_is_refused_and_the_sentence_says_how_to_allow_it(project: Project) -> None:
    prepare(project, MARK_FILE)
    project.run("init", "--environment", "staging")
    refused = project.run("run", "--environment", "production", "--yes", code=5)
    assert "belongs to environment 'staging', not 'production'" in refused.err
    assert "--allow-environment" in refused.err
    assert project.sql("SELECT count(*) FROM item WHERE note IS NOT NULL") == [(0,)]
    assert "belongs to environment 'staging'" in project.run("status", "--environment", "production").err
    project.run("run", "--environment", "production", "--yes", "--allow-environment")
    assert project.json("pending", "--environment", "staging") == ["001-mark"]
    assert project.json("pending", "--environment", "production") == []


def test_a_copied_database_is_recognised_and_adopt_rebinds_it(
    sqlite_project: Project, new_project: MakeProject
) -> None:
    original = sqlite_project
    prepare(original, MARK_FILE)
    original.run("run", "--environment", "production", "--yes")

    copy = new_project(f"sqlite:///{original.folder.parent / 'copy.sqlite'}")
    shutil.copyfile(original.url.removeprefix("sqlite:///"), copy.url.removeprefix("sqlite:///"))
    copy.write(*MARK_FILE)
    copy.write("003_more", failing("003-more", "return MigrationResult()"))
    refused = copy.run("run", "--environment", "staging", code=5)
    assert "This database is a copy" in refused.err
    assert "migration adopt --environment staging" in refused.err
    document = copy.json("adopt", "--environment", "staging")
    assert set(document) == {"environment", "message"}
    assert document["environment"] == "staging"
    assert copy.json("pending", "--environment", "staging") == ["003-more"]
    copy.run("run", "--environment", "staging")
    assert "003-more" not in [run["migration"] for run in original.json("history", "--environment", "production")]


def test_production_needs_yes_where_nobody_can_be_asked(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, MARK_FILE)
    project.environ["MIGRATION_ENVIRONMENT"] = "production"
    assert "--yes" in project.run("run", code=5).err
    project.run("run", "--yes")
    assert project.run("run").out == "Nothing to do: no migration is pending.\n"
    assert "--yes" in project.run("rollback", "001-mark", code=5).err
    project.run("rollback", "001-mark", "--yes")


def test_a_rollback_without_a_name_says_which_one_it_means(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, MARK_FILE)
    assert project.run("rollback").out == "Nothing to do: no migration is completed.\n"
    project.run("run")
    assert "migration rollback 001-mark" in project.run("rollback", code=5).err
    project.run("rollback", "--yes")
    assert project.status("001-mark")["status"] == "ROLLED_BACK"


def test_a_completed_one_run_by_name_without_pending_is_refused_with_the_word_reset(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, INCREMENT_FILE)
    project.run("run")
    assert "migration reset 002-increment" in project.run("run", "002-increment", code=5).err
    assert increments(project) == ONCE


def test_changed_code_does_not_continue_what_other_code_began(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, INCREMENT_FILE, open_gate=False)
    with project.start("run", "--batch-size", "5", "--workers", "1") as running:
        project.wait_at("transform", running)
        running.signal(signal.SIGTERM)
        running.wait_for("stopping")
        project.open("transform")
        assert running.end().code == 143
    project.write("002_increment", INCREMENT.replace("row.y + 1", "1 + row.y"))
    assert project.status("002-increment")["codeChanged"] is True
    assert "--accept-code-change" in project.run("run", code=5).err
    project.run("run", "--accept-code-change")
    assert increments(project) == ONCE


# The other commands


def test_list_pending_and_show(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, MARK_FILE, INCREMENT_FILE)
    listed = project.json("list", env={"DATABASE_URL": "sqlite:////nowhere/needed.db"})
    assert [set(m) for m in listed] == [
        {"name", "version", "description", "rollbackable", "manual", "requires", "file", "requiresSchema"}
    ] * 2
    assert [m["name"] for m in listed] == ["001-mark", "002-increment"]
    assert "Add one to every item" in project.run("list").out
    assert project.run("pending").out == "001-mark\n002-increment\n"

    shown = project.json("show", "002-increment")
    assert set(shown) == {"status", "listed", "generation", "runs", "events", "report", "rollback", "approval"}
    assert list(shown["status"]) == STATUS_FIELDS
    project.run("run-one", "002-increment")
    shown = project.json("show", "002-increment")
    assert [event["action"] for event in shown["events"]] == ["completed", "run_started"]
    assert shown["runs"][0]["outcome"] == "succeeded"
    text = project.run("show", "002-increment").out
    assert "COMPLETED" in text
    assert shown["runs"][0]["id"] in text
    assert project.run("pending").out == "001-mark\n"
    assert project.run("issues", "001-mark").out == "No row is held.\n"


@pytest.mark.parametrize("command", [["dry-run"], ["run", "--dry-run"]], ids=" ".join)
def test_a_dry_run_changes_no_data_and_reports(sqlite_project: Project, command: list[str]) -> None:
    project = sqlite_project
    prepare(project, MARK_FILE, INCREMENT_FILE)
    ended = project.run(*command)
    assert "dry run, no data was changed" in ended.out
    assert "Not covered by a dry run" in ended.out
    assert re.search(r"unlucky +1 row +13", ended.out)
    assert "a migration may print" not in ended.out
    document = project.json(*command)
    assert set(document) == {"environment", "reports"}
    one, two = document["reports"]
    assert (one["name"], one["wouldChange"]) == ("001-mark", ROWS)
    assert (two["rows"], two["examined"], two["complete"]) == (ROWS, ROWS, True)
    assert (two["wouldChange"], two["wouldHold"]) == (19, 1)
    assert two["held"] == [{"code": "unlucky", "rows": 1, "keys": [13]}]
    assert two["samples"][0] == {"key": 1, "before": {"origin": 1, "y": 1}, "after": {"y": 2}}
    assert two["notCovered"]
    assert project.json("show", "002-increment")["report"]["wouldChange"] == 19
    assert set(increments(project).values()) == {0}
    assert project.json("pending") == ["001-mark", "002-increment"]


def test_skip_and_reset_with_a_reason(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, MARK_FILE, INCREMENT_FILE)
    skipped = project.json("skip", "001-mark", "--reason", "done by hand", "--executed-by", "somebody")
    assert list(skipped) == STATUS_FIELDS
    assert skipped["status"] == "SKIPPED"
    assert project.json("pending") == ["002-increment"]
    assert "SKIPPED" in project.run("skip", "001-mark", "--reason", "again", code=5).err
    assert project.run("reset", "001-mark", "--reason", "not at all").out == "001-mark is now PENDING.\n"
    assert project.json("pending") == ["001-mark", "002-increment"]
    events = project.json("show", "001-mark")["events"]
    assert [(event["action"], event["detail"]["reason"]) for event in events] == [
        ("reset", "not at all"),
        ("skipped", "done by hand"),
    ]
    assert events[1]["actor"] == "somebody"


def test_init_makes_the_tables_and_init_sql_prints_them(project: Project) -> None:
    printed = project.run("init", "--sql").out
    assert project.json("init") == {"environment": ENVIRONMENT, "created": True}
    assert project.json("init") == {"environment": ENVIRONMENT, "created": False}
    assert "already there" in project.run("init").out
    tables = set(re.findall(r"CREATE TABLE (\w+)", printed))
    assert "system_migration_ledger" in tables
    for table in tables:
        project.sql(f"SELECT * FROM {table}")
    assert project.json("init", "--sql")["sql"].rstrip() == printed.rstrip()


def test_doctor_says_what_is_wrong(project: Project) -> None:
    prepare(project, MARK_FILE)
    document = project.json("doctor")
    assert document["ok"] is True
    assert [set(finding) for finding in document["findings"]] == [{"level", "subject", "message"}] * len(
        document["findings"]
    )
    project.run("init", "--environment", "staging")
    found = project.run("doctor", "--environment", "production", code=1)
    assert "belongs to environment 'staging'" in found.out
    assert project.json("doctor", code=1, env={"DATABASE_URL": "sqlite:////nowhere/at-all.db"})["ok"] is False


def test_logs_can_be_narrowed_to_a_run_and_a_level(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, MARK_FILE)
    project.run("run")
    (run,) = project.json("history", "001-mark")
    started, *said = [line["message"] for line in project.json("logs", "001-mark", "--run", run["id"])]
    assert started.startswith("run started by ")
    assert said == ["marking"]
    assert project.json("logs", "001-mark", "--level", "warning") == []
    assert "INFO  marking" in project.run("logs", "001-mark").out
    assert project.run("history", "--limit", "1").out.count("001-mark") == 1


def test_verbose_logs_every_step_on_stderr_as_text_or_json(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, INCREMENT_FILE)
    ended = project.run("run", "--verbose", "--batch-size", "5", env={"LOG_FORMAT": "json"})
    records = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
    batches: list[dict[str, Any]] = [record for record in records if "batch" in record["message"]]
    assert len(batches) >= 4
    assert {record["migration"] for record in batches} == {"002-increment"}
    assert "batch" not in ended.out


def test_settings_come_from_pyproject_where_no_flag_or_variable_says_otherwise(sqlite_project: Project) -> None:
    project = sqlite_project
    prepare(project, MARK_FILE)
    (project.folder / "migrations").rename(project.folder / "changes")
    (project.folder / "pyproject.toml").write_text('[tool.system_migration]\nmigrations = "changes"\n')
    assert project.json("pending") == ["001-mark"]
    (project.folder / "pyproject.toml").write_text('[tool.system_migration]\nmigratoins = "changes"\n')
    assert "'migratoins'" in project.run("status", code=2).err


def test_an_address_with_a_password_is_never_repeated(new_project: MakeProject) -> None:
    project = new_project("postgresql://operator:hunter2-secret@127.0.0.1:1/none")
    project.write(*MARK_FILE)
    for arguments in (["run"], ["doctor"], ["status", "--json"]):
        assert "hunter2-secret" not in project.run(*arguments, code=1).said
    project.environ["DATABASE_URL"] = "postgresqul://operator:hunter2-secret@127.0.0.1:1/none"
    assert "hunter2-secret" not in project.run("status", code=2).said
