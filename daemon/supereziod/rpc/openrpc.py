"""The OpenRPC document, made from the table of methods and the types of the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import structs

from superezio.errors import BY_KIND
from superezio.wire import Params
from supereziod.rpc.method import Method

OPENRPC_VERSION: Final = "1.3.2"
_REFERENCE: Final = "#/components/schemas/{name}"

#: What any method may be answered with.
COMMON_ERRORS: Final = (
    "invalid_params",
    "busy",
    "deadline_exceeded",
    "shutting_down",
    "internal_error",
)

Json = dict[str, Any]


def openrpc_document(methods: Sequence[Method], *, version: str) -> bytes:
    """Return the encoded document."""
    types = [each.result for each in methods] + [each.params for each in methods]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    results = schemas[: len(methods)]
    params_names = {each.params.__name__ for each in methods}
    document = {
        "openrpc": OPENRPC_VERSION,
        "info": {
            "title": "superezio",
            "version": version,
            "description": "JSON-RPC 2.0 over a Unix stream socket, one JSON text a line.",
            "license": {"name": "Apache-2.0"},
        },
        "methods": [
            _method(method, components[method.params.__name__], result)
            for method, result in zip(methods, results, strict=True)
        ],
        "components": {
            "schemas": {
                name: schema for name, schema in components.items() if name not in params_names
            },
            "errors": {kind: {"code": cls.code, "message": kind} for kind, cls in BY_KIND.items()},
        },
    }
    return msgspec.json.encode(document)


def _method(method: Method, params: Json, result: Json) -> Json:
    return {
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "either",
        "params": _params(method.params, params),
        "result": {"name": "result", "schema": result},
        "errors": [{"$ref": f"#/components/errors/{kind}"} for kind in errors_of(method)],
        "x-access": {"role": method.role, "visibility": method.visibility},
        "x-may-wait": method.may_wait,
    }


def _params(params: type[Params], schema: Json) -> list[Json]:
    return [
        {
            "name": field.encode_name,
            "required": field.required,
            "schema": schema["properties"][field.encode_name],
        }
        for field in structs.fields(params)
    ]


def errors_of(method: Method) -> list[str]:
    """Return the kinds of errors that a method may be answered with."""
    kinds = [*COMMON_ERRORS]
    if method.role != "observer":
        kinds.append("permission_denied")
    if method.may_wait:
        kinds.append("cancelled")
    return [*kinds, *method.errors]
