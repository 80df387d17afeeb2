"""A real Dask scheduler and real workers, as processes of their own, with nothing of the developer's environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from system_migration.batching.cluster_link import Link
from tests.support.servers import TETHERED

PATIENCE = 60.0
"""Seconds that no test waits for, unless it is about to fail."""
_QUIET = ("--no-dashboard", "--host=127.0.0.1")


class Cluster:
    """A scheduler in `folder`, and workers of one thread each. Whatever is left of them ends with the block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        told = folder / "scheduler.json"
        self.scheduler = self._start("dask_scheduler", "--port=0", "--no-show", f"--scheduler-file={told}")
        end = time.monotonic() + PATIENCE
        while not (found := _address(told)):
            assert self.scheduler.poll() is None, "the scheduler ended"
            assert time.monotonic() < end, "the scheduler did not come up"
            time.sleep(0.01)
        self.address = found

    def worker(self, name: str, environ: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
        """Start one. It has no database's address, and what is imported there is looked for in `folder` first."""
        words = ("dask_worker", self.address, "--nthreads=1", "--no-nanny", f"--name={name}")
        scratch = f"--local-directory={self._folder / 'scratch'}"
        self.workers[name] = self._start(*words, scratch, environ=environ, folder=folder)

    def wait_for_workers(self, number: int) -> None:
        """Until the scheduler knows so many of them, and no other."""
        link, end = Link(self.address), time.monotonic() + PATIENCE
        while len(link.workers()) != number:
            assert time.monotonic() < end, f"waited in vain for {number} workers"
            time.sleep(0.01)
        link.close()

    def kill(self, name: str) -> None:
        """Kill -9, now."""
        worker = self.workers.pop(name)
        worker.kill()
        worker.wait()

    def kill_all(self) -> None:
        """Every worker; the scheduler stays."""
        for name in list(self.workers):
            self.kill(name)

    def kill_scheduler(self) -> None:
        """Kill -9, now. Workers without one end by themselves."""
        self.scheduler.kill()
        self.scheduler.wait()

    def _start(
        self, command: str, *words: str, environ: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> subprocess.Popen[bytes]:
        places = [str(folder), *sys.path] if folder else sys.path
        own = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "PYTHONPATH": os.pathsep.join(places)}
        tether = (sys.executable, "-I", "-S", str(TETHERED), str(int(signal.SIGKILL)), str(os.getpid()), "")
        arguments: Sequence[str] = (*tether, sys.executable, "-m", f"distributed.cli.{command}", *words, *_QUIET)
        with (self._folder / "said.log").open("ab") as said:
            process = subprocess.Popen(
                arguments, env={**own, **(environ or {})}, cwd=self._folder, stdin=subprocess.DEVNULL, stderr=said
            )
        self._started.append(process)
        return process

    def said(self) -> str:
        """What all of them wrote."""
        return (self._folder / "said.log").read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):
            process.kill()
            process.wait()


def _address(told: Path) -> str | None:
    try:
        return str(json.loads(told.read_text(encoding="utf-8"))["address"])
    except (FileNotFoundError, ValueError):
        return None
