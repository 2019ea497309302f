"""The OpenAPI document.

drf-spectacular finds the URLs; everything else comes from the table of operations and the types of
parameters and responses.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from inspect import getdoc
from types import MappingProxyType
from typing import Any, Final

from django.conf import settings
from django.db import OperationalError
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from msgspec import json
from msgspec.structs import fields

from a2a.core.errors import RULES
from a2a.core.exceptions import UnsupportedMediaType
from a2a.core.parsing import Text, schema_of
from a2a.core.process import software_version
from a2a.methods import task_schemas
from a2a.methods.files import CreateFile, FileInfo, FileValue
from a2a.methods.openrpc import parts_of, schemas_of
from a2a.rest.operations import ROUTES, Operation
from accounts.auth import AuthenticationFailed
from accounts.callers import Role
from tasks.executors import EXECUTORS, describe, executor_ids
from tasks.rules.exceptions import (
    FileDiffers,
    FileNotFound,
    FileTooLarge,
    InvalidParams,
    LimitReached,
    StatusConflict,
)
from tasks.rules.files import SHA256
from tasks.rules.strict_json import Json
from tasks.services.trees import idempotency
from tasks.status import Status

OPENAPI: Final = "3.1.0"
SCHEMAS: Final = "#/components/schemas/{name}"
#: The names of errors without an exception in the table: an unknown URL, and an internal error.
OTHER_ERRORS: Final = ("internal", "not_found")
TAGS: Final = {
    "config": "LLM keys",
    "system": "executors",
    "feedback": "runs",
    "providers": "limits",
    "users": "limits",
}
"""First part of the name of a method → its tag, where the two differ."""
TAGGED: Final = {
    "tasks": "Trees of tasks: store, run, read, change, copy and cancel them.",
    "runs": "Runs of trees: list, search, compare and export them.",
    "questions": "Open questions of tasks to people.",
    "datasets": "Rows of inputs, with what is expected of each, as versions.",
    "evals": "Experiments: versions of a flow, run on a data set and scored.",
    "judges": "Judges, which score a share of the runs of a flow.",
    "flows": "Saved definitions of trees, with versions and inputs.",
    "schedules": "Runs at times.",
    "events": "Events from outside, for tasks that wait for one.",
    "executors": "The executors with their schemas.",
    "webhooks": "Webhooks of runs.",
    "hooks": "Addresses at which other services start flows, send events and answer questions.",
    "notifications": "Mails and webhooks about failures and questions.",
    "home": "Failures since the last visit, and what is late, stuck or asked.",
    "usage": "Tokens and costs of model calls.",
    "LLM keys": "Keys of the providers of language models.",
    "secrets": "Secrets that inputs of tasks name.",
    "limits": "Named limits that all workers share, and pauses.",
    "cache": "Results that equal tasks take.",
    "files": "Files, which inputs of tasks name. Their bytes are at `/files/{id}`.",
    "audit": "The audit log.",
    "accounts": "Logins, tokens and the caller.",
}
"""Tag → what its operations are about."""
NULL: Final = {"type": "null"}

ABOUT: Final = """The task API over REST. The same methods are available as JSON-RPC at `POST /tasks`.

