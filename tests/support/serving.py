"""Backends that really serve: a small application with our health routes, alone under uvicorn or twelve at once."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.command import PATIENCE, Environ, Project, Running, wait_until
from tests.support.host import free_port

HOW_TO = (Path(__file__).parents[2] / "docs/how-to/start-up.md").read_text(encoding="utf-8")


def example(file: str) -> str:
    """A file of the how-to page: what it shows is what is served here."""
    return HOW_TO.partition(f"<!-- example: {file} -->\n```python\n")[2].partition("```")[0]


MANY = '''
"""Forks as many servers as it is told, as a preloading server does, and says where they listen."""

import ctypes
import json
import os
import signal
import socket
import sys

import uvicorn

from app import create_app

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
servers = {}
for listener in sockets:
    if (pid := os.fork()) == 0:
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
        config = uvicorn.Config(create_app, factory=True, log_level="warning", timeout_keep_alive=120)
        uvicorn.Server(config).run(sockets=[listener])
        os._exit(0)
    servers[pid] = listener.getsockname()[1]
signal.signal(signal.SIGTERM, lambda *_: [os.kill(pid, signal.SIGTERM) for pid in servers])
with open("servers.part", "w") as file:
    json.dump(servers, file)
os.replace("servers.part", "servers.json")
for pid in servers:
    os.waitpid(pid, 0)
'''


@dataclass
class Backend:
    """A server that listens on a port of this machine."""

    port: int
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    def get(self, path: str) -> tuple[int, Any]:
        """The status and the JSON of an answer; raises OSError where nobody listens."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def is_live(self) -> bool:
        try:
            return self.get("/health/live") == (200, {"status": "alive"})
        except (OSError, http.client.HTTPException):
            return False

    def ready(self) -> tuple[int, str]:
        """The status of `/health/ready`, and the state that it names."""
        status, document = self.get("/health/ready")
        return status, document["state"]

    def come_to(self, *states: tuple[int, str]) -> None:
        """Wait until it says so."""
        wait_until(lambda: self.ready() in states, f"{states} of {self}, which says {self.get('/health/ready')}")

    def seconds_of_liveness(self) -> float:
        """How long one answer of `/health/live` takes."""
        began = time.perf_counter()
        assert self.get("/health/live")[0] == 200
        return time.perf_counter() - began

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def serve(project: Project, env: Environ | None = None, more: str = "") -> Iterator[tuple[Running, Backend]]:
    """One backend under uvicorn, and its process. `more` is added to its code."""
    (project.folder / "app.py").write_text(example("app.py") + more, encoding="utf-8")
    backend = Backend(free_port())
    arguments = ("-m", "uvicorn", "--factory", "app:create_app", "--port", str(backend.port))
    arguments += ("--log-level", "warning", "--timeout-keep-alive", "120")
    with project.start(*arguments, env=env, program=Path(sys.executable)) as running, closing(backend):
        wait_until(lambda: backend.is_live() or not running.going, "the server to answer")
        assert running.going, running.end()
        yield running, backend


@contextmanager
def serve_many(
    project: Project, count: int, env: Environ | None = None
) -> Iterator[tuple[Running, dict[int, Backend]]]:
    """So many backends at once, by the number of their process."""
    (project.folder / "app.py").write_text(example("app.py"), encoding="utf-8")
    (project.folder / "many.py").write_text(MANY, encoding="utf-8")
    where = project.folder / "servers.json"
    with project.start("many.py", str(count), env=env, program=Path(sys.executable)) as running, ExitStack() as stack:
        wait_until(lambda: where.exists() or not running.going, "the servers to be started")
        assert running.going, running.end()
        backends = {int(pid): Backend(port) for pid, port in json.loads(where.read_text()).items()}
        for backend in backends.values():
            stack.callback(backend.close)
        yield running, backends
