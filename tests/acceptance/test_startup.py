"""Applications that look after migrations when they start, as real processes: servers, workers and entrypoints."""

from __future__ import annotations

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import quantiles

import pytest

from tests.acceptance.conftest import MakeProject
from tests.support.command import Project, wait_until
from tests.support.host import free_port
from tests.support.serving import Backend, example, serve, serve_many
from tests.support.workload import INCREMENT, ONCE, increments, prepare

BACKENDS = 12
ROWS = 400
ROUNDS = 30
SEVERAL_BATCHES = 1500
ON = {"RUN_MIGRATIONS_ON_STARTUP": "true", "AUTO_MIGRATE": "true"}
CHECK = {"RUN_MIGRATIONS_ON_STARTUP": "true"}
NAME = "002-increment"
BLOCKING = INCREMENT.replace("    max_issues = 1", "    max_issues = 1\n    blocks_startup = True")
STRICT = INCREMENT.replace("    max_issues = 1", "    max_issues = 0")  # row 13 fails it

BUSY = """
import hashlib
import os
import time

import gate

from system_migration import BatchMigration


class Busy(BatchMigration):
    name = "001-busy"
    table = "item"
    reads = ("origin", "y")
    writes = ("y",)
    blocks_startup = True

    def setup_worker(self):
        with open("executed", "a") as file:
            file.write(f"{os.getpid()}\\n")
        gate.stop("all are there")

    def transform(self, row):  # the first row keeps it at work until the test has measured
        until = time.monotonic() + 60
        while True:
            hashlib.pbkdf2_hmac("sha256", b"as much work", b"as a hash", 3000)
            if row.origin > 1 or (gate.FOLDER / "measured.open").exists() or time.monotonic() > until:
                return {"y": row.y + 1}

    def check(self, row):
        return row.y == row.origin + 1
"""

LONG_ANSWER = """

import gate

only_short = create_app


def create_app():
    app = only_short()

    @app.get("/long")
    def long():
        gate.stop("answer")
        return {"long": True}

    return app
"""


LEAVE = """

def leave():
    \"\"\"Let the process go, once, and go on when its executors are closed.\"\"\"
    import time
    from concurrent.futures import thread

    gone = gate.FOLDER / "leave.open"
    if gone.exists():
        return
    gone.touch()
    until = time.monotonic() + 60
    while not thread._shutdown and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(0.1)  # a slow row, after which other threads are to help
"""

LEAVES = """
    import time
    from concurrent.futures import ThreadPoolExecutor

    import gate

    def until_the_run_has_ended():  # which Python waits for, after it has closed all executors
        until = time.monotonic() + 60
        while startup.state().stage in ("looking", "running") and time.monotonic() < until:
            time.sleep(0.005)

    ThreadPoolExecutor(1).submit(until_the_run_has_ended)
    gate.stop("leave")
"""


@pytest.mark.databases("sqlite", "postgresql")
def test_twelve_backends_start_together_one_runs_all_become_ready_and_all_stay_alive(project: Project) -> None:
    prepare(project, ("001_busy", BUSY), rows=ROWS)
    with serve_many(project, BACKENDS, ON) as (running, backends):
        everybody = list(backends.values())
        wait_until(lambda: all(backend.is_live() for backend in everybody), "twelve to be alive")
        project.wait_at("all are there", running)
        for backend in everybody:
            backend.come_to((503, "running"), (503, "following"))
            assert backend.get("/")[0] == 503  # held back until the migration has ended
        assert sorted(backend.ready()[1] for backend in everybody) == ["following"] * 11 + ["running"]
        project.open("all are there")
        latencies = [backend.seconds_of_liveness() for _ in range(ROUNDS) for backend in everybody]
        assert {backend.ready()[0] for backend in everybody} == {503}  # it went on all the time
        project.open("measured")
        for backend in everybody:
            backend.come_to((200, "done"))
            assert backend.get("/") == (200, {"served": True})
        executed = (project.folder / "executed").read_text().split()
        assert len(set(executed)) == 1
        assert int(executed[0]) in backends
        running.signal(signal.SIGTERM)
        running.end()
    assert project.sql("SELECT count(*), min(y - origin), max(y - origin) FROM item") == [(ROWS, 1, 1)]
    assert project.sql("SELECT kind, outcome FROM system_migration_run") == [("run", "succeeded")]
    assert quantiles(latencies, n=100)[98] <= 0.25


