"""A SIGTERM reaches the router when it arrives, and not only when the server has waited for its clients to leave.

A server waits for open answers before it shuts its application down. An event stream would keep it for as long as its
client listens, and a run would go on meanwhile.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def also_on_stop(act: Callable[[int], None]) -> Iterator[None]:
    """Within this block `act` is called with a stop signal's number, before the handler that was there.

    Nothing is changed outside of the main thread, or where the signal has no handler in Python: the server has not
    asked to be told either.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    theirs = {number: handler for number, handler in earlier.items() if callable(handler)}

    def stop(number: int, frame: FrameType | None) -> None:
        act(number)
        theirs[signal.Signals(number)](number, frame)

    for number in theirs:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in theirs.items():
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)
