"""Noticing that the other end of a connection has fallen silent: no answer and no end, as after a pulled cable.

Left to itself TCP gives up after a quarter of an hour, or after two hours where nothing was sent. The system's own
probes tell sooner, and never cut off a statement that merely takes long: a server that works answers them.
"""

from __future__ import annotations

import socket
from collections.abc import Container

IDLE_SECONDS = 10
"""Without a sign from the other end for so long, it is asked for one."""
INTERVAL_SECONDS = 5
"""So often after that."""
SILENT_SECONDS = 20
"""What was sent, or asked, and has found no echo for so long ends the connection. Shorter than a lease."""


def notice_silence(connected: socket.socket, given: Container[str] = ()) -> None:
    """Set the probes of a connection, except for options that somebody has `given`, by libpq's names."""
    if connected.family not in (socket.AF_INET, socket.AF_INET6) or "keepalives" in given:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, option, value in (
        ("keepalives_idle", "TCP_KEEPIDLE", IDLE_SECONDS),
        ("keepalives_interval", "TCP_KEEPINTVL", INTERVAL_SECONDS),
        ("keepalives_count", "TCP_KEEPCNT", max(1, (SILENT_SECONDS - IDLE_SECONDS) // INTERVAL_SECONDS)),
        ("tcp_user_timeout", "TCP_USER_TIMEOUT", SILENT_SECONDS * 1000),
    ):
        if name not in given and hasattr(socket, option):  # not every system has them all
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