def test_in_production_it_is_refused_and_the_application_serves(sqlite_project: Project) -> None:
    prepare(sqlite_project, ("002_increment", INCREMENT))
    with serve(sqlite_project, ON | {"MIGRATION_ENVIRONMENT": "production"}) as (running, backend):
        backend.come_to((200, "refused"))
        assert backend.get("/") == (200, {"served": True})
        running.wait_for("or allow it with ALLOW_PRODUCTION_AUTO_MIGRATE=true.")
        said = str(backend.get("/health/ready"))
        assert "AUTO_MIGRATE" not in said  # anybody may read this, so reasons stay in the log
    assert set(increments(sqlite_project).values()) == {0}


@pytest.mark.databases("sqlite", "postgresql")
def test_what_a_killed_server_was_doing_is_finished_by_the_next(project: Project) -> None:
    prepare(project, ("002_increment", INCREMENT), open_gate=False)
    env = ON | {"MIGRATION_LEASE_SECONDS": "0.5"}
    with serve(project, env) as (running, _):
        project.wait_at("transform", running)
        running.kill()
    project.open("transform")
    with serve(project, env) as (running, backend):
        backend.come_to((200, "done"))
    assert increments(project) == ONCE
    assert [run["outcome"] for run in project.json("history")] == ["succeeded"]


@pytest.mark.databases("sqlite", "postgresql")
def test_sigterm_of_a_server_ends_its_run_at_a_clean_checkpoint_and_the_next_start_continues(project: Project) -> None:
    prepare(project, ("002_increment", INCREMENT), rows=SEVERAL_BATCHES, open_gate=False)
    with serve(project, ON) as (running, backend):
        project.wait_at("transform", running)
        running.signal(signal.SIGTERM)
        wait_until(lambda: not accepts_clients(backend), "the signal to arrive")
        project.open("transform")
        assert running.end().code == -signal.SIGTERM
    assert_interrupted(project)
    with serve(project, ON) as (running, backend):
        backend.come_to((200, "done"))
    assert_once(project)


def test_a_client_that_stays_does_not_keep_a_run_from_ending(sqlite_project: Project) -> None:
    """The server waits for open answers before it ends its application; the run is asked when the signal comes."""
    prepare(sqlite_project, ("002_increment", INCREMENT), rows=SEVERAL_BATCHES, open_gate=False)
    with ThreadPoolExecutor(1) as client, serve(sqlite_project, ON, LONG_ANSWER) as (running, backend):
        sqlite_project.wait_at("transform", running)
        answer = client.submit(backend.get, "/long")
        sqlite_project.wait_at("answer", running)
        running.signal(signal.SIGTERM)
        wait_until(lambda: not accepts_clients(backend), "the signal to arrive")
        sqlite_project.open("transform")
        wait_until(lambda: is_released(sqlite_project), "the run to end")
        assert not answer.done()
        assert_interrupted(sqlite_project)
        sqlite_project.open("answer")
        assert answer.result() == (200, {"long": True})
        assert running.end().code == -signal.SIGTERM


def is_released(project: Project) -> bool:
    return [bool(row[0]) for row in project.sql("SELECT released FROM system_migration_lease")] == [True]


def assert_interrupted(project: Project) -> None:
    """Ended at a clean checkpoint, with a part of the work done."""
    assert is_released(project)
    assert project.sql("SELECT status FROM system_migration_migration") == [("RUNNING",)]
    done = sum(increments(project).values())
    assert 0 < done < SEVERAL_BATCHES - 1


