"""Settings: who wins, what is refused and with which sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from system_migration.errors import ConfigurationError
from system_migration.settings import DEVELOPMENT_DATABASE, Settings, read_settings
from system_migration.signing import AuditKey

PROJECT_TEXT = """\
[tool.system_migration]
database_url = "sqlite:///project.db"
environment = "project"
migrations = "project.migrations"
lease_seconds = 3
log_format = "json"
dask_scheduler = "tcp://p:1"
dask_fallback = true
run_on_startup = true
auto_migrate = true
allow_production_auto_migrate = 1
startup_wait = true
startup_seconds = 60
webhook_url = "https://project.example"
webhook_secret = "p"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text(PROJECT_TEXT, encoding="utf-8")
    return path


def test_the_defaults() -> None:
    assert read_settings({}, {}) == Settings(
        database_url=None,
        environment=None,
        migrations="migrations",
        lease_seconds=30.0,
        log_format="text",
        dask_scheduler=None,
        dask_fallback=False,
        run_on_startup=False,
        auto_migrate=False,
        allow_production_auto_migrate=False,
        startup_wait=False,
        startup_seconds=300.0,
        webhook_url=None,
        webhook_secret=None,
    )


@pytest.mark.parametrize(
    ("field", "variable", "flag", "variable_value", "from_flag", "from_variable", "from_project", "default"),
    [
        ("database_url", "DATABASE_URL", "sqlite:///f", "sqlite:///v", "sqlite:///f", "sqlite:///v",
         "sqlite:///project.db", None),
        ("environment", "MIGRATION_ENVIRONMENT", "f", "v", "f", "v", "project", None),
        ("environment", "APP_ENV", "f", "v", "f", "v", "project", None),
        ("migrations", "MIGRATIONS", "f", "v", "f", "v", "project.migrations", "migrations"),
        ("lease_seconds", "MIGRATION_LEASE_SECONDS", 1, "2", 1.0, 2.0, 3.0, 30.0),
        ("log_format", "LOG_FORMAT", "json", "text", "json", "text", "json", "text"),
        ("dask_scheduler", "DASK_SCHEDULER", "tcp://f:1", "tcp://v:1", "tcp://f:1", "tcp://v:1", "tcp://p:1", None),
        ("dask_fallback", "DASK_FALLBACK", "1", "0", True, False, True, False),
        ("run_on_startup", "RUN_MIGRATIONS_ON_STARTUP", "1", "0", True, False, True, False),
        ("auto_migrate", "AUTO_MIGRATE", True, "FALSE", True, False, True, False),
        ("allow_production_auto_migrate", "ALLOW_PRODUCTION_AUTO_MIGRATE", True, "false", True, False, True, False),
        ("startup_wait", "MIGRATION_STARTUP_WAIT", True, "0", True, False, True, False),
        ("startup_seconds", "MIGRATION_STARTUP_SECONDS", 1, "2", 1.0, 2.0, 60.0, 300.0),
        ("webhook_url", "MIGRATION_WEBHOOK_URL", "https://f", "https://v", "https://f", "https://v",
         "https://project.example", None),
        ("webhook_secret", "MIGRATION_WEBHOOK_SECRET", "f", "v", "f", "v", "p", None),
    ],
)  # fmt: skip
def test_a_flag_beats_the_environment_beats_the_project_beats_the_default(
    project: Path,
    field: str,
    variable: str,
    flag: Any,
    variable_value: str,
    from_flag: Any,
    from_variable: Any,
    from_project: Any,
    default: Any,
) -> None:
    def read(flags: dict[str, Any], environ: dict[str, str], file: Path | None) -> Any:
        return getattr(read_settings(flags, environ, file), field)

    assert read({field: flag}, {variable: variable_value}, project) == from_flag
    assert read({field: None}, {variable: variable_value}, project) == from_variable
    assert read({field: ""}, {variable: ""}, project) == from_project  # given but empty counts as not given
    assert read({}, {}, None) == default


def test_our_own_name_of_the_environment_beats_the_application_s() -> None:
    assert read_settings({}, {"APP_ENV": "app", "MIGRATION_ENVIRONMENT": "ours"}).environment == "ours"


def test_a_missing_project_file_or_table_is_no_error(tmp_path: Path) -> None:
    other = tmp_path / "pyproject.toml"
    other.write_text("[tool.ruff]\nline-length = 120\n", encoding="utf-8")
    assert read_settings({}, {}, other) == read_settings({}, {}, tmp_path / "none.toml") == Settings()


@pytest.mark.parametrize("value", ["soon", "0.1", "3601", "-5", "nan", "inf"])
def test_a_lease_that_makes_no_sense_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read_settings({}, {"MIGRATION_LEASE_SECONDS": value})
    assert str(error.value) == (
        f"MIGRATION_LEASE_SECONDS is {value!r}; it must be a number of seconds from 0.2 to 3600."
    )


