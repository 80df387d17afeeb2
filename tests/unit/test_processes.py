"""Worker processes: whatever a row does to its worker, it costs that row alone."""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from system_migration.batch_migration import BatchMigration
from system_migration.batching import processes, worker_main
from system_migration.batching.executors import Transformer
from system_migration.batching.processes import ProcessPool, Work
from system_migration.batching.transform import TRANSFORM_ERROR, Held, Outcome, Task
from system_migration.batching.worker import MEMORY_LIMIT, TIME_LIMIT, WORKER_DIED, WorkerDied
from system_migration.errors import MigrationSystemError, Refused
from tests.support.hazards import (
    SECRET,
    Counting,
    DyingSetup,
    Explosive,
    FailingSetup,
    Hazard,
    LeavingSetup,
    Patient,
    RefusingSetup,
    UntoldSetup,
)

PATIENCE = 60
"""Seconds that no test waits for, unless it is about to fail."""

Open = Callable[..., ProcessPool]


@pytest.fixture
def pool() -> Iterator[Open]:
    opened: list[ProcessPool] = []

    def open_pool(migration: type[BatchMigration] = Hazard, count: int = 1) -> ProcessPool:
        opened.append(ProcessPool(Work.of(migration), count))
        return opened[-1]

    yield open_pool
    for made in opened:
        made.close()


def done(pool: ProcessPool, values: list[Any]) -> list[Outcome]:
    return pool.submit(Task(("value",), [(value,) for value in values])).result(PATIENCE)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.005)


def results(outcomes: list[Outcome]) -> list[Any]:
    """The new value of each row, or the code it is held with."""
    return [outcome.code if isinstance(outcome, Held) else outcome["result"] for outcome in outcomes]


# --- rows that do no harm --------------------------------------------------------------------------------------------


def test_rows_are_transformed_elsewhere_and_in_order(pool: Open) -> None:
    transformer = Transformer(Hazard, threads=1, processes=2)
    try:
        finished: list[int] = []
        rows = [(f"v{number}",) for number in range(500)]
        outcomes = transformer.run(("value",), rows, finished.append)
        assert outcomes == [{"result": f"V{number}"} for number in range(500)]
        assert sum(finished) == 500
        pids = {pid for pid, _ in results(transformer.run(("value",), [("pid",)] * 9))}
        assert os.getpid() not in pids
    finally:
        transformer.close()


