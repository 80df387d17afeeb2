"""What the reference lists, as Markdown made from the code that it describes. One function for each list."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Iterator
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import FastAPI
from sphinx.pycode import ModuleAnalyzer

from docs._ext.listing import table
from system_migration import Migrator, Registry, Settings, connect, errors, states
from system_migration.cli import exit_codes as codes
from system_migration.cli.options import COMMON
from system_migration.settings import FIELDS, Field
from system_migration.startup_plan import MEANING
from system_migration.web import create_router, refusals
from system_migration.web.problems import KINDS, kind_of

BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to"}
"""How the bounds of a value are said."""


def settings() -> str:
    """Every setting of the library."""
    rows = ((_spelt(field), field.help, f"`{field.default}`" if field.default else "") for field in FIELDS)
    return table("Variable; flag; name in `pyproject.toml` | Meaning | Default", rows)


def _spelt(field: Field) -> str:
    """How a setting is written: in the environment, on the command line, in the project's file."""
    variables = ", else ".join(f"`{variable}`" for variable in field.variables)
    flag = [f"`--{field.name.replace('_', '-')}`"] if field.name in COMMON else []
    return "; ".join([variables, *flag, f"`{field.name}`"])


def statuses() -> str:
    """Every status, with the sentence under it."""
    return _enumeration("Status", states.Status)


def kinds() -> str:
    """Every kind of attempt."""
    return _enumeration("Kind", states.RunKind)


def outcomes() -> str:
    """Every outcome of an attempt."""
    return _enumeration("Outcome", states.Outcome)


def arrows() -> str:
    """Every way from one status to another."""
    return table("From | To | When", ((f"`{old}`", f"`{new}`", why) for (old, new), why in states.ARROWS.items()))


def stages() -> str:
    """Every stage of an application's start."""
    return table("State | Means", ((f"`{stage}`", meaning) for stage, meaning in MEANING.items()))


def exit_codes() -> str:
    """Every exit code, with the sentence under its constant."""
    shown = {codes.SIGNAL: "130, 143"}
    named = ((getattr(codes, name), sentence) for (_, name), sentence in _sentences(codes).items())
    numbers = sorted((code, sentence) for code, sentence in named if isinstance(code, int))
    return table("Code | Means", ((shown.get(code, code), sentence) for code, sentence in numbers))


def all_errors() -> str:
    """Every error that the library raises on purpose: what it means, and how each door answers it."""
    kinds = _below(errors.MigrationSystemError)
    rows = ((f"`{kind.__name__}`", _first_line(kind), _exit_code(kind), _problem(kind)) for kind in kinds)
    return table("Error | Means | Exit code | REST problem", rows)


def tree_of_errors() -> str:
    """Which error is a kind of which: the picture in the module that has them."""
    _, tree, _ = (inspect.getdoc(errors) or "").split("\n\n")
    return f"```text\n{textwrap.dedent(tree)}\n```"


def problems() -> str:
    """Every type of a problem document with its statuses."""
    found = sorted({(kind.slug, kind.status, kind.title) for kind in KINDS.values()})
    return table("Type | Status | Title", ((f"`{slug}`", status, title) for slug, status, title in found))


def routes() -> str:
    """Every route of the REST API with its parameters and what it may answer."""
    parts = []
    for path, operations in _openapi()["paths"].items():
        for method, operation in operations.items():
            parts += [f"## `{method.upper()} {path}`", f"{operation['summary']}. {operation.get('description', '')}"]
            parts += [_parameters(operation), _answers(operation)]
    return "\n\n".join(parts)


def public(module: str) -> str:
    """Every public name of a module, as its docstrings have it."""
    found = import_module(module)
    return _autodoc((f"{module}.{name}", getattr(found, name)) for name in found.__all__)


def _autodoc(named: Iterable[tuple[str, object]]) -> str:
    kinds = ((name, "autoclass" if isinstance(value, type) else "autofunction") for name, value in named)
    return "\n".join(["```{eval-rst}", *(f".. {kind}:: {name}" for name, kind in kinds), "```"])


def _enumeration(title: str, kind: type[Any]) -> str:
    said = _sentences(states)
    return table(f"{title} | Means", ((f"`{each}`", said[kind.__name__, each.name]) for each in kind))


def _sentences(module: Any) -> dict[tuple[str, str], str]:
    """What stands under each name of a module, as a string literal: by class, or "", and name."""
    found = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
    return {place: " ".join(lines).strip() for place, lines in found.items()}


def _below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    """The error itself and all that are below it, each behind the one that it is a kind of."""
    yield kind
    for each in kind.__subclasses__():
        if each.__module__ in (errors.__name__, refusals.__name__):
            yield from _below(each)


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")


def _exit_code(kind: type[BaseException]) -> str:
    if kind.__module__ == refusals.__name__:
        return ""  # no command raises it
    code = next(codes.EXIT_CODES[each] for each in kind.__mro__ if each in codes.EXIT_CODES)
    return "130, 143" if code == codes.SIGNAL else str(code)


def _problem(kind: type[BaseException]) -> str:
    found = kind_of(kind.__new__(kind))
    return f"`{found.slug}` ({found.status})"


def _openapi() -> dict[str, Any]:
    app = FastAPI()
    with TemporaryDirectory() as folder:
        database = connect(f"sqlite:///{folder}/any.sqlite", create=True)
        with Migrator(database, Registry([]), Settings(environment="development")) as migrator:
            app.include_router(create_router(migrator, require_developer=lambda: "ada"), prefix="/migration")
            document = app.openapi()
        database.dispose()
    return document


def _parameters(operation: dict[str, Any]) -> str:
    found = operation.get("parameters", [])
    rows = ((f"`{each['name']}`", each["in"], _type(each), each.get("description", "")) for each in found)
    return table("Parameter | In | Is | Means", rows) if found else ""


def _type(parameter: dict[str, Any]) -> str:
    """What kind of value it is, within which bounds, and whether it must be there."""
    schema: dict[str, Any] = parameter["schema"]
    schema = next(each for each in schema.get("anyOf", [schema]) if each.get("type") != "null")
    bounds = (f"{word} {schema[key]}" for key, word in BOUNDS.items() if key in schema)
    required = ", required" if parameter["required"] else ""
    return " ".join([schema.get("type", "string"), *bounds]) + required


def _answers(operation: dict[str, Any]) -> str:
    rows = ((status, answer["description"]) for status, answer in sorted(operation["responses"].items()))
    return table("Status | When", rows)
