"""What the application refuses to start with, in words that hold no secret."""

from __future__ import annotations

import pytest

from ante_backend.app_settings import Configuration, read_app_settings
from ante_backend.settings import HostSettings, SettingsError
from system_migration import Settings

SECRET = "s" * 32
KEY = "a key of passwords, by chance long enough"


def configured(host: HostSettings | None = None, library: Settings | None = None, **app: object) -> Configuration:
    given = {"auth_secret": SECRET} | app
    return Configuration(read_app_settings(**given), host or HostSettings(), library or Settings())


def test_variables_are_read_and_empty_ones_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AUTH_SECRET": SECRET, "AUTH_SECRET_OLD": "", "PORT": "", "LISTEN_HOST": "::"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ENCRYPTION_KEY", "")
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/ante")
    monkeypatch.setenv("APP_ENV", "production")
    configuration = Configuration.from_environment()
    assert (configuration.app.port, configuration.app.listen_host) == (8000, "::")
    assert configuration.app.secrets == [("AUTH_SECRET", SECRET.encode())]
    assert (configuration.database_url, configuration.is_development) == ("postgresql://db/ante", False)
    assert SECRET not in repr(configuration)


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ({"auth_secret": "x" * 31}, "AUTH_SECRET is shorter than 32 bytes: set it to what "),
        ({"auth_secret_old": "x" * 31}, "AUTH_SECRET_OLD is shorter than 32 bytes: set it to what "),
        ({"auth_secret": KEY}, "AUTH_SECRET is also a key of passwords: set it to what "),
        ({"auth_secret_old": "old " + KEY}, "AUTH_SECRET_OLD is also a key of passwords: set it to what "),
        (
            {"access_token_minutes": 16},
            "ACCESS_TOKEN_MINUTES cannot be used: input should be less than or equal to 15.",
        ),
        ({"port": "http"}, "PORT cannot be used: input should be a valid integer"),
    ],
)
def test_what_it_does_not_start_with(app: dict[str, object], said: str) -> None:
    host = HostSettings(encryption_key=KEY, encryption_keys_old=("old " + KEY,))
    with pytest.raises(SettingsError) as refused:
        configured(host, **app)
    assert str(refused.value).startswith(said)
    assert not any(str(value) in str(refused.value) for name, value in app.items() if "secret" in name)
    assert refused.value.__context__ is None


def test_a_secret_of_few_characters_may_be_long_in_bytes() -> None:
    assert configured(auth_secret="é" * 16).app.secrets == [("AUTH_SECRET", ("é" * 16).encode())]


def test_a_blank_encryption_key_is_a_mistake_and_none_is_not() -> None:
    with pytest.raises(SettingsError, match="ENCRYPTION_KEY is blank"):
        configured(HostSettings(encryption_key="  "))
    assert configured(HostSettings(encryption_key=None)).host.encryption_key is None


@pytest.mark.parametrize(
    ("environment", "url", "is_development"),
    [
        ("development", "postgresql://db/ante", True),
        (None, "sqlite:///x.db", True),
        (None, None, True),
        (None, "postgresql://db/ante", False),
        ("production", "sqlite:///x.db", False),
        ("staging", "postgresql://db/ante", False),
    ],
)
def test_it_is_development_only_beyond_doubt(environment: str | None, url: str | None, is_development: bool) -> None:
    library = Settings(environment=environment, database_url=url)
    assert configured(library=library).is_development is is_development
