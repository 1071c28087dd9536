"""The server API over HTTP as an OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1), made from the table of
methods, so that neither can say what the other does not."""

from __future__ import annotations

import inspect
from typing import Any

from notifier import __version__
from notifier.api import schemas
from notifier.api.methods import BATCH, METHODS, Method
from notifier.api.requests import BatchRequest
from notifier.api.schemas import Schema, reference
from notifier.protocol.codes import Error

_ABOUT = """Errors of a method are answered with status 200 and an `error`, as its client libraries expect. With the \
header `X-Centrifugo-Error-Mode: transport` they are answered with a status of their own instead. An empty body is an \
empty request; unknown fields are ignored. Only POST is answered, anything else with 405."""

_KEY = "The API key in X-API-Key, or in Authorization after the word apikey, is missing or wrong."
_PROBLEMS = {
    "400": ("BadRequest", "The body is not a request of this method. As a status of errors 107 and 108 too."),
    "401": ("Unauthorized", _KEY),
    "404": ("NotFound", "There is no such method. As a status of errors 102 and 104 too."),
    "405": ("MethodNotAllowed", "Not POST."),
    "408": ("Timeout", "The body did not come in time."),
    "413": ("TooLarge", "The body is larger than `api.max_body`."),
    "416": ("Unrecoverable", "Only as a status of error 112: the position is not one of this log."),
    "500": ("Internal", "Only as a status of error 100: something is away; trying again helps."),
}


def document() -> dict[str, Any]:
    """The document, ready to be written as JSON."""
    kinds = [kind for method in METHODS.values() for kind in (method.request, method.result)]
    found = schemas.of([*kinds, BatchRequest, Error])
    paths = {f"/api/{name}": {"post": _operation(name, method, found)} for name, method in METHODS.items()}
    paths[f"/api/{BATCH}"] = {"post": _batch()}
    paths["/api"] = {"post": _any_method()}
    paths["/api/openapi.json"] = {"get": {**_description_of("openapi", "This document."), "security": []}}
    paths["/api/asyncapi.json"] = {
        "get": _description_of("asyncapi", "The same for AMQP and for the channels of clients, in AsyncAPI.")
    }
    return {
        "openapi": "3.1.1",
        "info": {"title": "Server API", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"key": []}, {"authorization": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "authorization": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "The word `apikey`, a space, and the key.",
                },
            },
            "parameters": {"errorMode": _ERROR_MODE},
            "responses": {
                name: {"description": text, **_json(reference("Error"))} for name, text in _PROBLEMS.values()
            },
            "schemas": found,
        },
    }


_ERROR_MODE = {
    "name": "X-Centrifugo-Error-Mode",
    "in": "header",
    "description": "`transport`: errors of the method as HTTP statuses.",
    "schema": {"type": "string"},
}


def _operation(name: str, method: Method, found: dict[str, Schema]) -> dict[str, Any]:
    request = found[method.request.__name__]
    result = reference(method.result.__name__)
    return {
        "operationId": name,
        "summary": inspect.getdoc(method.request),
        **({"description": inspect.getdoc(method.call)} if method.call.__doc__ else {}),
        "parameters": [{"$ref": "#/components/parameters/errorMode"}],
        "requestBody": {"required": "required" in request, **_json(reference(method.request.__name__))},
        "responses": _responses(_either({"result": result}), "The result, or the method's error."),
    }


def _batch() -> dict[str, Any]:
    reply = {
        "type": "object",
        "description": "One key: the command's method with its result, or `error`.",
        "properties": {
            **{name: reference(method.result.__name__) for name, method in METHODS.items()},
            "error": reference("Error"),
        },
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    replies = {"type": "array", "items": reply}
    return {
        "operationId": BATCH,
        "summary": inspect.getdoc(BatchRequest),
        "parameters": [{"$ref": "#/components/parameters/errorMode"}],
        "requestBody": _json(reference("BatchRequest")),
        "responses": _responses(_either({"replies": replies}), "A reply for each command, in their order."),
    }


def _any_method() -> dict[str, Any]:
    call = {
        "type": "object",
        "properties": {
            "method": {"type": "string", "enum": [*METHODS, BATCH]},
            "params": {"type": "object", "description": "The method's request."},
        },
        "required": ["method"],
    }
    return {
        "operationId": "call",
        "summary": "Any method, named in the body.",
        "parameters": [{"$ref": "#/components/parameters/errorMode"}],
        "requestBody": {"required": True, **_json(call)},
        "responses": _responses({"type": "object"}, "What the method answers."),
    }


def _description_of(name: str, text: str) -> dict[str, Any]:
    responses = {
        "200": {"description": "The document.", **_json({"type": "object"})},
        "401": {"$ref": "#/components/responses/Unauthorized"},
    }
    return {"operationId": name, "summary": text, "responses": responses}


def _responses(schema: Schema, text: str) -> dict[str, Any]:
    problems = {status: {"$ref": f"#/components/responses/{name}"} for status, (name, _) in _PROBLEMS.items()}
    return {"200": {"description": text, **_json(schema)}, **problems}


def _either(answer: dict[str, Schema]) -> Schema:
    return {
        "oneOf": [
            {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
            for properties in (answer, {"error": reference("Error")})
        ]
    }


def _json(schema: Schema) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}
