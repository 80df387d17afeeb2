"""How another process finds the class of a migration: by the name or the file of its module, never by its pickle."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from system_migration.code import checksum
from system_migration.discovery import load_file, module_name, reason
from system_migration.errors import LoadError
from system_migration.migration import Migration


@dataclass(frozen=True)
class Reference:
    """Where a migration's class is defined. `file` is set when the module has no name to import it by."""

    migration: str
    module: str
    file: str | None
    qualname: str
    checksum: tuple[str, str]


def reference_to(migration: type[Migration]) -> Reference:
    """How another process loads this class. Raises `LoadError` when none could."""
    if "<locals>" in migration.__qualname__:
        raise _not_loadable(migration.name, f"class {migration.__name__} is defined inside a function")
    if migration.__module__ == "__main__":
        raise _not_loadable(migration.name, f"class {migration.__name__} is defined in the program's main script")
    file = getattr(sys.modules.get(migration.__module__), "__file__", None)
    from_folder = file is not None and migration.__module__ == module_name(Path(file))
    return Reference(
        migration.name,
        migration.__module__,
        file if from_folder else None,
        migration.__qualname__,
        checksum(migration),
    )


def load(reference: Reference) -> type[Migration]:
    """The class, loaded here. Raises `LoadError` when it does not load, or is not the code that the run began with."""
    try:
        module = load_file(Path(reference.file)) if reference.file else importlib.import_module(reference.module)
        found = reduce(getattr, reference.qualname.split("."), module)
    except (Exception, SystemExit) as error:
        raise _not_loadable(reference.migration, reason(error, Path(reference.file or ""))) from None
    assert isinstance(found, type)
    assert issubclass(found, Migration)
    if checksum(found) != reference.checksum:
        raise LoadError(
            f"Migration {reference.migration} cannot be loaded in a worker process: its code there is not the code "
            "that the run began with. Put the same there and start again, or start without --processes and --dask."
        )
    return found


def _not_loadable(name: str, why: str) -> LoadError:
    return LoadError(
        f"Migration {name} cannot be loaded in a worker process: {why}. "
        "Put it into a module that can be imported, or start without --processes and --dask."
    )