Ids may contain any character: percent-encode them, a slash as `%2F`. URLs work with and without a
trailing slash. Unknown parameters are rejected by name. If authentication is on, send a token from
`POST /auth/login`, or an API key, as `Authorization: Bearer <token>`."""
TEXT_SCHEMA: Final[Json] = {"type": "string"}
BOOLEAN: Final[Json] = {"type": "boolean"}
TOKENS: Final[Mapping[str, Json]] = {
    "access": TEXT_SCHEMA,
    "refresh": TEXT_SCHEMA,
    "token": TEXT_SCHEMA | {"description": "The access token again"},
    "token_type": {"const": "Bearer"},
    "expires_in": {"type": "integer", "description": "Seconds until the access token expires"},
}
CALLER: Final[Mapping[str, Json]] = {
    "user_id": TEXT_SCHEMA,
    "role": {"enum": [str(role) for role in Role]},
    "is_read_only": BOOLEAN,
    "is_admin": BOOLEAN,
    "auth_enabled": BOOLEAN,
}


class OperationSchema(AutoSchema):
    """Describes a view to drf-spectacular, from the table of operations."""

    def get_operation(self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any) -> Json:
        operation: Operation = self.view.operations[method.upper()]
        text = operation.rest.summary or getdoc(operation.method.function) or ""
        described = {
            "operationId": operation.rest.name,
            "summary": text.splitlines()[0],
            "description": text,
            "tags": [TAGS.get(group := operation.method.name.partition(".")[0], group)],
            "parameters": [*_parameters(operation)],
            "responses": {str(status): response for status, response in _responses(operation)},
        }
        return described | ({"requestBody": _request_body(operation)} if operation.body else {})


@cache
def openapi_document(*, with_authentication: bool) -> Json:
    paths = SchemaGenerator(urlconf="a2a.rest.views").get_schema(request=None, public=True)["paths"]
    bearer = {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}}
    accounts = _account_paths(_json({"$ref": SCHEMAS.format(name="Error")})) if with_authentication else {}
    document = {
        "openapi": OPENAPI,
        "info": {
            "title": "aipartnerupflow",
            "version": software_version(),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": (settings.APFLOW.server.public_url or "/").rstrip("/") or "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGGED.items()],
        "paths": paths | _file_paths() | accounts,
        "components": {"schemas": _schemas()} | (bearer if with_authentication else {}),
    } | ({"security": [{"bearer": []}]} if with_authentication else {})
    _add_items(document)
    return document


def _add_items(part: Any) -> None:
    """Say of each array that its items may be anything, unless it says what they are: generators of clients need it."""
    if isinstance(part, dict):
        kinds = part.get("type")
        if (kinds == "array" or (isinstance(kinds, list) and "array" in kinds)) and not part.keys() & {
            "items",
            "prefixItems",
        }:
            part["items"] = {}
        part = list(part.values())
    for below in part if isinstance(part, list | tuple) else ():
        _add_items(below)


# --- what is sent ---


def _parameters(operation: Operation) -> Iterator[Json]:
    properties = _properties(operation)
    if named := operation.rest.in_path:
        yield _parameter(named, "path", _without_null(properties[named])) | {"required": True}
    needed = {each.name for each in fields(operation.method.params) if each.required}
    for name in operation.query:
        default = {"default": operation.rest.always[name]} if operation.rest.always.get(name) else {}
        required = {"required": True} if name in needed else {}
        yield _parameter(name, "query", _without_null(properties[name]) | default) | required
    for name, schema in operation.rest.also.items():
        yield _parameter(name, "query", schema)
    if operation.rest.is_stream:
        yield _parameter("Last-Event-ID", "header", {"type": "string", "pattern": "^([0-9]{1,18}(:[!-~]{1,255})?)?$"})
    if operation.method.is_repeatable:
        yield _parameter(idempotency.HEADER, "header", json.schema(Text))


def _parameter(name: str, place: str, schema: Json) -> Json:
    return {"name": name, "in": place, "schema": schema}


def _request_body(operation: Operation) -> Json:
    properties = _properties(operation)
    parts = {name: properties[name] for name in operation.body}
    conditions = schema_of(operation.method.params.CONDITIONS, among=parts)
    schema = {
        "type": "object",
        "properties": parts,
        "additionalProperties": False,
        **operation.rest.rules,
        **conditions,
    }
    if operation.rest.instead:
        schema = {"anyOf": [schema, *operation.rest.instead]}
    content: Json = {"schema": schema}
    if operation.method.name == "tasks.create":  # a task for each of our executors, with its own example as inputs
        described = [describe(each) for each in sorted(executor_ids() & EXECUTORS.keys())]
        content["examples"] = {
            each["id"]: {
                "summary": each["name"],
                "value": {"name": each["id"], "schemas": {"method": each["id"]}, "inputs": each["example"]},
            }
            for each in described
            if each["example"] is not None
        }
    return {"required": bool(operation.rest.rules), "content": {"application/json": content}}


def _properties(operation: Operation) -> Json:
    """Return the schemas of the method's parameters by name.

    A parameter that the rules for tasks check has the schema of the field of `NewTask`. Null means "absent", unless the
    parameter is required, or null is a value.
    """
    kind = operation.method.params
    schemas = json.schema_components([kind, task_schemas.NewTask], ref_template=SCHEMAS)[1]
    schema, fields = schemas[kind.__name__], schemas["NewTask"]["properties"]
    needed = {*schema["required"], *kind.NULLABLE}
    found: Json = {}
    for name, own in schema["properties"].items():
        described = own or fields.get(name, {})
        has_null = name in needed or NULL in described.get("anyOf", ())
        found[name] = described if has_null else {"anyOf": [described, NULL]}
    return found


def _without_null(schema: Json) -> Json:
    """Return the schema without null: an absent parameter is omitted from the query."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != NULL]
    rest = {name: value for name, value in schema.items() if name != "anyOf" and value is not None}
    return rest | (choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {})


