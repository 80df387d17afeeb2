"""Processes from the `fork_server`, with as much of `subprocess.Popen` as these tests need."""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

SERVER = Path(__file__).with_name("fork_server.py")
NUMBER = struct.calcsize("i")
READ_AT_THE_START = ("PYTHON", "LC_", "LANG")
"""How variables begin that an interpreter reads before a program does: the server has read its own."""
LANG = "C.UTF-8"
AT_THE_START = {"LANG": LANG} | {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
"""What the server has read, and whoever is forked from it must be given."""


class Forked:
    """A Python program as a process of its own."""

    def __init__(
        self, arguments: tuple[str, ...], folder: Path, environ: Mapping[str, str], out: int, err: int
    ) -> None:
        """Start it, with nothing on its input. `out` and `err` are descriptors, and stay the caller's."""
        self.args = arguments
        self.returncode: int | None = None
        self._news, news = os.pipe()
        request = {"arguments": arguments, "folder": str(folder), "environ": dict(environ)}
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            socket.send_fds(_server(), [json.dumps(request).encode()], [nothing, out, err, news])
        finally:
            os.close(nothing)
            os.close(news)
        self.pid = self._hear()
        self._process = _process(self.pid)

    def poll(self) -> int | None:
        """How it ended, or None while it has not."""
        return self._end_within(0)

    def wait(self, timeout: float | None = None) -> int:
        if (code := self._end_within(timeout)) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Does nothing once it has ended: its number may be another process's."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _end_within(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._news], [], [], seconds)[0]:
            self.returncode = self._hear()
            os.close(self._news)
            if self._process is not None:
                os.close(self._process)
                self._process = None
        return self.returncode

    def _hear(self) -> int:
        told = os.read(self._news, NUMBER)
        if len(told) < NUMBER:
            raise RuntimeError("the fork server has ended; what it said is above")
        return int(struct.unpack("i", told)[0])


def can_fork(environ: Mapping[str, str]) -> bool:
    """Whether the server can start what a new interpreter would be with these variables."""
    special = {name: value for name, value in environ.items() if name.startswith(READ_AT_THE_START)}
    return sys.platform == "linux" and special == AT_THE_START


def _process(pid: int) -> int | None:
    """A descriptor of the process, which unlike its number never becomes another's. None when it has ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


@functools.cache
def _server() -> socket.socket:
    """The server, started when the first process is. It ends with us: then its input is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        environ = {"PATH": os.environ.get("PATH", os.defpath)} | AT_THE_START
        command = [sys.executable, str(SERVER)]
        server = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=environ)

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours
