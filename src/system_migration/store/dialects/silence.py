"""Noticing that the other end of a connection has fallen silent: no answer and no end, as after a pulled cable.

Left to itself TCP gives up after a quarter of an hour, or after two hours where nothing was sent. The system's own
probes tell sooner, and never cut off a statement that merely takes long: a server that works answers them.

The probes wait while something that was sent finds no echo. A limit of its own ends that; but it also ends a connection
whose server answers and yet reads nothing, as it does at work when a driver sends statement upon statement. What the
library sends, servers read in moments; on a connection that `up` or `down` uses, the limit is lifted meanwhile.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection

IDLE_SECONDS = 10
"""Without a sign from the other end for so long, it is asked for one."""
INTERVAL_SECONDS = 5
"""So often after that."""
SILENT_SECONDS = 20
"""What was sent, or asked, and has found no echo for so long ends the connection. Shorter than a lease."""

LIMITED = "system_migration_limited"
"""Noted of a connection whose limit is ours, not somebody else's: it may be lifted."""


def notice_silence(connected: socket.socket, given: Mapping[str, str]) -> bool:
    """Set the probes and the limit of a connection, except for options that somebody has `given`, by libpq's names.

    Whether the limit is ours. What a system does not have, or refuses, it goes without.
    """
    if connected.family not in (socket.AF_INET, socket.AF_INET6) or given.get("keepalives") == "0":
        return False
    with suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, option, value in (
        ("keepalives_idle", "TCP_KEEPIDLE", IDLE_SECONDS),
        ("keepalives_idle", "TCP_KEEPALIVE", IDLE_SECONDS),  # as macOS calls it
        ("keepalives_interval", "TCP_KEEPINTVL", INTERVAL_SECONDS),
        ("keepalives_count", "TCP_KEEPCNT", max(1, (SILENT_SECONDS - IDLE_SECONDS) // INTERVAL_SECONDS)),
    ):
        if name not in given:
            _set(connected, option, value)
    return "tcp_user_timeout" not in given and _limit(connected, SILENT_SECONDS)


@contextmanager
def unlimited(connection: Connection, wire: Callable[[Any], socket.socket]) -> Iterator[None]:
    """Within the block, what `connection` sends may wait for its server to read it; the probes go on.

    `wire` makes a duplicate of the socket of a driver's connection.
    """
    if not connection.info.get(LIMITED):
        yield
        return
    with wire(connection.connection.dbapi_connection) as connected:
        _limit(connected, 0)
        try:
            yield
        finally:
            _limit(connected, SILENT_SECONDS)


def _limit(connected: socket.socket, seconds: int) -> bool:
    return _set(connected, "TCP_USER_TIMEOUT", seconds * 1000)


def _set(connected: socket.socket, option: str, value: int) -> bool:
    """Whether the option is set now. None is worth a connection: one that is gone tells so itself."""
    if not hasattr(socket, option):
        return False
    try:
        connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    except OSError:
        return False
    return True
