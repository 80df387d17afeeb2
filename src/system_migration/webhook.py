"""The ready-made notification: a signed POST, in the form that standardwebhooks.com describes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit
from uuid import NAMESPACE_URL, uuid5

from system_migration.errors import ConfigurationError
from system_migration.notifications import Notification
from system_migration.records import as_json
from system_migration.settings import Settings
from system_migration.telling import NotTold, NotYetTold

if TYPE_CHECKING:
    from urllib.request import OpenerDirector, Request

TIMEOUT_SECONDS = 5.0
"""How long a receiver may be silent: half of what the end of a process waits, so that a silent one is tried twice."""
PAUSES = (0.5, 2.0, 5.0)
"""Seconds between the attempts, of which there is one more than pauses."""
_PASSES = {408, 425, 429}
"""Answers below 500 after which it is tried again."""
_PREFIX = "whsec_"
_MESSAGES = uuid5(NAMESPACE_URL, "system-migration/notification")


def webhook_of(settings: Settings) -> Webhook:
    """The webhook that is set. Raises `ConfigurationError`, which never quotes what is set."""
    url = settings.webhook_url or ""
    parts = _parts(url)
    if parts.scheme != "https" and not _is_loopback(parts) and not settings.is_development:
        raise ConfigurationError(
            "MIGRATION_WEBHOOK_URL is http, by which anybody on the way can read it. Use https; http is for "
            "development and for this machine."
        )
    return Webhook(url, str(parts.hostname), _key(settings.webhook_secret))


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known or not url.isascii() or not url.isprintable() or " " in url or "@" in urlsplit(url).netloc:
        raise ConfigurationError(
            "MIGRATION_WEBHOOK_URL is not an address to which can be posted. Write https://HOST/PATH, without a user "
            "and a password."
        )
    return parts


def _is_loopback(parts: SplitResult) -> bool:
    try:
        return ipaddress.ip_address(str(parts.hostname)).is_loopback
    except ValueError:
        return parts.hostname == "localhost"


def _key(secret: str | None) -> bytes:
    try:
        key = base64.b64decode((secret or "").removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise ConfigurationError(
            "MIGRATION_WEBHOOK_URL needs MIGRATION_WEBHOOK_SECRET: whsec_ and the base64 of 24 to 64 random bytes. "
            'Make one with `python -c "import base64, secrets; '
            "print('whsec_' + base64.b64encode(secrets.token_bytes(32)).decode())\"`."
        )
    return key


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of the header `webhook-signature`."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


@dataclass(frozen=True)
class Webhook:
    """Posts a notification to `url`. Only `host` is ever named: the rest of an address may be its secret."""

    url: str = field(repr=False)
    host: str
    key: bytes = field(repr=False)

    def __call__(self, notification: Notification) -> None:
        """Post it once. Raises `NotTold`, of a failure that may pass `NotYetTold`.

        The message's id is made of the run and the event: the receiver knows by it what it has had already.
        """
        body = json.dumps(as_json(notification), ensure_ascii=False, separators=(",", ":")).encode()
        message_id = f"msg_{uuid5(_MESSAGES, f'{notification.run_id}/{notification.event}').hex}"
        opener = _opener(direct=_is_loopback(urlsplit(self.url)))
        reason, passes = self._post(opener, message_id, body)
        if reason is not None:
            kind = NotYetTold if passes else NotTold
            raise kind(f"The webhook at {self.host} was not told of {notification.event!r}: {reason}.")

    def _post(self, opener: OpenerDirector, message_id: str, body: bytes) -> tuple[str | None, bool]:
        """Why an attempt failed, None if it did not; and whether another one may succeed."""
        from http.client import HTTPException
        from urllib.error import HTTPError

        try:
            with opener.open(self._request(message_id, body), timeout=TIMEOUT_SECONDS):
                return None, False
        except HTTPError as answer:
            answer.close()
            return f"it answered {answer.code}", answer.code >= 500 or answer.code in _PASSES
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            return f"it could not be reached ({type(reason).__name__})", True

    def _request(self, message_id: str, body: bytes) -> Request:
        from urllib.request import Request

        now = int(time.time())  # of this attempt: receivers refuse what was signed long ago
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "system-migration",
            "webhook-id": message_id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self.key, message_id, now, body),
        }
        return Request(self.url, body, headers, method="POST")


def _opener(*, direct: bool) -> OpenerDirector:
    """One that follows no redirect, to wherever that might lead; and to this machine goes through no proxy."""
    from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener

    class NoRedirect(HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            """Nowhere: the answer then counts as a failure."""

    return build_opener(NoRedirect, *([ProxyHandler({})] if direct else []))
