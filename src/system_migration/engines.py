"""From a database URL, as people write it, to an engine."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, create_engine

from system_migration.errors import ConfigurationError
from system_migration.store.dialects import parse_url


def connect(url: str, *, create: bool = False) -> Engine:
    """An engine for `url`: sqlite:///..., postgresql:// or postgres://, mysql:// or mariadb://.

    Opens no connection yet. A SQLite file must exist unless `create` is set: a mistyped path would otherwise
    become a new, empty database on which every migration succeeds. Raises `ConfigurationError`.
    """
    parsed, dialect = parse_url(url)
    file = parsed.database
    named = file and file != ":memory:" and not file.startswith("file:")
    if not dialect.is_server and named and not create and not Path(str(file)).exists():
        raise ConfigurationError(
            f"The SQLite file {file} does not exist. Check DATABASE_URL, or create it with your application "
            "or with `migration init`."
        )
    try:
        complete = parsed.update_query_dict(dict(dialect.url_defaults()) | dict(parsed.query))
        return create_engine(complete, hide_parameters=True)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{dialect.product} needs the driver {error.name!r}. "
            f"Install it with: pip install 'system-migration[{dialect.extra}]'."
        ) from None
