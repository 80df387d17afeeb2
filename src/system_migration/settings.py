"""Settings: one list of fields, read once. Nothing else in the library reads the environment."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from system_migration.errors import ConfigurationError
from system_migration.signing import AuditKey

DEVELOPMENT = "development"
PRODUCTION = "production"
DEVELOPMENT_DATABASE = "sqlite:///development.db"
ALEMBIC_CONFIG = "alembic.ini"


@dataclass(frozen=True)
class Field:
    """One setting: its name, where the environment keeps it, its default and a sentence for `--help`."""

    name: str
    variables: tuple[str, ...]
    default: str | None
    help: str


FIELDS = (
    Field("database_url", ("DATABASE_URL",), None, "The database to migrate (required outside development)."),
    Field(
        "environment",
        ("MIGRATION_ENVIRONMENT", "APP_ENV"),
        None,
        "development, staging, production, ...: a migration runs once in each.",
    ),
    Field("migrations", ("MIGRATIONS",), "migrations", "Package, or path of the folder, of the migrations."),
    Field(
        "alembic_config",
        ("ALEMBIC_CONFIG",),
        ALEMBIC_CONFIG,
        "The alembic.ini by which requires_schema is judged, as Alembic itself reads it.",
    ),
    Field("lease_seconds", ("MIGRATION_LEASE_SECONDS",), "30", "How long a silent runner keeps its lease."),
    Field("log_format", ("LOG_FORMAT",), "text", "Log lines as text or json."),
    Field("dask_scheduler", ("DASK_SCHEDULER",), None, "The Dask scheduler whose workers transform: tcp://host:8786."),
    Field("dask_fallback", ("DASK_FALLBACK",), "false", "Where the cluster is lost, this machine goes on."),
    Field(
        "run_on_startup",
        ("RUN_MIGRATIONS_ON_STARTUP",),
        "false",
        "A start of the application looks what is pending, and tells.",
    ),
    Field("auto_migrate", ("AUTO_MIGRATE",), "false", "With RUN_MIGRATIONS_ON_STARTUP: what is pending is run, too."),
    Field(
        "allow_production_auto_migrate",
        ("ALLOW_PRODUCTION_AUTO_MIGRATE",),
        "false",
        "AUTO_MIGRATE holds in production too.",
    ),
    Field(
        "require_approval",
        ("REQUIRE_APPROVAL",),
        "false",
        "In production a run needs a dry run that another developer has approved.",
    ),
    Field("tokens", ("MIGRATION_TOKENS",), None, "The file that says whose token is whose, one developer a line."),
    Field(
        "startup_wait",
        ("MIGRATION_STARTUP_WAIT",),
        "false",
        "The application serves when nothing is pending, not at once.",
    ),
    Field(
        "startup_seconds",
        ("MIGRATION_STARTUP_SECONDS",),
        "300",
        "How long an application that must not serve yet waits before it exits with 75.",
    ),
    Field(
        "audit_key",
        ("MIGRATION_AUDIT_KEY",),
        None,
        "Signs the audit chain: 32 bytes or more, from the environment only.",
    ),
    Field(
        "audit_keys_old",
        ("MIGRATION_AUDIT_KEYS_OLD",),
        None,
        "Earlier keys of the audit chain, separated by commas, to check it with.",
    ),
    Field("webhook_url", ("MIGRATION_WEBHOOK_URL",), None, "Where to post that a run began, and how it ended."),
    Field("webhook_secret", ("MIGRATION_WEBHOOK_SECRET",), None, "The key that signs it: whsec_ and base64."),
)
OF_NO_FILE = ("audit_key", "audit_keys_old")
"""What no file of the project may hold."""


TOKEN = "MIGRATION_TOKEN"
SECRETS = (TOKEN,)
"""Variables of the environment that no flag, no file of settings and no `Settings` has."""


@dataclass(frozen=True)
class Settings:
    """What a `Migrator` and the command line need to know.

    `environment` is None when nobody named one: the database's own binding decides then, and an unbound
    SQLite file counts as development. A name that only looks like production's raises `ConfigurationError`.
    """

    database_url: str | None = None
    environment: str | None = None
    migrations: str = "migrations"
    alembic_config: str = ALEMBIC_CONFIG
    lease_seconds: float = 30.0
    log_format: str = "text"
    dask_scheduler: str | None = None
    dask_fallback: bool = False
    run_on_startup: bool = False
    auto_migrate: bool = False
    allow_production_auto_migrate: bool = False
    require_approval: bool = False
    tokens: str | None = None
    startup_wait: bool = False
    startup_seconds: float = 300.0
    audit_key: AuditKey | None = None
    audit_keys_old: tuple[AuditKey, ...] = ()
    webhook_url: str | None = field(default=None, repr=False)  # the address of some services is a secret
    webhook_secret: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.environment is not None and self.environment != PRODUCTION == self.environment.casefold():
            # It would be an environment like any other: without approvals, nor a name to be typed.
            raise ConfigurationError(
                f"The environment {self.environment!r} differs from {PRODUCTION!r} only in letter case, so nothing "
                f"that protects production would hold. Write {PRODUCTION!r}, or choose another name."
            )

    @property
    def is_development(self) -> bool:
        """Whether these settings mean development: named so, or a SQLite file and no name. Looks at no database."""
        if self.environment is None:
            return self.required_database_url().startswith("sqlite")
        return self.environment == DEVELOPMENT

    def required_database_url(self) -> str:
        """The URL of the database; in development a SQLite file stands in for a missing one."""
        if self.database_url:
            return self.database_url
        if self.environment in (None, DEVELOPMENT):
            return DEVELOPMENT_DATABASE
        raise ConfigurationError(
            f"DATABASE_URL is not set, and environment {self.environment!r} has no default database. "
            "Set DATABASE_URL or give --database-url."
        )


def read_settings(flags: Mapping[str, Any], environ: Mapping[str, str], project: Path | None = None) -> Settings:
    """Settings from flags, then the environment, then `[tool.system_migration]`, then defaults.

    `project` is a pyproject.toml that may be missing. Raises `ConfigurationError` for a value that makes no sense.
    """
    table = _project_table(project)
    values = {field.name: _first_given(field, flags, environ, table) for field in FIELDS}
    return Settings(
        database_url=values["database_url"],
        environment=_environment_name(values["environment"]),
        migrations=values["migrations"] or "migrations",
        alembic_config=values["alembic_config"] or ALEMBIC_CONFIG,
        lease_seconds=_seconds("MIGRATION_LEASE_SECONDS", values["lease_seconds"] or "30", 3600),
        log_format=_log_format(values["log_format"] or "text"),
        dask_scheduler=values["dask_scheduler"],
        dask_fallback=_switch("DASK_FALLBACK", values["dask_fallback"]),
        run_on_startup=_switch("RUN_MIGRATIONS_ON_STARTUP", values["run_on_startup"]),
        auto_migrate=_switch("AUTO_MIGRATE", values["auto_migrate"]),
        allow_production_auto_migrate=_switch("ALLOW_PRODUCTION_AUTO_MIGRATE", values["allow_production_auto_migrate"]),
        require_approval=_switch("REQUIRE_APPROVAL", values["require_approval"]),
        tokens=values["tokens"],
        startup_wait=_switch("MIGRATION_STARTUP_WAIT", values["startup_wait"]),
        startup_seconds=_seconds("MIGRATION_STARTUP_SECONDS", values["startup_seconds"] or "300", 86_400),
        audit_key=next(_keys("MIGRATION_AUDIT_KEY", [values["audit_key"]]), None),
        audit_keys_old=tuple(_keys("MIGRATION_AUDIT_KEYS_OLD", (values["audit_keys_old"] or "").split(","))),
        webhook_url=values["webhook_url"],
        webhook_secret=values["webhook_secret"],
    )


def given_token(environ: Mapping[str, str]) -> str | None:
    """The token that proves who acts, if the environment has one."""
    return environ.get(TOKEN) or None


def _keys(variable: str, texts: Iterable[str | None]) -> Iterator[AuditKey]:
    return (AuditKey.parse(text.strip(), variable) for text in texts if text and text.strip())


def _first_given(
    field: Field, flags: Mapping[str, Any], environ: Mapping[str, str], table: Mapping[str, Any]
) -> str | None:
    candidates = [
        flags.get(field.name),
        *(environ.get(name) for name in field.variables),
        table.get(field.name),
    ]
    given = next((value for value in candidates if value not in (None, "")), field.default)
    return None if given is None else str(given)


def _project_table(project: Path | None) -> Mapping[str, Any]:
    if project is None or not project.is_file():
        return {}
    try:
        content = tomllib.loads(project.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{project} is not valid TOML ({error}). Correct it and start again.") from None
    tools = content.get("tool", {})
    table = tools.get("system_migration", {}) if isinstance(tools, dict) else {}
    if not isinstance(table, dict):
        raise ConfigurationError(f"{project}: [tool.system_migration] must be a table of settings.")
    unknown = sorted(set(table) - {field.name for field in FIELDS})
    if secret := sorted(set(table) & set(OF_NO_FILE)):
        raise ConfigurationError(f"{project}: {secret[0]} is a secret and belongs in the environment, not in a file.")
    if unknown:
        known = ", ".join(field.name for field in FIELDS if field.name not in OF_NO_FILE)
        raise ConfigurationError(f"{project}: [tool.system_migration] has no setting {unknown[0]!r}. Known: {known}.")
    return dict(table)


def _environment_name(value: str | None) -> str | None:
    if value is not None and (len(value) > 64 or not value.isprintable() or value != value.strip()):
        raise ConfigurationError("The environment's name must be 1 to 64 printable characters without outer spaces.")
    return value


def _seconds(variable: str, value: str, most: int) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0.2 <= seconds <= most:
        raise ConfigurationError(f"{variable} is {value!r}; it must be a number of seconds from 0.2 to {most}.")
    return seconds


def _switch(variable: str, value: str | None) -> bool:
    """Whether it is on. Nothing is guessed: a mistyped word must neither start a migration nor keep one back."""
    match (value or "false").lower():
        case "true" | "1":
            return True
        case "false" | "0":
            return False
    raise ConfigurationError(f"{variable} is {value!r}; it must be true, false, 1 or 0.")


def _log_format(value: str) -> str:
    if value not in ("text", "json"):
        raise ConfigurationError(f"LOG_FORMAT is {value!r}; it must be text or json.")
    return value