# --- what is answered ---


def _responses(operation: Operation) -> Iterator[tuple[int, Json]]:
    for status, kind in operation.answers.items():
        content: Json = {}
        if kind is not None and operation.rest.is_stream:  # before OpenAPI 3.2, a stream is described by its events
            data = {"type": "string", "contentMediaType": "application/json", "contentSchema": _schema(kind)}
            event = {"id": {"type": "string"}, "data": data}
            content = {"text/event-stream": {"schema": {"type": "object", "properties": event, "required": [*event]}}}
        elif kind is not None:
            content = _json(_schema(kind))
        yield status, _response(HTTPStatus(status).phrase, content)
    errors = (InvalidParams, AuthenticationFailed, OperationalError, *operation.errors)
    yield from _refusals(errors, _json({"$ref": SCHEMAS.format(name="Error")}))


def _refusals(refused: Sequence[type[Exception]], content: Json) -> Iterator[tuple[int, Json]]:
    errors: defaultdict[int, list[type[Exception]]] = defaultdict(list)
    for error in refused:
        errors[RULES[error].http_status].append(error)
    for status, kinds in sorted(errors.items()):
        names = ", ".join(f"`{RULES[kind].name}`" for kind in kinds)
        yield status, _response(f"{HTTPStatus(status).phrase}: {names}", content)


def _response(description: str, content: Json) -> Json:
    return {"description": description} | ({"content": content} if content else {})


def _schema(kind: Any) -> Json:
    return schemas_of([kind], template=SCHEMAS)[0][0]


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _schemas() -> Json:
    """Return all schemas to which the operations refer."""
    operations = [each for route in ROUTES.values() for each in route.values()]
    types = [kind for operation in operations for kind in operation.answers.values() if kind is not None]
    schemas = schemas_of([*types, FileValue, Status, task_schemas.NewTask, task_schemas.TaskToStore], template=SCHEMAS)[
        1
    ]
    for operation in operations:
        schemas |= parts_of(operation.method.params)
    names = sorted({*(rule.name for rule in RULES.values()), *OTHER_ERRORS})
    fields: Json = {"code": {"enum": names}, "message": {"type": "string"}, "data": {}}
    error = _closed({"error": _closed(fields, required=["code", "message"])}, required=["error"])
    of_files: Json = {"code": {"type": "integer"}, "message": TEXT_SCHEMA, "data": {}}
    reply: Json = {"jsonrpc": {"const": "2.0"}, "id": NULL, "error": _closed(of_files, required=["code", "message"])}
    return schemas | {"Error": error, "ErrorOfFiles": _closed(reply, required=[*reply])}


def _closed(properties: Json, *, required: Sequence[str]) -> Json:
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}


# --- the bytes of files ---


