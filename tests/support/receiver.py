"""A receiver of webhooks on loopback: it keeps what it is sent, and answers as the test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def news(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    """`answers` are the statuses of the first requests, 204 those of all others. While `shut`, nobody is answered."""

    url: str
    answers: list[int] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)

    @property
    def events(self) -> list[str]:
        return [each.news["event"] for each in self.received]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        receiver.received.append(Received(self.path, headers, body))
        receiver.open.wait(30)
        status = receiver.answers.pop(0) if receiver.answers else 204
        self.send_response(status)
        if status // 100 == 3:
            self.send_header("Location", f"{receiver.url}/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.receiver.received.append(Received(f"GET {self.path}", {}, b"{}"))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the test's stderr."""


@contextmanager
def receiving(answers: Sequence[int] = (), *, shut: bool = False) -> Iterator[Receiver]:
    """A receiver that listens until the block is left; `shut`, it hangs until the test sets `open`."""
    server = _Server(("127.0.0.1", 0), _Handler)
    receiver = server.receiver = Receiver(f"http://127.0.0.1:{server.server_port}/hook/hush", list(answers))
    if not shut:
        receiver.open.set()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.open.set()
        server.shutdown()
        server.server_close()
        thread.join()
