"""What the operator may set for the host. Only this module looks at environment variables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, get_args

from ante_backend.passwords import MAX_COST, MIN_COST, Over72Policy
from ante_backend.texts import is_text

OWASP_COST_FLOOR: Final = 10
MAX_OBSERVATION_DAYS: Final = 3650
#: They are in memory at once, and at 36 a second this many take three quarters of an hour.
MAX_SAMPLE: Final = 100_000


class SettingsError(Exception):
    """A variable cannot be used: names `variable`, the reason and the next step, never a secret's value."""

    def __init__(self, variable: str, reason: str, next_step: str) -> None:
        super().__init__(variable, reason, next_step)
        self.variable, self.reason, self.next_step = variable, reason, next_step

    def __str__(self) -> str:
        return f"{self.variable} {self.reason}: {self.next_step}."


@dataclass(frozen=True)
class Canary:
    """An account whose password the operator knows: proof of the key (passwords.md 3.4.5).

    `username` may be the e-mail instead. `line` is where it stands in ENCRYPTION_CANARY: what messages name it by.
    """

    username: str
    password: str = field(repr=False)
    line: int = field(default=1, repr=False, compare=False)


@dataclass(frozen=True)
class HostSettings:
    """The host's settings; secrets stay out of the repr.

    Built directly it takes every cost bcrypt can do (tests use 4); OWASP's floor holds for the environment.
    Raises SettingsError.
    """

    encryption_key: str | None = field(default=None, repr=False)
    encryption_keys_old: tuple[str, ...] = field(default=(), repr=False)
    canaries: tuple[Canary, ...] = field(default=(), repr=False)
    bcrypt_cost: int = OWASP_COST_FLOOR
    over_72_bytes: Over72Policy = "hold"
    verify_sample: int = 50
    observation_days: int = 14
    database_url: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not MIN_COST <= self.bcrypt_cost <= MAX_COST:
            reason = f"is outside bcrypt's range of {MIN_COST} to {MAX_COST}"
            raise SettingsError("BCRYPT_COST", reason, "set a cost in that range")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> HostSettings:
        """Read and check every variable; raises SettingsError for the first that cannot be used."""
        return cls(
            encryption_key=_text(environ, "ENCRYPTION_KEY"),
            encryption_keys_old=tuple(_old_keys(environ)),
            canaries=tuple(_canaries(environ)),
            bcrypt_cost=_cost(environ),
            over_72_bytes=_policy(environ),
            verify_sample=_sample(environ),
            observation_days=_observation(environ),
            database_url=_text(environ, "DATABASE_URL"),
        )


def required_key(settings: HostSettings) -> str:
    """The main key, exactly as given; raises SettingsError when there is none or it is blank."""
    key = settings.encryption_key
    if key is None:
        raise SettingsError("ENCRYPTION_KEY", "is not set", "set it to the legacy application's key")
    if not key.strip():  # scrypt would accept it (passwords.md, catalogue 2)
        raise SettingsError("ENCRYPTION_KEY", "is blank", "set it to the legacy application's key")
    return key


def _text(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name)
    if value is not None and not is_text(value):
        raise SettingsError(name, "is not valid UTF-8", "set it again as UTF-8 text")
    return value


def _lines(environ: Mapping[str, str], name: str) -> Iterator[tuple[int, str]]:
    # Not splitlines(): a key or password may contain U+2028, form feed and the like.
    for number, line in enumerate((_text(environ, name) or "").split("\n"), start=1):
        if line:
            yield number, line


def _old_keys(environ: Mapping[str, str]) -> Iterator[str]:
    for number, line in _lines(environ, "ENCRYPTION_KEYS_OLD"):
        if not line.strip():
            raise SettingsError("ENCRYPTION_KEYS_OLD", f"has a blank key in line {number}", "remove that line")
        yield line


def _canaries(environ: Mapping[str, str]) -> Iterator[Canary]:
    for number, line in _lines(environ, "ENCRYPTION_CANARY"):
        username, _, password = line.partition(":")
        if not username or not password:
            raise SettingsError(
                "ENCRYPTION_CANARY", f"cannot be read in line {number}", "write the line as username:password"
            )
        yield Canary(username, password, number)


def _whole_number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, str(default))
    # Stricter than int(), which also takes "1_0", spaces and other scripts' digits.
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise SettingsError(name, "is not a whole number", f"set it to digits only, such as {default}")
    return int(text)


def _cost(environ: Mapping[str, str]) -> int:
    cost = _whole_number(environ, "BCRYPT_COST", OWASP_COST_FLOOR)
    if cost < OWASP_COST_FLOOR:
        reason = f"is below {OWASP_COST_FLOOR}, the least that OWASP allows"
        raise SettingsError("BCRYPT_COST", reason, f"set it to {OWASP_COST_FLOOR} or more")
    return cost


def _policy(environ: Mapping[str, str]) -> Over72Policy:
    given = environ.get("PASSWORD_OVER_72_BYTES", "hold")
    policies: tuple[Over72Policy, ...] = get_args(Over72Policy)
    for policy in policies:
        if given == policy:
            return policy
    raise SettingsError("PASSWORD_OVER_72_BYTES", "is not a known policy", f"set one of {', '.join(policies)}")


def _sample(environ: Mapping[str, str]) -> int:
    sample = _whole_number(environ, "PASSWORD_VERIFY_SAMPLE", 50)
    if sample < 1:
        raise SettingsError("PASSWORD_VERIFY_SAMPLE", "is below 1", "set it to 1 or more")
    if sample > MAX_SAMPLE:
        raise SettingsError("PASSWORD_VERIFY_SAMPLE", f"is over {MAX_SAMPLE}", f"set it to {MAX_SAMPLE} or less")
    return sample


def _observation(environ: Mapping[str, str]) -> int:
    days = _whole_number(environ, "LEGACY_OBSERVATION_DAYS", 14)
    if days > MAX_OBSERVATION_DAYS:
        reason, limit = f"is over {MAX_OBSERVATION_DAYS}, ten years", f"set it to {MAX_OBSERVATION_DAYS} or less"
        raise SettingsError("LEGACY_OBSERVATION_DAYS", reason, limit)
    return days
