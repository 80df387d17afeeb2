"""Which variables of the environment the library asks for by name, beside those of its list of settings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

from tests.docs.site import ROOT


@cache
def variables_read() -> frozenset[str]:
    """The variables that the library asks the environment for by name."""
    return frozenset(_read())


def _read() -> Iterator[str]:
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="get" | "pop", value=asked), args=[ast.Constant(value=str(name)), *_]
                ):
                    pass
                case ast.Call(func=ast.Attribute(attr="getenv") as asked, args=[ast.Constant(value=str(name)), *_]):
                    pass
                case ast.Subscript(value=asked, slice=ast.Constant(value=str(name))):
                    pass
                case _:
                    continue
            if "env" in ast.unparse(asked) and name.isupper():
                yield name
