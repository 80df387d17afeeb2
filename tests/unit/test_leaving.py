"""Work that is handed to threads while the interpreter ends, in an interpreter that really does."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from system_migration.batching.leaving import submitted

LEAVING = """
import threading
from concurrent.futures import thread

from system_migration.batching.crew import Crew
from system_migration.errors import Interrupted

def work():
    crew.hand_over(closed.wait)  # the interpreter waits for the end of it
    crew.hand_over(int)
    handed.set()
    while not thread._shutdown:
        closed.wait(0.005)
    try:
        crew.hand_over(int)
    except Interrupted as stop:
        print(stop)
    finally:
        closed.set()

crew, closed, handed = Crew(2), threading.Event(), threading.Event()
worker = threading.Thread(target=work, daemon=True)
worker.start()
assert handed.wait(20)
"""


def test_a_crew_whose_process_ends_is_interrupted() -> None:
    ran = subprocess.run([sys.executable, "-c", LEAVING], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("Stopped by SIGTERM at a clean checkpoint.")


def test_another_error_of_an_executor_is_a_failure() -> None:
    class Crowded(Executor):
        def submit(self, *_: object, **__: object) -> Future[Any]:
            raise RuntimeError("can't start new thread")

    with pytest.raises(RuntimeError, match="can't start new thread"):
        submitted(Crowded(), int)
