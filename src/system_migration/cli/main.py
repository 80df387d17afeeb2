"""The console entry `migration`. It answers `--help` by itself and hands everything else to click."""

from __future__ import annotations

import gc
import sys

from system_migration.cli import catalog, output


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code. No exception and no traceback leaves here."""
    arguments = sys.argv[1:] if arguments is None else arguments
    output.accept_any_text()
    if len(arguments) == 1 and arguments[0] in catalog.HELP_FLAGS:
        output.lines([catalog.help_page()])
        return 0
    if not arguments:
        output.notice(catalog.help_page())
        return 2
    gc.disable()  # collecting while modules load costs a sixth of a cold start; `Session.migrator` turns it on
    try:
        from system_migration.cli.group import invoke

        return invoke(arguments)
    except KeyboardInterrupt:  # while the program was still loading
        return 130
    finally:
        gc.unfreeze()
        gc.enable()


if __name__ == "__main__":
    sys.exit(main())
