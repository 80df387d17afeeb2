"""Who is told of what happens: OpenTelemetry where it is set up, the host's own hooks, and the webhook."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from system_migration.errors import ConfigurationError
from system_migration.facts import Began, Ended, Fact, WhichRun
from system_migration.notifications import Notification, notification_of
from system_migration.settings import Settings
from system_migration.store import audit
from system_migration.store.database import Database
from system_migration.store.patience import BRIEF
from system_migration.telling import Teller, flush_all

Notify = Callable[[Notification], object]
_NAMED = 10
"""So many news that were not told are named, the newest."""
_log = logging.getLogger(__name__)


class Announcer:
    """Tells everybody who wants to know, each in a thread of its own. A failure of theirs is one warning a run.

    Raises `ConfigurationError` for a webhook that cannot be, and for a hook that is async.
    """

    def __init__(self, database: Database, settings: Settings, hooks: Iterable[Notify] = ()) -> None:
        self._database = database
        self._closed = self._traced = False
        self._looking = threading.Lock()
        self._tellers: list[Teller[Any]] = [self._news_for(_name(hook), _plain(hook)) for hook in hooks]
        if settings.webhook_url:
            from system_migration import webhook  # most have none, and must start fast

            self._tellers.append(self._news_for("the webhook", webhook.webhook_of(settings), webhook.PAUSES))

    def _news_for(self, name: str, hook: Notify, pauses: Sequence[float] = ()) -> Teller[Notification]:
        return Teller(name, notification_of, hook, self._complain, pauses)

    def tell(self, fact: Fact) -> None:
        """Put it in line for everybody. Returns at once and raises nothing."""
        if not self._traced and isinstance(fact, Began | Ended):
            with self._looking:  # runs that begin at once would each find it, and all be told twice
                self._look_for_telemetry()
        for teller in self._tellers:
            teller.tell(fact)

    def _look_for_telemetry(self) -> None:
        """Asked at every beginning: a host may set it up after it has made its migrator."""
        if self._traced:
            return
        from system_migration.telemetry import telemetry  # looking is the common case, and must start fast

        try:
            listener = telemetry()
        except Exception as error:  # a provider of somebody else's, or a broken installation
            self._traced = True
            _log.warning("OpenTelemetry is told nothing (%s)", type(error).__name__, extra={"action": "notify.failed"})
            return
        if listener is not None:
            self._traced = True
            self._tellers.append(Teller("OpenTelemetry", lambda fact: fact, listener, self._complain))

    def flush(self, seconds: float) -> bool:
        """Wait until everybody is told of all that has happened, for at most so long; whether they are."""
        return flush_all(self._tellers, seconds)

    def untold(self) -> list[str]:
        """Those who are not told of all yet, by name."""
        return [teller.name for teller in self._tellers if not teller.flush(0)]

    def close(self, wait: float) -> None:
        """Tell what is not told yet, for at most so many seconds. What is left then is told to nobody, and logged."""
        told = self._closed or self.flush(wait)
        self._closed = True
        for teller in [] if told else self._tellers:
            if not teller.flush(0):
                left, dropped = teller.give_up()
                if left or dropped:  # else it has just arrived
                    _log.warning("%s", _not_told(teller.name, left, dropped), extra={"action": "notify.failed"})

    def _complain(self, run: WhichRun, sentence: str) -> None:
        """A warning in the log of the process, and in that of the run."""
        extra = {"action": "notify.failed", "migration": run.migration, "run_id": run.run_id}
        _log.warning("%s", sentence, extra=extra)
        line = datetime.now(UTC), "WARNING", sentence

        def store(connection: Connection) -> None:
            audit.add_lines(connection, run.run_id, [line])

        if not self._closed:
            try:
                self._database.transact(store, patience=BRIEF)
            except Exception as error:  # the process has been told; it is only one line less
                _log.info("that warning is not in the run's log: %s", type(error).__name__, extra=extra)


def _not_told(name: str, left: Sequence[object], dropped: int) -> str:
    """Which news are missing; of facts, which are for machines, how many."""
    named = [f"that {each}" for each in left if isinstance(each, Notification)][-_NAMED:]
    more = len(left) - len(named) + dropped
    parts = named + ([f"of {more:,} {'more' if named else 'of its'} events"] if more else [])
    return f"{name[0].upper()}{name[1:]} was not told {', and '.join(parts)} before this process ended."


def _name(hook: Notify) -> str:
    return f"The hook {getattr(hook, '__qualname__', type(hook).__qualname__)}"


def _plain(hook: Notify) -> Notify:
    """The hook, unless nobody would await what it returns: it would be told of nothing, and nobody would notice."""
    if inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(getattr(hook, "__call__", None)):  # noqa: B004
        raise ConfigurationError(
            f"{_name(hook)} is async, but is called in a thread that has no event loop. Give a plain function, which "
            "may call it by asyncio.run()."
        )
    return hook
