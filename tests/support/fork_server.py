"""Starts Python programs with the libraries that they import already loaded: two thirds of the time that a start takes.

A script of its own, for `forking`: it reads requests from the socket that is its input, and forks for each. The child
becomes the program: its folder, variables and streams, then the program's file from its first line. Nothing of the
program's own package is loaded here, so each process loads the code under test itself.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from contextlib import suppress

LIBRARIES = (
    *("alembic.migration", "alembic.operations", "click", "psycopg", "pymysql", "rich.console", "rich.live"),
    *("rich.progress", "rich.table", "sqlalchemy", "sqlalchemy.dialects.mysql.pymysql"),
    *("sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite.pysqlite"),
)
REQUEST = 1 << 16
STREAMS = 3

Request = tuple[dict[str, object], list[int]]


def main() -> None:
    """Serve until the other end is closed. Returns in a child, which is the program from then on."""
    for library in LIBRARIES:
        with suppress(ImportError):  # then the program does without it, too
            importlib.import_module(library)
    gc.collect()
    gc.freeze()  # or the children copy, page by page, what their collector merely counts
    requests = socket.socket(fileno=os.dup(0))
    ended, signalled = os.pipe()
    os.set_blocking(signalled, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests, ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            tell_ends(running)
        if requests in ready:
            if (request := receive(requests)) is None:
                os._exit(0)
            told, (*streams, news) = request
            if (pid := os.fork()) == 0:
                return become(told, streams)
            for stream in streams:
                os.close(stream)
            running[pid] = news
            os.write(news, struct.pack("i", pid))


def receive(requests: socket.socket) -> Request | None:
    descriptors = array.array("i")
    data, ancillary, _, _ = requests.recvmsg(REQUEST, socket.CMSG_SPACE((STREAMS + 1) * descriptors.itemsize))
    for _, _, packed in ancillary:
        descriptors.frombytes(packed)
    return (json.loads(data), list(descriptors)) if data else None


def tell_ends(running: dict[int, int]) -> None:
    """Say of each child that has ended how."""
    with suppress(ChildProcessError):  # there are none
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            news = running.pop(found[0])
            with suppress(BrokenPipeError):  # nobody asks any more
                os.write(news, struct.pack("i", os.waitstatus_to_exitcode(found[1])))
            os.close(news)


def become(told: dict[str, object], streams: list[int]) -> None:
    """Be what an interpreter is before the first line of the program."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(STREAMS, 256)
    environ, arguments = told["environ"], told["arguments"]
    assert isinstance(environ, dict)
    assert isinstance(arguments, list)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    os.chdir(str(told["folder"]))
    sys.argv = arguments
    sys.path[0] = os.path.dirname(arguments[0])


def run() -> int:
    """Run the program to its end, and return its exit code."""
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as asked:
        if isinstance(asked.code, str):
            print(asked.code, file=sys.stderr)
        return asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def end(code: int) -> None:
    """What an interpreter does at its end, but for taking every library to pieces, which is most of its work."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
    end(run())
