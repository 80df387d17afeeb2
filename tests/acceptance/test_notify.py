"""The command tells a webhook how its run ended, and ends although that does not answer."""

from __future__ import annotations

import signal
import time

from system_migration.cli.news import SILENT_SECONDS
from system_migration.telling import FLUSH_SECONDS
from tests.support.command import Project
from tests.support.receiver import SECRET, Receiver, receiving
from tests.support.workload import INCREMENT, prepare


def hooked(receiver: Receiver) -> dict[str, str]:
    return {"MIGRATION_WEBHOOK_URL": receiver.url, "MIGRATION_WEBHOOK_SECRET": SECRET}


def test_a_run_is_told_to_the_webhook_before_the_command_ends(sqlite_project: Project) -> None:
    prepare(sqlite_project, ("002_increment", INCREMENT))
    with receiving() as receiver:
        ended = sqlite_project.run("run", env=hooked(receiver))
    assert receiver.events == ["started", "completed"]
    assert "hush" not in ended.said


def test_a_webhook_that_hangs_is_waited_for_until_somebody_wants_to_wait_no_longer(sqlite_project: Project) -> None:
    prepare(sqlite_project, ("002_increment", INCREMENT))
    with receiving(shut=True) as hanging:
        with sqlite_project.start("run", env=hooked(hanging)) as running:
            running.wait_for("waiting for the webhook; Ctrl-C to wait no longer")
            running.signal(signal.SIGINT)
            asked = time.monotonic()
            ended = running.end()
    assert time.monotonic() - asked < FLUSH_SECONDS - SILENT_SECONDS
    assert ended.code == 0
    assert "COMPLETED" in ended.out
    assert "The webhook was not told that 002-increment started (run " in ended.err
    assert "002-increment completed (run " in ended.err


def test_a_webhook_that_cannot_be_is_a_usage_error_before_anything_starts(sqlite_project: Project) -> None:
    prepare(sqlite_project, ("002_increment", INCREMENT))
    env = {"MIGRATION_WEBHOOK_URL": "https://hooks.example/hush"}
    ended = sqlite_project.run("run", code=2, env=env)
    assert "MIGRATION_WEBHOOK_SECRET" in ended.err
    assert "hush" not in ended.said