def assert_once(project: Project) -> None:
    """Every item was changed exactly once, but for the one that is held."""
    assert increments(project) == {key: 0 if key == 13 else 1 for key in range(1, SEVERAL_BATCHES + 1)}


def accepts_clients(backend: Backend) -> bool:
    """Whether a new connection is taken."""
    with closing(Backend(backend.port)) as another:
        return another.is_live()


def test_neither_a_failed_nor_a_cancelled_one_is_tried_again_by_a_restart(sqlite_project: Project) -> None:
    prepare(sqlite_project, ("002_increment", STRICT))
    for _ in range(2):
        with serve(sqlite_project, ON) as (running, backend):
            backend.come_to((200, "attention"))
            running.wait_for("A start never tries again; `migration run 002-increment` does")
            assert backend.get("/") == (200, {"served": True})
    assert [run["outcome"] for run in sqlite_project.json("history")] == ["failed"]
    sqlite_project.sql("UPDATE system_migration_migration SET cancelled = 1")
    with serve(sqlite_project, ON) as (running, backend):
        backend.come_to((200, "done"))
    assert [run["outcome"] for run in sqlite_project.json("history")] == ["failed"]


def test_a_server_that_must_not_serve_lives_until_the_deadline_and_exits_with_75(sqlite_project: Project) -> None:
    prepare(sqlite_project, ("002_increment", BLOCKING))
    with serve(sqlite_project, CHECK | {"MIGRATION_STARTUP_SECONDS": "2"}) as (running, backend):
        backend.come_to((503, "pending"))
        status, problem = backend.get("/")
        assert (status, problem["status"]) == (503, 503)
        backend.close()
        ended = running.end()
    assert ended.code == 75
    assert "The application must not serve yet, and 2 seconds (MIGRATION_STARTUP_SECONDS) have passed." in ended.err


