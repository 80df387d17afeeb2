"""What the operator may set for the application alone. Only the application imports this: pydantic takes its time.

`Configuration` is everything an application is made of; `from_environment` is the only thing here that reads variables.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ante_backend.settings import HostSettings, SettingsError, required_key
from ante_backend.tokens import MIN_SECRET_BYTES
from system_migration import Settings, read_settings

#: Wherever the application is started from, it knows its own.
OWN_MIGRATIONS: Final = "ante_backend.migrations"

_NEW_SECRET: Final = "set it to what `python -c 'import secrets; print(secrets.token_urlsafe(48))'` prints"


class AppSettings(BaseSettings):
    """The application's own variables; secrets stay out of the repr and out of error messages."""

    model_config = SettingsConfigDict(env_ignore_empty=True, hide_input_in_errors=True, extra="ignore", frozen=True)

    auth_secret: SecretStr
    """Signs tokens: at least 32 random bytes."""
    auth_secret_old: SecretStr | None = None
    """The secret before it, while tokens under it are still about: for half an hour after a rotation."""
    access_token_minutes: Annotated[int, Field(ge=1, le=15)] = 15
    listen_host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 8000

    @property
    def secrets(self) -> list[tuple[str, bytes]]:
        """The secrets with their variables' names, the one to sign with first."""
        given = {"AUTH_SECRET": self.auth_secret, "AUTH_SECRET_OLD": self.auth_secret_old}
        return [(name, secret.get_secret_value().encode()) for name, secret in given.items() if secret is not None]


@dataclass(frozen=True)
class Configuration:
    """What an application is made of. Raises SettingsError for a secret that must not be used."""

    app: AppSettings
    host: HostSettings
    library: Settings

    def __post_init__(self) -> None:
        if self.host.encryption_key:
            required_key(self.host)
        passwords_keys = {key.encode() for key in (self.host.encryption_key, *self.host.encryption_keys_old) if key}
        for name, secret in self.app.secrets:
            if len(secret) < MIN_SECRET_BYTES:
                raise SettingsError(name, f"is shorter than {MIN_SECRET_BYTES} bytes", _NEW_SECRET)
            if secret in passwords_keys:
                raise SettingsError(name, "is also a key of passwords", _NEW_SECRET)

    @classmethod
    def from_environment(cls) -> Configuration:
        """Read and check every variable. Raises SettingsError or the library's ConfigurationError."""
        host = HostSettings.from_environment(os.environ)
        migrations = os.environ.get("MIGRATIONS") or OWN_MIGRATIONS
        library = read_settings({}, os.environ | {"MIGRATIONS": migrations}, Path("pyproject.toml"))
        return cls(read_app_settings(), host, library)

    @property
    def database_url(self) -> str:
        """The one database that holds accounts and the record of migrations."""
        return self.library.required_database_url()

    @property
    def is_development(self) -> bool:
        """Whether this is no environment that matters, so that the application may describe itself."""
        return self.library.is_development


def read_app_settings(**given: Any) -> AppSettings:
    """The application's variables, those given here instead. Raises SettingsError for the first that cannot be used."""
    try:
        return AppSettings(**given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    name = str(first["loc"][0]).upper()  # outside the handler: the error as a context would hold what was given
    if first["type"] == "missing":
        raise SettingsError(name, "is not set", _NEW_SECRET)
    raise SettingsError(name, "cannot be used", f"{first['msg'][0].lower()}{first['msg'][1:]}")