def _file_paths() -> Json:
    """Return the operations of `/files`, whose bodies are bytes. Their view is `a2a.endpoints.files`."""
    text: Json = {"type": "string"}
    any_bytes: Json = {"application/octet-stream": {"schema": {}}}
    error = _json({"$ref": SCHEMAS.format(name="ErrorOfFiles")})
    file_id = _parameter("file_id", "path", json.schema(Text)) | {"required": True}
    link = _parameter("link", "query", text | {"description": "What `files.link` signed: no login is needed then"})
    whole = {
        "Content-Disposition": "attachment, with the name of the file",
        "ETag": "The SHA-256 of the whole file, in quotation marks",
        "Accept-Ranges": "bytes",
        "Content-Length": "The number of bytes that follow",
        "Content-Security-Policy": "A sandbox: a browser runs nothing of a file",
        "X-Content-Type-Options": "nosniff",
    }
    part = whole | {"Content-Range": "Which bytes of how many follow"}

    def answered(status: int, content: Json, headers: Mapping[str, str] = MappingProxyType({})) -> Json:
        described = {name: {"description": said, "schema": text} for name, said in headers.items()}
        return _response(HTTPStatus(status).phrase, content) | ({"headers": described} if described else {})

    def operation(name: str, summary: str, answers: Mapping[int, Json], *errors: type[Exception], **more: Any) -> Json:
        refused = (InvalidParams, AuthenticationFailed, OperationalError, *errors)
        responses = {status: answered(status, content) for status, content in answers.items()}
        responses = dict(_refusals(refused, error)) | responses | more.pop("answered", {})
        described = {"operationId": name, "summary": summary, "description": summary, "tags": ["files"]}
        return {**described, "responses": {str(status): responses[status] for status in sorted(responses)}, **more}

    sent: Json = {"required": True, "content": any_bytes}
    too_large = (FileTooLarge, FileDiffers, LimitReached, UnsupportedMediaType)
    ranges = [
        _parameter("Range", "header", text | {"description": "One range of bytes, such as bytes=0-1023"}),
        _parameter("If-Range", "header", text | {"description": "The ETag: another file is sent as a whole"}),
        _parameter("If-None-Match", "header", text | {"description": "The ETag of what the client has"}),
    ]
    read: Json = {"parameters": [file_id, link, *ranges]}
    return {
        "/files": {
            "post": operation(
                "sendFile",
                "Store the body as a file, and return it as a value.",
                {201: _json(_schema(FileValue))},
                *too_large,
                parameters=[
                    _parameter("name", "query", _schema_of_field(CreateFile, "name")) | {"required": True},
                    _parameter("media_type", "query", text),
                    _parameter("sha256", "query", {"type": "string", "pattern": f"^{SHA256.pattern}$"}),
                ],
                requestBody=sent,
            )
        },
        "/files/{file_id}": {
            "get": operation(
                "readFile",
                "Return the bytes of a file, or a range of them.",
                {},
                FileNotFound,
                StatusConflict,
                LimitReached,
                answered={
                    200: answered(200, any_bytes, whole),
                    206: answered(206, any_bytes, part),
                    304: answered(304, {}, {"ETag": whole["ETag"]}),
                    416: answered(416, {}, {"Content-Range": "bytes */ and the number of bytes that there are"}),
                },
                **read,
            ),
            "put": operation(
                "sendFileBytes",
                "Send bytes of a file that `files.create` announced, from the offset on.",
                {200: _json(_schema(FileInfo))},
                *too_large,
                FileNotFound,
                StatusConflict,
                parameters=[
                    file_id,
                    _parameter("Upload-Offset", "header", {"type": "integer", "minimum": 0, "maximum": 10**18 - 1})
                    | {"description": "How many bytes have arrived; without it 0"},
                ],
                requestBody=sent,
            ),
        },
    }


def _schema_of_field(kind: Any, name: str) -> Json:
    schema: Json = json.schema_components([kind], ref_template=SCHEMAS)[1][kind.__name__]["properties"][name]
    return schema


# --- accounts ---


def _account_paths(error: Json) -> Json:
    """Return the operations of `/auth/…` by path. Their views are those of `accounts`, outside the table of operations.

    `error` is the content of a response with an error.
    """

    def operation(name: str, summary: str, answers: Mapping[int, Json | None], **more: Json | list[Json]) -> Json:
        responses = {
            str(status): {"description": HTTPStatus(status).phrase} | ({} if content is None else {"content": content})
            for status, content in sorted({**answers, 400: error, 401: error}.items())
        }
        described = {"operationId": name, "summary": summary, "description": summary, "tags": ["accounts"]}
        return {**described, "responses": responses, **more}

    too_large = {413: error, 415: error}
    return {
        "/auth/login": {
            "post": operation(
                "logIn",
                "Exchange a password for an access token and a refresh token.",
                {200: _object_content(TOKENS), 429: error, **too_large},
                requestBody=_body_with("username", "password"),
                security=[],
            )
        },
        "/auth/refresh": {
            "post": operation(
                "refreshTokens",
                "Exchange a refresh token for new tokens. The old one is no longer valid.",
                {200: _object_content(TOKENS), **too_large},
                requestBody=_body_with("refresh"),
                security=[],
            )
        },
        "/auth/logout": {
            "post": operation(
                "logOut",
                "Revoke all tokens of the login: that of the request, or of the refresh token in the body.",
                {204: None, **too_large},
                requestBody={"content": _object_content({"refresh": TEXT_SCHEMA | {"minLength": 1}}, is_optional=True)},
            )
        },
        "/auth/me": {
            "get": operation("getCaller", "Return the user and role of the token.", {200: _object_content(CALLER)})
        },
    }


def _body_with(*fields: str) -> Json:
    return {"required": True, "content": _object_content(dict.fromkeys(fields, TEXT_SCHEMA | {"minLength": 1}))}


def _object_content(properties: Mapping[str, Json], *, is_optional: bool = False) -> Json:
    required = [] if is_optional else [*properties]
    schema: Json = {"type": "object", "properties": dict(properties), "required": required}
    return {"application/json": {"schema": schema | {"additionalProperties": False}}}