def test_liveness_answers_while_the_database_is_away(new_project: MakeProject) -> None:
    project = new_project(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    project.write("002_increment", BLOCKING)
    (project.folder / "gate.py").touch()
    with serve(project, ON | {"MIGRATION_STARTUP_SECONDS": "0.5"}) as (running, backend):
        backend.come_to((503, "database-away"))
        assert backend.is_live()
        assert running.going  # to end it would not bring the database back


def test_a_worker_process_waits_for_what_blocks_the_start_and_works_afterwards(sqlite_project: Project) -> None:
    prepare(sqlite_project, ("002_increment", BLOCKING))
    (sqlite_project.folder / "worker.py").write_text(example("worker.py"), encoding="utf-8")
    program = Path(sys.executable)
    late = sqlite_project.run("worker.py", program=program, env=CHECK | {"MIGRATION_STARTUP_SECONDS": "0.5"}, code=75)
    assert "have passed. Pending: 002-increment." in late.err
    assert "at work" not in late.out
    assert sqlite_project.run("worker.py", program=program, env=ON).out == "at work, done\n"
    assert increments(sqlite_project) == ONCE


def test_what_a_worker_process_was_running_when_it_left_is_interrupted_and_the_next_one_continues(
    sqlite_project: Project,
) -> None:
    """The interpreter closes all executors before anybody can ask the run to stop: that is no failure of the run."""
    leaving = INCREMENT.replace("origin == 8", "origin == 700").replace('gate.stop("transform")', "leave()") + LEAVE
    prepare(sqlite_project, ("002_increment", leaving), rows=SEVERAL_BATCHES)
    two_cores = "import os\n\nos.sched_getaffinity = lambda _: {0, 1}\n\n"  # on one, no other thread would transform
    worker = two_cores + example("worker.py") + LEAVES
    (sqlite_project.folder / "worker.py").write_text(worker, encoding="utf-8")
    ended = sqlite_project.run("worker.py", program=Path(sys.executable), env=ON)
    assert ended.out.startswith("at work, ")
    assert is_released(sqlite_project)
    assert sqlite_project.sql("SELECT status FROM system_migration_migration") == [("RUNNING",)]
    assert "interrupted" in sqlite_project.run("status").out
    assert sqlite_project.run("startup", env=ON).code == 0
    assert_once(sqlite_project)


# For an entrypoint


def test_an_entrypoint_runs_what_is_pending_and_becomes_the_server(sqlite_project: Project) -> None:
    prepare(sqlite_project, ("002_increment", INCREMENT))
    server = ("--", "sh", "-c", 'echo "serves as $$ with $0"', "one argument")
    off = sqlite_project.run("startup", *server)
    assert off.out.splitlines()[-1].endswith("with one argument")
    assert set(increments(sqlite_project).values()) == {0}
    with sqlite_project.start("startup", *server, env=ON) as running:
        served = running.end()
    assert served.code == 0, served
    assert served.out.splitlines()[-1] == f"serves as {running.process.pid} with one argument"  # the same process
    assert increments(sqlite_project) == ONCE
    again = sqlite_project.json("startup", env=ON)
    assert again == {"ready": True, "state": "done", "migration": None, "reason": "Nothing is pending."}
    missing = sqlite_project.run("startup", "--", "no-such-server", env=ON, code=2)
    assert "'no-such-server' could not be started (No such file or directory)." in missing.err


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("AUTO_MIGRATE", "yes", "AUTO_MIGRATE is 'yes'; it must be true, false, 1 or 0."),
        ("MIGRATION_STARTUP_SECONDS", "soon", "it must be a number of seconds from 0.2 to 86400."),
        ("MIGRATIONS", "no_such_folder", "no_such_folder"),
        ("DATABASE_URL", "sqlite:///no-such-file.db", "The SQLite file no-such-file.db does not exist."),
    ],
)
def test_an_entrypoint_with_a_wrong_setting_starts_nothing(
    sqlite_project: Project, variable: str, value: str, sentence: str
) -> None:
    prepare(sqlite_project, ("002_increment", INCREMENT))
    ended = sqlite_project.run("startup", "--", "echo", "served", env=ON | {variable: value}, code=2)
    assert sentence in ended.err
    assert "served" not in ended.out


def test_what_an_entrypoint_may_not_start_or_what_failed_keeps_no_application_down(sqlite_project: Project) -> None:
    prepare(sqlite_project, ("002_increment", STRICT))
    alone = sqlite_project.run("startup", env={"AUTO_MIGRATE": "true"})
    assert "AUTO_MIGRATE does nothing by itself." in alone.out
    assert "Pending: 002-increment." in sqlite_project.run("startup", env=CHECK).out
    refused = sqlite_project.run("startup", env=ON | {"MIGRATION_ENVIRONMENT": "production"})
    assert "or allow it with ALLOW_PRODUCTION_AUTO_MIGRATE=true." in refused.out
    for _ in range(2):
        assert "002-increment is FAILED" in sqlite_project.run("startup", env=ON).out
    assert [run["outcome"] for run in sqlite_project.json("history")] == ["failed"]
    away = {"DATABASE_URL": f"postgresql://x@127.0.0.1:{free_port()}/x", "MIGRATION_STARTUP_SECONDS": "0.3"}
    assert "It is asked again." in sqlite_project.run("startup", env=ON | away).out


def test_an_entrypoint_waits_for_what_blocks_the_start_until_its_deadline_or_a_signal(sqlite_project: Project) -> None:
    prepare(sqlite_project, ("002_increment", BLOCKING))
    server = ("--", "echo", "served")
    late = sqlite_project.run("startup", *server, env=CHECK | {"MIGRATION_STARTUP_SECONDS": "0.5"}, code=75)
    assert "served" not in late.out
    with sqlite_project.start("startup", "--verbose", *server, env=CHECK) as waiting:
        waiting.wait_for("Pending: 002-increment.")
        waiting.signal(signal.SIGTERM)
        stopped = waiting.end()
    assert (stopped.code, "served" in stopped.out) == (143, False)
