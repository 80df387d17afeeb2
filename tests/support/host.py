"""What a server asks of the machine: a directory, a port, a user, its programs, and news of its processes."""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SCRATCH_PREFIX = "test-server-"
MEMORY = Path("/dev/shm")
ROOM = 4 << 30
"""Bytes that must be free in memory for files of tests to lie there: some servers at a time, 300 MB each at most."""
SYSTEM_DIRECTORIES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/bin", "/sbin")


class BinaryMissing(Exception):
    """A database is not installed here; the message says which program was looked for and what brings it."""


def alive(pid: int) -> bool:
    """Whether the process still runs; a zombie that nobody has waited for does not."""
    state = _process_state(pid)
    return state is not None and state[0] not in "ZX"


def _process_state(pid: int) -> tuple[str, int] | None:
    """The state letter and the parent of a process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, parent = stat.rpartition(")")[2].split()[:2]  # the name before may contain anything
    return state, int(parent)


def children(parent: int) -> list[int]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if (state := _process_state(pid)) is not None and state[1] == parent]


def signal_quietly(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.01)


def service_user(preferred: str) -> str | None:
    """Whom the server runs as: us, or, since servers refuse root, an unprivileged account."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return preferred if preferred in known else "nobody"


def temporary_root() -> Path:
    """Where the files of tests lie: in memory if there is room for them, else where TMPDIR says.

    A file there outlives a killed process as it does on a disk, and only a power cut could tell them apart. But making
    a database with its tables is several times as quick: it makes a hundred files, each of which a disk must write.
    """
    try:
        found = os.statvfs(MEMORY)
    except OSError:  # not Linux
        return Path(tempfile.gettempdir())
    roomy = found.f_bavail * found.f_frsize >= ROOM and os.access(MEMORY, os.W_OK | os.X_OK)
    return MEMORY if roomy else Path(tempfile.gettempdir())


def scratch_directory(user: str | None, *, on_disk: bool = False) -> tuple[Path, int]:
    """A new directory owned by the server's user, and a lock on it that ends with this process.

    What a killed session left behind is removed here: directories that nobody has locked.
    For root a disk's is below /tmp, whatever TMPDIR says, because the server's user must be able to walk to it.
    """
    disk = Path("/tmp" if user else tempfile.gettempdir())
    in_memory = not on_disk and temporary_root() == MEMORY
    for root in (disk, MEMORY):
        _remove_abandoned(root)
    directory = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=MEMORY if in_memory else disk))
    lock = os.open(directory, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    if user:
        entry = pwd.getpwnam(user)
        os.chown(directory, entry.pw_uid, entry.pw_gid)
    return directory, lock


def _remove_abandoned(root: Path) -> None:
    for directory in root.glob(SCRATCH_PREFIX + "*"):
        try:
            if time.time() - directory.stat().st_mtime < 60:  # perhaps just made, and not locked yet
                continue
            lock = os.open(directory, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:  # another user's, or gone
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        except BlockingIOError:  # in use
            pass
        finally:
            os.close(lock)


def free_port() -> int:
    """A port outside the range for outgoing connections.

    From that range, a client that polls a killed server may be given the server's port and connect to itself.
    """
    while True:
        port = 15_000 + secrets.randbelow(17_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def program(name: str, package: str) -> str:
    found = shutil.which(name, path=search_path())
    if found is None:
        raise BinaryMissing(f"no {name} found: apt-get install {package}")
    return found


def search_path() -> str:
    """PATH, and where Debian keeps servers: a normal user's PATH has no sbin."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_DIRECTORIES])
