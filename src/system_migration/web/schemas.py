"""The documents of the API for its OpenAPI description, made of the records they are rendered from."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model
from pydantic.alias_generators import to_camel


@cache
def model_of(record: type) -> type[BaseModel]:
    """A pydantic model of what `as_json` makes of a record."""
    hints = get_type_hints(record)
    shown = [field.name for field in fields(record) if field.metadata.get("json", True)]
    described: dict[str, Any] = {to_camel(name): (_translated(hints[name]), ...) for name in shown}
    return create_model(record.__name__, __config__=ConfigDict(extra="forbid"), __doc__=record.__doc__, **described)


def _translated(hint: Any) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        return model_of(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is None:
        return hint
    if origin in (types.UnionType, Union):
        return Union[tuple(_translated(each) for each in arguments)]  # noqa: UP007  (made at run time)
    if origin is tuple:
        return list[_translated(arguments[0])]  # type: ignore[misc]
    if issubclass(origin, Mapping):
        return dict[str, Any]
    return origin[tuple(_translated(each) for each in arguments)]
