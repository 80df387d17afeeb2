"""Developers named by a file, for a server without a host and the command line: one `name:sha256-of-the-token` a line.

The tokens themselves stand nowhere. The file is read again when it changes, so that a line taken out acts at once.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path

from system_migration.errors import ConfigurationError

_LINE = re.compile(r"([^:\s#][^:]{0,99}):([0-9a-f]{64})", re.ASCII)


def make_token(name: str) -> tuple[str, str]:
    """A new token, and the line that lets it in. Raises `ConfigurationError` for a name that cannot stand there."""
    token = secrets.token_urlsafe(32)
    line = f"{name}:{_digest(token)}"
    if not name.isprintable() or _LINE.fullmatch(line) is None:
        raise ConfigurationError(
            "The name must be 1 to 100 printable characters without a colon, the first no # or blank."
        )
    return token, line


class TokenFile:
    """Who may act, as a file says. Raises `ConfigurationError` for one that cannot be used, or that others may read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._names: dict[str, str] = {}
        self._refresh()

    def name_of(self, token: str | None) -> str | None:
        """Whose token it is; None for no token, and for none of the file's. Raises `ConfigurationError` likewise."""
        names = self._now()
        line = self.line_of(token) if token is not None else None
        return None if line is None else names.get(line)

    def line_of(self, token: str) -> str | None:
        """What stands in the file for this token; None when nothing does. Raises `ConfigurationError` for a bad file.

        Every line is compared, each in constant time: the answer's time tells nothing of the tokens.
        """
        digest, found = _digest(token), None
        for known in self._now():
            if hmac.compare_digest(known, digest):
                found = known
        return found

    def name_on(self, line: str) -> str | None:
        """The name that stands beside it now; None when it has left the file. Raises `ConfigurationError` likewise."""
        return self._now().get(line)

    def _now(self) -> dict[str, str]:
        try:
            self._refresh()
        except ConfigurationError as error:
            raise ConfigurationError("The tokens cannot be checked just now; the server's log says why.") from error
        return self._names

    def _refresh(self) -> None:
        try:
            with self._path.open(encoding="utf-8") as file:
                now = os.fstat(file.fileno())
                seen = (now.st_ino, now.st_mtime_ns, now.st_size, now.st_mode)
                if seen == self._seen:
                    return
                demand_private(self._path, now)
                names = self._parse(file.read())
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ConfigurationError(f"The token file {self._path} cannot be read ({reason}).") from None
        self._names, self._seen = names, seen

    def _parse(self, text: str) -> dict[str, str]:
        names: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            found = _LINE.fullmatch(line.strip())
            if found is None:
                raise ConfigurationError(
                    f"Line {number} of the token file {self._path} is not `name:sha256-of-the-token`. "
                    "`migration serve --make-token NAME` prints one."
                )
            names[found[2]] = found[1]
        if not names:
            raise ConfigurationError(f"The token file {self._path} names nobody. Add a line for each developer.")
        return names


def demand_own(path: Path, now: os.stat_result) -> None:
    """Raise `ConfigurationError` for a file with a token in it that anybody but its owner may read or write."""
    if now.st_mode & (stat.S_IRWXO | stat.S_IRWXG):
        raise ConfigurationError(f"The file {path} of your token is open to others. Close it with `chmod 600`.")


def demand_private(path: Path, now: os.stat_result) -> None:
    """Raise `ConfigurationError` for a file that everybody may read, or that others may write."""
    if now.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigurationError(
            f"The token file {path} is open to others. Close it with `chmod 600`, or 640 for its group."
        )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
