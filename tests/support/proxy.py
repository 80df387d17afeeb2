"""A TCP proxy that cuts a connection around a COMMIT: just before it reaches the server, or just after the answer.

It understands only as much of each protocol as that takes: how messages are framed, which one says COMMIT, and
which one ends the answer. A cut closes both sides, as a pulled cable followed by a reset would. A silent one closes
neither: it drops whatever arrives from then on, as a pulled cable alone does, or acknowledges it and does nothing more,
as a proxy that hangs does.
"""

from __future__ import annotations

import ctypes
import re
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from sqlalchemy import make_url

BEFORE, AFTER = "before it arrives", "after its answer"
CLOSED, PULLED, HANGING = "closed", "pulled", "hanging"
"""What becomes of a connection that is cut."""

_SO_ATTACH_FILTER = 26
_DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
"""A filter of one instruction: of every packet, nothing."""

_COMMIT = re.compile(rb"\A\s*COMMIT\b", re.IGNORECASE)


class CuttingProxy:
    """Listens on `url`, the address of the database behind it. `cut` is asked at each COMMIT: BEFORE, AFTER or None."""

    def __init__(self, behind: str, cut: Callable[[], str | None], left: str = CLOSED) -> None:
        address = make_url(behind)
        self._server = (address.host or "127.0.0.1", address.port or 0)
        self._frames = _postgres_frame if address.get_backend_name() == "postgresql" else _mariadb_frame
        self._cut, self.cuts, self._left = cut, 0, left
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        here = address.set(host="127.0.0.1", port=port)
        if self._frames is _postgres_frame:  # what is encrypted, nobody here understands
            here = here.update_query_dict({"sslmode": "disable", "gssencmode": "disable"})
        self.url = here.render_as_string(hide_password=False)
        self._sockets: set[socket.socket] = set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        _close(self._listener)
        self.end_connections()

    def end_connections(self) -> None:
        """Close all that are open or silent. New ones are still accepted."""
        _close(*self._sockets)

    def _accept(self) -> None:
        with suppress(OSError):  # closed: the end
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._server)
        except OSError:
            _close(client)
            return
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each message waits 40 ms for company
        pair = _Pair(client, server)
        self._sockets |= {client, server}
        threading.Thread(target=self._forward, args=(pair, server, client, False), daemon=True).start()
        self._forward(pair, client, server, True)

    def _forward(self, pair: _Pair, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        """Pass messages on, one by one, until either side ends."""
        buffer, first = b"", True
        with suppress(OSError, _Cut):
            while part := source.recv(65536):
                buffer += part
                while length := self._frames(buffer, from_client and first):
                    message, buffer, first = buffer[:length], buffer[length:], False
                    if from_client and self._is_commit(message) and not pair.is_being_set_up:
                        pair.doom = self._cut()
                    if from_client:
                        pair.is_being_set_up = b"ISOLATION LEVEL" in message
                    answered = not from_client and self._ends_answer(message)
                    if pair.doom == (AFTER if answered else BEFORE):
                        self.cuts += 1
                        if self._left == CLOSED:
                            raise _Cut
                        if self._left == PULLED:
                            pair.pull()
                        pair.hangs = True
                    if pair.hangs:
                        return
                    target.sendall(message)
        _close(pair.client, pair.server)
        self._sockets -= {pair.client, pair.server}

    def _is_commit(self, message: bytes) -> bool:
        if self._frames is _postgres_frame:  # Query, and Parse with an empty name
            return (message[:1] == b"Q" and bool(_COMMIT.match(message[5:]))) or (
                message[:1] == b"P" and bool(_COMMIT.match(message[6:]))
            )
        return message[4:5] == b"\x03" and bool(_COMMIT.match(message[5:]))

    def _ends_answer(self, message: bytes) -> bool:
        return self._frames is _mariadb_frame or message[:1] == b"Z"  # OK is all of it; ReadyForQuery


class _Cut(Exception):
    """Ends the forwarding."""


class _Pair:
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.doom: str | None = None
        self.is_being_set_up = False  # SQLAlchemy sends MariaDB a COMMIT after the isolation level

        self.hangs = False

    def pull(self) -> None:
        """From now on nothing that either side sends arrives, or is acknowledged."""
        drop_what_arrives(self.client)
        drop_what_arrives(self.server)


def drop_what_arrives(connected: socket.socket) -> None:
    """From now on nothing arrives here, or is acknowledged."""
    connected.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(_DROP_ALL)))


def _postgres_frame(buffer: bytes, is_first: bool) -> int:
    """The length of the message that `buffer` begins with, 0 if it is not all there. The first has no type."""
    start = 0 if is_first else 1
    if len(buffer) < start + 4:
        return 0
    length = start + int.from_bytes(buffer[start : start + 4], "big")
    return length if len(buffer) >= length else 0


def _mariadb_frame(buffer: bytes, is_first: bool) -> int:
    length = 4 + int.from_bytes(buffer[:3], "little") if len(buffer) >= 4 else 0
    return length if len(buffer) >= length else 0


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
