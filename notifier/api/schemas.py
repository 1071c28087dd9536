"""JSON Schemas of the API's types, for the documents that describe it.

msgspec's own generator cannot write down a field that holds any JSON value as it came (`Raw`) once it has a default.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import NODEFAULT, Raw
from msgspec import inspect as types

from notifier.protocol.messages import ClientInfo, Publication

Schema = dict[str, Any]

PUBLICATION: Schema = {
    "type": "object",
    "description": "One publication of a channel's history. `info` is who published it, if a client did.",
    "properties": {
        "data": {"description": "Any JSON value."},
        "offset": {"type": "integer"},
        "info": {"$ref": "#/components/schemas/ClientInfo"},
        "tags": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["data"],
}


def reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def of(kinds: Iterable[type]) -> dict[str, Schema]:
    """The schemas of these Structs and of what is in them, by name."""
    found: dict[str, Schema] = {}
    for info in types.multi_type_info(kinds):
        _schema(info, found)
    return dict(sorted(found.items()))


def _schema(info: types.Type, found: dict[str, Schema]) -> Schema:
    match info:
        case types.Metadata():
            return {**_schema(info.type, found), **(info.extra_json_schema or {})}
        case types.StructType():
            return _struct(info, found)
        case types.CustomType(cls=cls) if cls is Publication:
            found["Publication"] = PUBLICATION
            _schema(types.type_info(ClientInfo), found)
            return reference("Publication")
        case types.UnionType():
            return {"anyOf": [_schema(each, found) for each in info.types]}
        case types.ListType():
            return {"type": "array", "items": _schema(info.item_type, found)}
        case types.DictType():
            return {"type": "object", "additionalProperties": _schema(info.value_type, found)}
        case types.RawType() | types.AnyType():
            return {}
        case _:
            return {"type": _NAMES[type(info)]}


_NAMES: dict[type[types.Type], str] = {
    types.BoolType: "boolean",
    types.IntType: "integer",
    types.FloatType: "number",
    types.StrType: "string",
    types.NoneType: "null",
}


def _struct(info: types.StructType, found: dict[str, Schema]) -> Schema:
    name = info.cls.__name__
    if name not in found:
        schema: Schema = {"type": "object", "description": inspect.getdoc(info.cls), "properties": {}}
        found[name] = schema
        required = []
        for field in info.fields:
            shape = schema["properties"][field.encode_name] = _schema(field.type, found)
            default = field.default_factory() if field.default_factory is not NODEFAULT else field.default
            if default is NODEFAULT or _would_not_do(shape, default):
                required.append(field.encode_name)
            elif default is not None and not isinstance(default, Raw):
                shape["default"] = msgspec.to_builtins(default)
        if required:
            schema["required"] = required
    return reference(name)


def _would_not_do(schema: Schema, default: Any) -> bool:
    """A default that the method refuses: the field must be there."""
    return default in ("", []) and (schema.get("minLength", 0) > 0 or schema.get("minItems", 0) > 0)
