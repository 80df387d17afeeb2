"""How a lifespan asks its server to end when the deadline has passed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from system_migration.startup import Startup
from system_migration.web import lifespan, migrations_lifespan

PATIENCE = 20.0


class Late:
    """A start whose deadline passes when a test says so."""

    late: Callable[[], None]

    def begin(self, late: Callable[[], None]) -> None:
        self.late = late

    def request_stop(self, number: int) -> None:
        pass

    def stop(self) -> None:
        pass


def test_the_server_gets_its_signal_without_a_way_that_ends_a_process_on_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There `os.kill` leaves no time for a clean end, whatever the signal."""
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _, number: killed.append(number))
    exits = threading.Event()
    monkeypatch.setattr(lifespan, "_exit_not_yet", exits.set)
    startup = Late()

    async def serve() -> threading.Thread:
        asked: asyncio.Future[threading.Thread] = asyncio.get_running_loop().create_future()
        earlier = signal.signal(signal.SIGTERM, lambda *_: asked.set_result(threading.current_thread()))
        try:
            async with migrations_lifespan(cast(Startup, startup))(cast(Any, None)):
                await asyncio.to_thread(startup.late)
                return await asyncio.wait_for(asked, PATIENCE if not killed else 0)
        finally:
            signal.signal(signal.SIGTERM, earlier)

    assert asyncio.run(serve()) is threading.main_thread()
    assert killed == []
    assert exits.is_set()
