"""bcrypt's threads: how many work, how many wait, and who is turned away."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from ante_backend.cores import usable_cores
from ante_backend.hashing import QUEUE, Busy, Hashing


def test_so_many_work_so_many_wait_and_the_next_is_turned_away() -> None:
    async def scenario() -> None:
        hashing = Hashing(threads=2, queue=3)
        gate, at_work = threading.Event(), threading.Semaphore(0)
        most = 0

        def work() -> str:
            nonlocal most
            at_work.release()
            most = max(most, sum(thread.name.startswith("bcrypt") for thread in threading.enumerate()))
            assert gate.wait(30)
            return threading.current_thread().name

        async def one() -> str:
            with hashing.place():
                return await hashing.run(work)

        tasks = [asyncio.create_task(one()) for _ in range(5)]
        await asyncio.to_thread(lambda: [at_work.acquire(timeout=30) for _ in range(2)])
        with pytest.raises(Busy):
            await one()
        gate.set()
        names = await asyncio.gather(*tasks)
        assert all(name.startswith("bcrypt") for name in names)
        assert most == 2
        assert (await one()).startswith("bcrypt")  # the places were given back
        hashing.close()

    asyncio.run(scenario())


def test_a_place_is_given_back_after_an_error() -> None:
    hashing = Hashing(threads=1, queue=0)
    for _ in range(3):
        with pytest.raises(KeyError), hashing.place():
            raise KeyError
    hashing.close()


def test_at_least_thirty_two_may_wait() -> None:
    assert QUEUE >= 32


def test_only_cores_that_the_process_may_use_count() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from ante_backend.cores import usable_cores; print(usable_cores())"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "1\n"
    assert usable_cores() == len(os.sched_getaffinity(0))


def test_where_a_system_tells_no_such_cores_all_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_cores() == 7
