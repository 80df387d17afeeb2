"""PM2, installed from its package outside of the repository, with a daemon of its own that dies with the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.host import wait_for
from tests.support.packages import installed
from tests.support.requirements import required_program
from tests.support.servers import TETHERED

VERSION = "7.0.4"


@dataclass
class Pm2:
    """One PM2 with its daemon; `environ` is all that they are given, and `folder` where commands are typed."""

    package: Path
    node: Path
    environ: dict[str, str]
    folder: Path

    def run(self, *arguments: str, given: dict[str, str] | None = None, code: int = 0) -> str:
        """What a command of PM2 says; it must exit with `code`. `given`: more variables of the shell it is typed in."""
        ran = subprocess.run(
            [str(self.node), str(self.package / "bin/pm2"), *arguments],
            cwd=self.folder, env=self.environ | (given or {}), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        said = ran.stdout + ran.stderr
        assert ran.returncode == code, f"pm2 {' '.join(arguments)}: {said}{self.logs()}"
        return said

    def application(self) -> dict[str, Any]:
        """What PM2 knows of the one application."""
        (known,) = json.loads(self.run("jlist").splitlines()[-1])
        found: dict[str, Any] = known
        return found

    def logs(self) -> str:
        """What the application said, on both streams."""
        files = sorted((Path(self.environ["PM2_HOME"]) / "logs").glob("*.log"))
        return "".join(file.read_text(encoding="utf-8") for file in files)


@contextmanager
def running(home: Path, environ: dict[str, str], folder: Path) -> Iterator[Pm2]:
    """A PM2 whose daemon is our child, so that it, and with it all that it started, ends when we do, however we do."""
    package, node = installed("pm2", VERSION), required_program("node", "nodejs")
    home.mkdir()
    path = f"{package.parent / '.bin'}:{environ['PATH']}"
    given = {**environ, "PATH": path, "PM2_HOME": str(home), "PM2_DISCRETE_MODE": "true"}
    tether = [sys.executable, str(TETHERED), str(int(signal.SIGTERM)), str(os.getpid()), ""]
    with (home / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(
            [*tether, str(node), str(package / "lib/Daemon.js")],
            env=given, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        answers = (home / "rpc.sock").exists
        wait_for(lambda: answers() or daemon.poll() is not None, 30, "PM2's daemon")
        assert daemon.poll() is None, (home / "daemon.log").read_text()
        yield Pm2(package, node, given, folder)
    finally:
        daemon.send_signal(signal.SIGTERM)  # it stops what it started, then itself
        try:
            daemon.wait(30)
        finally:
            daemon.kill()
            daemon.wait()