def test_each_process_is_prepared_once(pool: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(Counting.folder, str(tmp_path))
    opened = pool(Counting, 2)
    for _ in range(5):
        assert {own for _, own in results(done(opened, ["pid"] * 20))} == {True}
    prepared = (tmp_path / "setups").read_text().split()
    assert len(prepared) == len(set(prepared)) == 2


def test_callers_share_the_processes_and_each_gets_its_own_rows(pool: Open) -> None:
    opened = pool(Hazard, 2)

    def call(caller: int) -> bool:
        values = [f"c{caller}-{number}" for number in range(30)] + (["exit"] if caller % 4 == 0 else [])
        expected = [WORKER_DIED if value == "exit" else value.upper() for value in values]
        return results(done(opened, values)) == expected

    with ThreadPoolExecutor(4) as callers:
        assert all(callers.map(call, range(12)))


def test_a_row_that_raises_is_held_and_its_worker_lives(pool: Open) -> None:
    opened = pool()
    outcomes = done(opened, ["a", f"raise {SECRET}", f"decline {SECRET}", "b"])
    assert results(outcomes) == ["A", TRANSFORM_ERROR, "unreadable", "B"]
    assert opened.deaths == 0


def test_values_that_cannot_travel_hold_their_row(pool: Open) -> None:
    outcomes = done(pool(), ["a", f"unpicklable {SECRET}", "b"])
    assert results(outcomes) == ["A", TRANSFORM_ERROR, "B"]
    assert isinstance(outcomes[1], Held)
    assert outcomes[1].message.startswith("transform returned a value that cannot be pickled: ")
    assert SECRET not in outcomes[1].message


def test_what_a_migration_prints_stays_out_of_the_command_s_result(
    pool: Open, capfd: pytest.CaptureFixture[str]
) -> None:
    assert results(done(pool(), ["print"])) == ["printed"]
    assert capfd.readouterr() == ("", "printed\n")


# --- rows that kill their worker -------------------------------------------------------------------------------------

POISON = {
    "hang": (TIME_LIMIT, "transform took longer than 1 s"),
    "hang-in-c": (TIME_LIMIT, "transform took longer than 1 s"),
    "memory": (MEMORY_LIMIT, "transform took more than 209715200 bytes of memory"),
    "exit": (WORKER_DIED, "transform ended its worker process (exit code 3)"),
    "crash": (WORKER_DIED, "transform ended its worker process (signal 11)"),
}


@pytest.mark.parametrize("hazard", POISON)
def test_a_row_that_kills_its_worker_is_held_and_no_other(
    pool: Open, hazard: str, caplog: pytest.LogCaptureFixture
) -> None:
    opened = pool()
    values = [f"v{number}" for number in range(40)]
    values[17] = f"{hazard} {SECRET}"
    outcomes = done(opened, values)
    assert outcomes.pop(17) == Held(*POISON[hazard])
    assert results(outcomes) == [value.upper() for value in values if SECRET not in value]
    assert opened.deaths == 2  # in its slice, and alone
    assert results(done(opened, ["again"])) == ["AGAIN"]
    assert len(caplog.records) == 2
    assert SECRET not in caplog.text


@pytest.mark.parametrize("at", [0, 31, 63])
def test_a_row_that_kills_before_any_row_is_begun_is_found_by_halving(pool: Open, at: int) -> None:
    opened = pool()
    values: list[Any] = [f"v{number}" for number in range(64)]
    values[at] = Explosive()
    found = results(done(opened, values))
    assert found.pop(at) == WORKER_DIED
    assert found == [value.upper() for value in values if isinstance(value, str)]
    assert opened.deaths <= math.log2(64) + 3


def test_a_whole_slice_of_poison_is_held_row_by_row(pool: Open) -> None:
    opened = pool(Hazard, 1)
    assert results(done(opened, ["exit", "a", "exit", "exit", "b"])) == [
        WORKER_DIED,
        "A",
        WORKER_DIED,
        WORKER_DIED,
        "B",
    ]


def test_a_row_that_suffers_for_another_one_is_not_held(pool: Open) -> None:
    """Two rows that each keep 120 MB are too much for one worker, but neither is for itself."""
    opened = pool()
    assert results(done(opened, ["a", "leak", "b", "leak", "c"])) == ["A", "leaked", "B", "leaked", "C"]
    before = opened.deaths
    assert before > 0
    assert results(done(opened, ["leak"])) == ["leaked"]
    assert opened.deaths > before  # although it was alone in its slice


def test_without_isolation_healthy_rows_would_be_held(pool: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests above prove comes from `isolate`, and from nothing else."""

    def hold_the_slice(ask: Callable[[Any], list[Outcome]], rows: Any) -> list[Outcome]:
        try:
            return ask(rows)
        except WorkerDied as death:
            return [Held(death.code, death.message)] * len(rows)

    monkeypatch.setattr(processes, "isolate", hold_the_slice)
    assert results(done(pool(), ["a", "exit", "b"])) == [WORKER_DIED] * 3


def test_one_that_hangs_does_not_keep_the_others_waiting(pool: Open) -> None:
    opened = pool(Hazard, 2)
    hanging = opened.submit(Task(("value",), [("hang",)]))
    for number in range(20):
        assert results(done(opened, [f"v{number}"])) == [f"V{number}"]
    assert results(hanging.result(PATIENCE)) == [TIME_LIMIT]


def test_the_memory_limit_leaves_room_for_what_a_worker_was_prepared_with(pool: Open) -> None:
    assert results(done(pool(), ["leak"])) == ["leaked"]  # 120 of 200 MB


# --- a worker that cannot be made ------------------------------------------------------------------------------------


def refusal(migration: type[BatchMigration]) -> str:
    with pytest.raises(MigrationSystemError) as raised:
        Transformer(migration, threads=1, processes=2)
    return str(raised.value)


def test_a_class_inside_a_function_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    class Local(Hazard):
        pass

    assert refusal(Local) == (
        "Migration 001-hazard cannot be loaded in a worker process: class Local is defined inside a function. "
        "Put it into a module that can be imported, or start without --processes and --dask."
    )


def test_a_module_that_only_this_process_has_is_refused_in_one_sentence(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("only_here")
    lost = type("Lost", (Hazard,), {"__module__": "only_here", "__qualname__": "Lost"})
    monkeypatch.setattr(module, "Lost", lost, raising=False)
    monkeypatch.setitem(sys.modules, "only_here", module)
    assert refusal(lost).startswith(
        "Migration 001-hazard cannot be loaded in a worker process: ModuleNotFoundError: No module named 'only_here'."
    )
    assert capfd.readouterr().err == ""


def test_a_refusal_of_setup_worker_is_raised_as_it_is(pool: Open, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused, match=r"^There is no key\.$"):
        pool(RefusingSetup, 2)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("migration", "kind"), [(FailingSetup, "RuntimeError"), (UntoldSetup, "Untold"), (LeavingSetup, "SystemExit")]
)
def test_any_other_error_is_told_by_its_kind_and_place(
    migration: type[BatchMigration], kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    said = refusal(migration)
    assert re.fullmatch(
        "Migration 001-hazard failed: a worker process could not be prepared: "
        rf"setup_worker: {kind} raised at hazards\.py:\d+\.",
        said,
    )
    assert capfd.readouterr().err == ""


def test_a_process_that_dies_of_its_preparation_is_told() -> None:
    assert refusal(DyingSetup).endswith("a worker process could not be prepared: it ended (exit code 5).")


# --- signals, and the end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_sent_to_the_whole_group_are_left_to_the_parent(pool: Open, number: int) -> None:
    opened = pool()
    ((pid, _),) = results(done(opened, ["pid"]))
    os.kill(pid, number)
    assert results(done(opened, ["pid"])) == [(pid, True)]
    assert os.getpgid(pid) != os.getpgid(0)  # Ctrl-C does not reach it at all
    assert opened.deaths == 0


@pytest.mark.parametrize("how", ["hang", "hang-in-c"])
def test_closing_ends_a_worker_whatever_it_is_doing(pool: Open, tmp_path: Path, how: str) -> None:
    opened = pool(Patient)
    pid_file = tmp_path / "pid"
    hanging = opened.submit(Task(("value",), [(f"announce {how} {pid_file}",)]))
    waiting = opened.submit(Task(("value",), [("a",)]))
    wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "the row to begin")
    began = time.monotonic()
    opened.close()
    assert time.monotonic() - began < 5
    assert gone(int(pid_file.read_text()))
    for future in (hanging, waiting):
        with pytest.raises(CancelledError):
            future.result(0)


UNGUARDED = """
import sys
from system_migration.batching.executors import Transformer
from tests.support.hazards import Hazard
print("started", flush=True)
Hazard.row_seconds = 600.0
transformer = Transformer(Hazard, threads=1, processes=2)
transformer.run(("value",), [(value,) for value in sys.argv[1:]])
"""


@pytest.mark.parametrize("how", ["hang", "hang-in-c"])
def test_nothing_outlives_a_parent_that_is_killed(tmp_path: Path, how: str) -> None:
    """Nor is the parent's main script, which has no guard, run again in a worker."""
    script, files = tmp_path / "script.py", [tmp_path / "one", tmp_path / "two"]
    script.write_text(UNGUARDED)
    values = [f"announce {how} {file}" for file in files]
    parent = subprocess.Popen(
        [sys.executable, str(script), *values],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
    )
    with parent:
        try:
            wait_until(lambda: all(file.exists() and file.read_text().endswith("\n") for file in files), "the rows")
        finally:
            parent.kill()
        assert parent.communicate()[0] == b"started\n"
    for file in files:
        wait_until(partial(gone, int(file.read_text())), "a worker to end")


def test_a_worker_that_is_killed_from_outside_costs_nothing(pool: Open, caplog: pytest.LogCaptureFixture) -> None:
    opened = pool()
    ((pid, _),) = results(done(opened, ["pid"]))
    os.kill(pid, signal.SIGKILL)
    with caplog.at_level(logging.WARNING):
        assert results(done(opened, ["a", "b"])) == ["A", "B"]
    assert opened.deaths == 1


def test_where_no_kernel_tells_of_the_parent_s_death_the_closed_channel_does() -> None:
    ours, theirs = socket.socketpair()
    ended = threading.Event()
    lifeline = threading.Thread(target=worker_main._end_at_hangup, args=(theirs.fileno(), lambda code: ended.set()))
    lifeline.start()
    with theirs:
        ours.send(b"a slice")  # is for another thread to read
        assert not ended.wait(0.05)
        ours.close()
        assert ended.wait(PATIENCE)
        lifeline.join()
