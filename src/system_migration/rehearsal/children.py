"""A forked process that works and is killed at a chosen moment, as a power cut would have it."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

PATIENCE = 120.0
"""After so many seconds without an end a child hangs. It is killed, and `TimeoutError` raised."""

CAN_FORK = hasattr(os, "fork")


def run_in_child(work: Callable[[Callable[[Any], None]], Any]) -> dict[str, Any]:
    """Work in a child: {"killed": ...} with what it said before it killed itself, {"done": ...}, or {"error": ...}.

    `work` is handed the function that ends the child with SIGKILL, and returns something that JSON can carry. The
    parent must have no connection in a pool that the child uses. However this ends, the child is gone afterwards.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: only the child's own are needed
        pid = os.fork()
    if pid == 0:
        _live(work, writer)
    os.close(writer)
    try:
        said = _listen(reader)
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    ending: dict[str, Any] = json.loads(said) if said else {"error": "the process ended without a word"}
    return ending


def _listen(reader: int) -> bytes:
    """Until its end of the pipe is closed, which a killed process does too."""
    said, until = b"", time.monotonic() + PATIENCE
    while True:
        if not select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
            raise TimeoutError(f"a rehearsed run said nothing for {PATIENCE:.0f} seconds")
        part = os.read(reader, 65536)
        if not part:
            return said
        said += part


def _live(work: Callable[[Callable[[Any], None]], Any], writer: int) -> None:
    gc.freeze()  # its collector would copy, page by page, what is the parent's

    def say(ending: dict[str, Any]) -> None:
        os.write(writer, json.dumps(ending).encode())

    def die(last_words: Any) -> None:
        say({"killed": last_words})
        os.kill(os.getpid(), signal.SIGKILL)

    try:
        say({"done": work(die)})
    except BaseException as error:
        say({"error": str(error)})
    finally:
        os._exit(0)  # no clean-up of the parent's
