"""Options that commands share, and the decorator that makes a function a command."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import click

from system_migration.cli import catalog
from system_migration.cli.session import Session
from system_migration.settings import FIELDS

Handler = Callable[..., int | None]
COMMON = ("database_url", "environment", "migrations", "json")


def common_parameters() -> list[click.Parameter]:
    """The options that every command has."""
    named = (("database_url", "URL"), ("environment", "NAME"), ("migrations", "WHERE"))
    as_document = click.Option(["--json"], is_flag=True, help="Print one JSON document on stdout.")
    return [*(_setting(name, metavar) for name, metavar in named), as_document]


def _setting(name: str, metavar: str) -> click.Option:
    """An option for a setting; the environment's variables stand in its help, but `read_settings` reads them."""
    field = next(field for field in FIELDS if field.name == name)
    text = f"{field.help} [env: {', '.join(field.variables)}]"
    return click.Option([f"--{name.replace('_', '-')}", name], metavar=metavar, help=text)


def command(name: str, *, short: str | None = None) -> Callable[[Handler], click.Command]:
    """Make `function(session, ...)` the command `name`; what every command takes arrives as the session.

    A command of a command brings its own `short` description; the catalog has the others'.
    """

    def decorate(function: Handler) -> click.Command:
        @functools.wraps(function)
        @click.pass_context
        def handler(context: click.Context, /, **given: Any) -> int | None:
            before = context.obj or {}  # the same options, given before the command's name
            flags = {key: given.pop(key) or before.get(key) for key in COMMON}
            session = Session(
                flags,
                verbose=given.pop("verbose", False),
                executed_by=given.pop("executed_by", None),
            )
            return function(session, **given)

        settings = {"help_option_names": list(catalog.HELP_FLAGS), "max_content_width": 110}
        line = short or catalog.COMMANDS[name][1]
        made = click.command(name, context_settings=settings, short_help=line)(handler)
        made.params += common_parameters()
        return made

    return decorate


verbose = click.option("--verbose", is_flag=True, help="Log every step on stderr.")
executed_by = click.option(
    "--executed-by", metavar="WHO", help="Who is recorded as having done it (default: user@host)."
)
reason = click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept with the event.")
allow_environment = click.option(
    "--allow-environment", is_flag=True, help="Act although the database is bound to another environment."
)


def _finite(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("it must be a finite number.", context, parameter)
    return value


_MAX_RATE = click.option(
    "--max-rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    callback=_finite,
    help="At most N rows a second (default: no limit).",
)
_MAX_ISSUES = click.option(
    "--max-issues",
    type=click.IntRange(min=0),
    metavar="N",
    help="Accept that up to N rows stay held (default: what the migration says).",
)
_ACCEPT_CODE_CHANGE = click.option(
    "--accept-code-change", is_flag=True, help="Resume although the migration's code changed."
)
_RUN_OPTIONS = (
    verbose,
    click.option(
        "--batch-size",
        type=click.IntRange(1, 100_000),
        metavar="N",
        help="Rows in a batch, 1 to 100000 (default: adapts to the database).",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1, 64),
        metavar="N",
        help="How many batches are written at once, each by a connection of its own, 1 to 64; so many threads transform"
        " (default: adapts to the work and the machine).",
    ),
    click.option(
        "--processes",
        type=click.IntRange(1, 256),
        metavar="N",
        help="Transform rows in N processes, where limits on one row's time and memory hold (default: in threads).",
    ),
    click.option(
        "--dask",
        metavar="ADDRESS",
        help="Transform rows on the workers of the Dask scheduler at this address. [env: DASK_SCHEDULER]",
    ),
    click.option(
        "--dask-fallback",
        is_flag=True,
        help="Where the cluster is lost, go on with the threads of this machine. [env: DASK_FALLBACK]",
    ),
    _MAX_RATE,
    _MAX_ISSUES,
    click.option(
        "--stop-after-issues",
        type=click.IntRange(min=1),
        metavar="N",
        help="Stop as soon as N rows are held (default: what the migration says).",
    ),
    click.option(
        "--max-rows",
        type=click.IntRange(min=0),
        metavar="N",
        help="Stop before more than N rows are changed (default: no limit).",
    ),
    click.option("--allow-scan", is_flag=True, help="Accept range queries that no index supports."),
    click.option("--wait", is_flag=True, help="Wait for another runner to end instead of exiting with 4."),
    _ACCEPT_CODE_CHANGE,
    allow_environment,
    executed_by,
)


_ROLLBACK_OPTIONS = (verbose, _MAX_RATE, _MAX_ISSUES, _ACCEPT_CODE_CHANGE, allow_environment, executed_by)


def rollback_options(function: Handler) -> Handler:
    """Add those options of a start that mean something for a rollback."""
    for option in reversed(_ROLLBACK_OPTIONS):
        function = option(function)
    return function


def run_options(function: Handler) -> Handler:
    """Add the options of a start, which become `RunOptions`."""
    for option in reversed(_RUN_OPTIONS):
        function = option(function)
    return function


def window_options(function: Handler) -> Handler:
    """Add the options that keep a named run to a part of its table."""
    to_key = click.option(
        "--to-key", metavar="KEY", help="With a NAME: the last key to work on. Several columns: a JSON list."
    )
    from_key = click.option(
        "--from-key", metavar="KEY", help="With a NAME: the first key to work on. Several columns: a JSON list."
    )
    return from_key(to_key(function))


yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation, in production either.")
