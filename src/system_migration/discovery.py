"""From a package or a folder to a registry. The only module that imports a user's code."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import sys
import traceback
from pathlib import Path
from types import CodeType, ModuleType

from system_migration.errors import LoadError, MigrationSystemError
from system_migration.migration import Migration
from system_migration.registry import Registry


def discover(migrations: str) -> Registry:
    """The migrations of a package (`shop.migrations`) or a folder (`./migrations`): files named NNN_*.py.

    Raises `LoadError` that names every file that does not load, with its reason.
    """
    folder, package = locate(migrations)
    problems: list[str] = []
    found: list[type[Migration]] = []
    for file in sorted(folder.glob("[0-9]*_*.py")):
        try:
            classes = _classes(_load(file, package))
        except (Exception, SystemExit) as error:
            problems.append(f"{file.name} does not load: {reason(error, file)}.")
            continue
        if not classes:
            problems.append(f"{file.name} defines no migration.")
        found += classes
    if problems:
        raise LoadError(" ".join(problems))
    return Registry(found)


def locate(migrations: str) -> tuple[Path, str | None]:
    """The folder of a package or path, and the package's name if it is one."""
    path = Path(migrations)
    if path.is_dir():
        return path.resolve(), None
    if all(part.isidentifier() for part in migrations.split(".")):
        try:
            spec = importlib.util.find_spec(migrations)  # imports the packages above it
        except (ImportError, ValueError):
            spec = None
        except (Exception, SystemExit) as error:
            parents = Path(*migrations.split(".")[:-1], "__init__.py")
            raise LoadError(f"{parents} does not load: {reason(error, parents)}.") from None
        if spec is not None and spec.submodule_search_locations:
            return Path(next(iter(spec.submodule_search_locations))), migrations
    raise LoadError(
        f"There is no folder or package {migrations!r} to read migrations from. "
        "Set MIGRATIONS or give --migrations; `migration new` makes the folder and a first file."
    )


def _load(file: Path, package: str | None) -> ModuleType:
    if package is not None:
        return importlib.import_module(f"{package}.{file.stem}")
    return load_file(file)


def module_name(file: Path) -> str:
    """The name of the module in a file of a folder. The folder is part of it: another may have a file of this name."""
    return f"migrations_{hashlib.sha256(str(file.parent).encode()).hexdigest()[:12]}_{file.stem}"


class _FromSource(importlib.machinery.SourceFileLoader):
    """Compiles what the file says now. Bytecode of an edit ago may pass for it: same size, same second."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load_file(file: Path) -> ModuleType:
    """Run the file of a folder as a module, under the same name in every process."""
    name = module_name(file)
    spec = importlib.util.spec_from_file_location(name, file, loader=_FromSource(name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _classes(module: ModuleType) -> list[type[Migration]]:
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Migration)]
    own = [found for found in classes if found.__module__ == module.__name__ and not found.__name__.startswith("_")]
    return list(dict.fromkeys(own))  # once, whatever other names it has


_ABOUT_CODE = (ImportError, NameError, AttributeError, MigrationSystemError)
"""Errors whose text names code. Any other may quote a value, such as a key that was read from the environment."""


def reason(error: BaseException, file: Path) -> str:
    """The kind and place of an error; its text only where that is about code."""
    if isinstance(error, SyntaxError):
        elsewhere = f" of {Path(error.filename).name}" if error.filename and error.filename != str(file) else ""
        return f"syntax error in line {error.lineno}{elsewhere}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    place = f" in line {lines[-1]}" if lines else ""
    return f"{type(error).__name__}{place}" + (f": {error}".rstrip(".") if isinstance(error, _ABOUT_CODE) else "")
