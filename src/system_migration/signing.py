"""The key of the audit chain, and what is signed with it: HMAC-SHA256 over an encoding that has one reading only."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import TypeAlias

from system_migration.errors import ConfigurationError

LEAST_BYTES = 32
Signed: TypeAlias = "str | int | list[Signed] | None"


def encoded(*parts: Signed) -> bytes:
    """The parts as one JSON list in ASCII: where one ends and the next begins is never in doubt."""
    return json.dumps(parts, ensure_ascii=True, separators=(",", ":")).encode("ascii")


@dataclass(frozen=True)
class AuditKey:
    """A secret that signs. It shows nowhere; `id` is what may be told of it, and tells two keys apart."""

    secret: bytes = field(repr=False)

    @staticmethod
    def parse(text: str, variable: str) -> AuditKey:
        """The key in a setting: its very characters, whatever they encode. Raises `ConfigurationError` if too short."""
        secret = text.encode("utf-8", "surrogateescape")
        if len(secret) < LEAST_BYTES:
            raise ConfigurationError(
                f"{variable} has {len(secret)} bytes; a key must have at least {LEAST_BYTES}. "
                "Make one with `openssl rand -hex 32`."
            )
        return AuditKey(secret)

    @property
    def id(self) -> str:
        """Sixteen characters by which the key is known. They do not lead back to it."""
        return self.mac("key")[:16]

    def mac(self, *parts: Signed) -> str:
        """The signature of the parts, as 64 characters."""
        return hmac.digest(self.secret, encoded(*parts), "sha256").hex()

    def signed(self, mac: str | None, *parts: Signed) -> bool:
        """Whether `mac` is this key's signature of the parts."""
        return isinstance(mac, str) and hmac.compare_digest(mac.encode(), self.mac(*parts).encode())


class Digest:
    """How many events were added to it, and one number over all of them in their order; of any many, in little memory.

    Without a key: it proves something only where it is itself signed.
    """

    def __init__(self) -> None:
        self.count = 0
        self._hash = hashlib.sha256()

    def add(self, fields: list[Signed]) -> None:
        """Take in one more event."""
        self.count += 1
        self._hash.update(encoded(fields) + b"\n")

    def hex(self) -> str:
        """The digest so far."""
        return self._hash.hexdigest()
