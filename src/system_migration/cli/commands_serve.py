"""The command that serves the REST API and the page without a host application."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from system_migration import token_file
from system_migration.cli import output
from system_migration.cli.options import command, verbose
from system_migration.cli.session import Session, see_project
from system_migration.errors import ConfigurationError


@command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes a free one.")
@click.option(
    "--tokens",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Who may act: one `name:sha256-of-the-token` a line, in a file that others cannot read"
    " [env: MIGRATION_TOKENS].",
)
@click.option(
    "--developer",
    metavar="PACKAGE.MODULE:FUNCTION",
    help="Who may act: your own FastAPI dependency, which returns the developer's name.",
)
@click.option("--make-token", metavar="NAME", help="Print a new token and its line for the token file, and exit.")
@verbose
def serve_command(
    session: Session, host: str, port: int, tokens: Path | None, developer: str | None, make_token: str | None
) -> None:
    """Serve the REST API and the page to developers whom a file, or your own code, names.

    The API is under /migration, the page for browsers under /migrations. Speaks plain HTTP: leave it on this machine,
    or put a proxy that speaks TLS before it.
    SIGTERM and Ctrl-C end a run that is going at a clean checkpoint; the next start goes on with it. Needs the `api`
    extra. With --make-token, --json prints {token, line}.
    """
    if make_token is not None:
        _print_token(session, *token_file.make_token(make_token))  # without the extra: the command line has tokens too
        return
    server, token_files = _web()
    if tokens is None and developer is None and session.settings.tokens is not None:
        tokens = Path(session.settings.tokens)
    if (tokens is None) == (developer is None):
        raise click.UsageError("Say who may act: either --tokens FILE or --developer PACKAGE.MODULE:FUNCTION.")
    file = token_files.TokenFile(tokens) if tokens is not None else None
    require = file.require if file is not None else _import(str(developer))
    with server.listen(host, port) as listening, session.migrator() as migrator:
        app = server.create_app(migrator, require, file)
        address, number = listening.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        url = f"http://{shown}:{number}"
        output.notice(f"Serving {migrator.environment} on {url}/migration (the page: {url}{server.PAGE})")
        server.serve(app, listening)


def _print_token(session: Session, token: str, line: str) -> None:
    if session.json:
        output.document({"token": token, "line": line})
    else:
        output.lines([f"Token, shown only now: {token}", f"Line for the token file: {line}"])


def _web() -> tuple[Any, Any]:
    """The modules that serve. Raises `ConfigurationError` where the extra is not installed."""
    try:
        from system_migration.web import server, tokens
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("system_migration"):
            raise
        raise ConfigurationError(
            f"`migration serve` needs {missing.name}, which is not installed. "
            "Install the extra: pip install 'system-migration[api]'."
        ) from None
    return server, tokens


def _import(where: str) -> Callable[..., Any]:
    """The host's dependency. Raises `ConfigurationError` where it is not found."""
    from importlib import import_module

    see_project()
    module, _, name = where.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"--developer {where} cannot be imported ({type(error).__name__}). Write PACKAGE.MODULE:FUNCTION."
        ) from None
    if not callable(found):
        raise ConfigurationError(f"--developer {where} is not a function.")
    dependency: Callable[..., Any] = found
    return dependency
