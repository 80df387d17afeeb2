"""The person at the terminal: questions, and the signals they send."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from system_migration import wording
from system_migration.errors import Refused
from system_migration.settings import PRODUCTION

if TYPE_CHECKING:
    from system_migration.migrator import Migrator


def interactive() -> bool:
    """Whether someone can be asked: they see stderr and type into stdin."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty())


def ask_hidden(prompt: str) -> str | None:
    """Ask for something that must not be seen; None when nobody can be asked or they break off."""
    if not interactive():
        return None
    from getpass import getpass

    question = wording.shown(prompt.strip()) + " "
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return getpass(question, stream=sys.stderr)
    except EOFError:
        return None
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, earlier)
        signal.raise_signal(signal.SIGINT)  # it asks the run to stop, as at any other moment
        return None
    finally:
        signal.signal(signal.SIGINT, earlier)


def confirm_start(verb: str, environment: str, *, yes: bool) -> None:
    """In production, go on only when the person types the environment's name, or `--yes` was given."""
    if environment != PRODUCTION or yes:
        return
    if not interactive():
        raise Refused(
            f"Nothing was started: to {verb} in {environment}, give --yes, as there is no terminal to ask at."
        )
    answer = _ask(f"This will {verb} in {environment}. Type the environment's name to go on: ")
    if answer != environment:
        raise Refused(f"Nothing was started: the answer was not {environment!r}.")


def confirm_last(name: str, environment: str, *, yes: bool) -> None:
    """A rollback that names no migration goes on only when the person agrees to the one it means."""
    if yes:
        return
    if not interactive():
        raise Refused(
            f"Nothing was started: without a name this would roll back {name}, the last completed migration. "
            f"Say so with `migration rollback {name}`, or give --yes."
        )
    answer = _ask(f"Roll back {wording.shown(name)}, the last completed migration in {environment}? [y/N] ")
    if answer.lower() not in ("y", "yes"):
        raise Refused(f"Nothing was started: {name} was not to be rolled back.")


def _ask(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


@contextlib.contextmanager
def stop_on_signals(migrator: Migrator) -> Iterator[None]:
    """Within this block the first Ctrl-C or SIGTERM asks for a clean stop, and a second one ends at once.

    Ending at once is safe: the open transaction rolls back, and what was committed is in the ledger.
    """
    asked = False

    def stop(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        migrator.request_stop(number)
        with contextlib.suppress(OSError):  # os.write, because sys.stderr may be in the middle of a line
            os.write(2, b"\nstopping after the batch in flight; again to stop at once\n")

    earlier = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