@pytest.mark.parametrize("value", ["yes", "on", "ture", "2", " true", "None"])
@pytest.mark.parametrize(
    "variable",
    ["RUN_MIGRATIONS_ON_STARTUP", "AUTO_MIGRATE", "ALLOW_PRODUCTION_AUTO_MIGRATE", "MIGRATION_STARTUP_WAIT"],
)
def test_a_switch_is_on_or_off_and_no_other_word_is_guessed_at(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read_settings({}, {variable: value})
    assert str(error.value) == f"{variable} is {value!r}; it must be true, false, 1 or 0."


@pytest.mark.parametrize("value", ["soon", "0", "86401", "nan"])
def test_a_deadline_that_makes_no_sense_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read_settings({}, {"MIGRATION_STARTUP_SECONDS": value})
    assert str(error.value) == (
        f"MIGRATION_STARTUP_SECONDS is {value!r}; it must be a number of seconds from 0.2 to 86400."
    )


@pytest.mark.parametrize("seconds", [0.2, 3600])
def test_the_limits_of_a_lease_are_allowed(seconds: float) -> None:
    assert read_settings({"lease_seconds": seconds}, {}).lease_seconds == seconds


def test_an_unknown_log_format_is_refused() -> None:
    with pytest.raises(ConfigurationError) as error:
        read_settings({}, {"LOG_FORMAT": "xml"})
    assert str(error.value) == "LOG_FORMAT is 'xml'; it must be text or json."


@pytest.mark.parametrize("name", ["x" * 65, " production", "production ", " ", "prod\nuction", "\x1b[31m"])
def test_an_unfit_name_of_the_environment_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read_settings({"environment": name}, {})
    assert str(error.value) == ("The environment's name must be 1 to 64 printable characters without outer spaces.")


@pytest.mark.parametrize("name", ["Production", "PRODUCTION"])
def test_a_name_that_only_looks_like_production_is_refused_by_every_door(name: str) -> None:
    for make in (lambda: read_settings({}, {"MIGRATION_ENVIRONMENT": name}), lambda: Settings(environment=name)):
        with pytest.raises(ConfigurationError) as error:
            make()
        assert str(error.value) == (
            f"The environment {name!r} differs from 'production' only in letter case, so nothing that protects "
            "production would hold. Write 'production', or choose another name."
        )
    assert read_settings({}, {"MIGRATION_ENVIRONMENT": "production"}).environment == "production"
    assert Settings(environment="Production-EU").environment == "Production-EU"


def test_a_long_name_of_the_environment_is_allowed_up_to_its_limit() -> None:
    assert read_settings({"environment": "ü" * 64}, {}).environment == "ü" * 64


def test_an_unknown_key_of_the_project_is_named_with_the_known_ones(project: Path) -> None:
    project.write_text('[tool.system_migration]\nmigration = "typo"\n', encoding="utf-8")
    with pytest.raises(ConfigurationError) as error:
        read_settings({}, {}, project)
    assert str(error.value) == (
        f"{project}: [tool.system_migration] has no setting 'migration'. "
        "Known: database_url, environment, migrations, alembic_config, lease_seconds, log_format, dask_scheduler, "
        "dask_fallback, run_on_startup, auto_migrate, allow_production_auto_migrate, require_approval, tokens, "
        "startup_wait, startup_seconds, "
        "webhook_url, webhook_secret."
    )


@pytest.mark.parametrize("content", [b"[tool", b'x = "\xff"'])
def test_a_project_file_that_is_not_toml_is_named(project: Path, content: bytes) -> None:
    project.write_bytes(content)
    with pytest.raises(ConfigurationError) as error:
        read_settings({}, {}, project)
    assert str(error.value).startswith(f"{project} is not valid TOML (")
    assert str(error.value).endswith("). Correct it and start again.")


@pytest.mark.parametrize("environment", [None, "development", "production"])
def test_a_given_database_url_is_the_one(environment: str | None) -> None:
    assert Settings(database_url="sqlite:///x", environment=environment).required_database_url() == "sqlite:///x"


@pytest.mark.parametrize("environment", [None, "development"])
def test_development_has_a_database_of_its_own(environment: str | None) -> None:
    assert Settings(environment=environment).required_database_url() == DEVELOPMENT_DATABASE


@pytest.mark.parametrize("environment", ["staging", "production", "Development"])
def test_elsewhere_a_missing_database_url_is_an_error(environment: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Settings(environment=environment).required_database_url()
    assert str(error.value) == (
        f"DATABASE_URL is not set, and environment {environment!r} has no default database. "
        "Set DATABASE_URL or give --database-url."
    )


def test_an_audit_key_is_its_characters_and_shows_nowhere() -> None:
    secret, former = "k" * 32, ["ä" * 16, "0" * 64]
    environ = {"MIGRATION_AUDIT_KEY": f" {secret}", "MIGRATION_AUDIT_KEYS_OLD": ", ".join(former)}
    settings = read_settings({}, environ)
    assert settings.audit_key == AuditKey(secret.encode())
    assert [key.secret.decode() for key in settings.audit_keys_old] == former
    assert secret not in repr(settings)
    assert AuditKey(secret.encode()).id == AuditKey(secret.encode()).id != settings.audit_keys_old[0].id


@pytest.mark.parametrize("variable", ["MIGRATION_AUDIT_KEY", "MIGRATION_AUDIT_KEYS_OLD"])
def test_an_audit_key_that_is_too_short_is_refused_and_not_repeated(variable: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable} has 31 bytes; a key must have at least 32") as caught:
        read_settings({}, {variable: "s" * 31})
    assert "sss" not in str(caught.value)


@pytest.mark.parametrize("name", ["audit_key", "audit_keys_old"])
def test_no_file_of_the_project_holds_an_audit_key(name: str, project: Path) -> None:
    project.write_text(PROJECT_TEXT + f'{name} = "{"k" * 32}"\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"{name} is a secret and belongs in the environment"):
        read_settings({}, {}, project)


def test_what_may_be_a_secret_is_not_in_the_settings_text() -> None:
    settings = Settings(webhook_url="https://hooks.example/services/T0/B0/hush", webhook_secret="whsec_hush")
    assert "hush" not in repr(settings)
