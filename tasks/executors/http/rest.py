"""Calls a web service and returns its response."""

import base64
import re
from collections.abc import AsyncIterator, Mapping
from encodings.aliases import aliases
from http import HTTPStatus
from typing import Any, ClassVar, Final
from urllib.parse import urlencode

import httpx
import orjson

from aipartnerupflow.executors import Context, Executor, ExecutorError, Files, HttpResponse, Json
from tasks.executors.http.file_bodies import body_of_file, multipart_body, saved_body
from tasks.executors.http.safe_http import fetch
from tasks.rules.files import FILE_SCHEMA

#: These two ask to wait before a retry; after the others of `PASSING` a retry may succeed at once.
BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
PASSING = BUSY | {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}

CHARSET: Final = re.compile(r";\s*charset\s*=\s*[\"']?([\w.:-]{1,40})", re.ASCII | re.IGNORECASE)
#: What bodies are decoded from, by Python's names. Each is decoded in linear time by code in C.
#: Python has others for which 100 KB take seconds, and some that decompress.
CHARSETS: Final = frozenset(
    """
    ascii utf_8 utf_8_sig utf_16 utf_16_be utf_16_le utf_32 latin_1 koi8_r koi8_u
    iso8859_2 iso8859_3 iso8859_4 iso8859_5 iso8859_6 iso8859_7 iso8859_8 iso8859_9 iso8859_10 iso8859_13 iso8859_14
    iso8859_15 iso8859_16 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp874
    shift_jis cp932 euc_jp euc_kr cp949 gb2312 gbk gb18030 big5
    """.split()
)

BODIES: Final = ("json", "data", "body_file", "multipart")
"""The inputs of which one is the body."""
SCALAR: Json = {"type": ["string", "number", "boolean", "null"]}
TEXT: Json = {"type": "string"}
SECRET: Json = {"type": "string", "writeOnly": True}
"""Masked on pages: see `tasks.services.secrets.write_only`."""
AUTH: Json = {
    "type": "object",
    "properties": {
        "bearer": {**SECRET, "minLength": 1},
        "basic": {
            "type": "object",
            "properties": {"username": TEXT, "password": SECRET},
            "required": ["username", "password"],
            "additionalProperties": False,
        },
        "apikey": {
            "type": "object",
            "properties": {"header": {"type": "string", "default": "X-API-Key"}, "value": SECRET},
            "required": ["value"],
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}


class Rest(Executor):
    """Sends one HTTP request through the guarded client.

    A status other than 2xx is a failure unless it is expected.
    """

    id = "rest_executor"
    name = "REST request"
    description = (
        "Sends an HTTP request and returns the status, headers and body of the response. Redirects are not followed. "
        "Private addresses, and ports other than 80 and 443, require the operator's permission."
    )
    tags = ("core", "http")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "url": {"type": "string", "minLength": 1, "maxLength": 8192, "description": "http or https"},
            "method": {"enum": ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"], "default": "GET"},
            "headers": {
                "type": "object",
                "additionalProperties": SECRET,
                "default": {},
                "description": "Request headers",
            },
            "params": {
                "type": "object",
                "additionalProperties": {"anyOf": [SCALAR, {"type": "array", "items": SCALAR}]},
                "default": {},
                "description": "Added to the query string of the URL",
            },
            "json": {"description": "Request body: any JSON value"},
            "data": {
                "anyOf": [TEXT, {"type": "object", "additionalProperties": SCALAR}],
                "description": "Request body: plain text, or form fields",
            },
            "body_file": {**FILE_SCHEMA, "description": "Request body: a file, which is sent as a stream"},
            "multipart": {
                "type": "object",
                "additionalProperties": {"anyOf": [SCALAR, FILE_SCHEMA, {"type": "array", "items": FILE_SCHEMA}]},
                "description": "Request body: a form with fields and files (multipart/form-data)",
            },
            "save": {
                "type": "boolean",
                "default": False,
                "description": "Save the body of the response as a file, instead of returning it",
            },
            "auth": AUTH,
            "timeout_seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": 600, "default": 30},
            "verify": {"type": "boolean", "default": True, "description": "Verify the TLS certificate"},
            "expected_status": {
                "anyOf": [
                    {"type": "integer", "minimum": 100, "maximum": 599},
                    {"type": "array", "items": {"type": "integer", "minimum": 100, "maximum": 599}},
                ],
                "description": "Status codes besides 2xx that count as success",
            },
        },
        "required": ["url"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "status_code": {"type": "integer", "description": "The HTTP status"},
            "headers": {
                "type": "object",
                "additionalProperties": TEXT,
                "description": "Response headers, with names in lower case",
            },
            "json": {"description": "The body, if its content type is JSON"},
            "body": {"type": "string", "description": "The body as text, otherwise; undecodable bytes are replaced"},
            "file": {**FILE_SCHEMA, "description": "The body as a file, with `save`"},
            "url": {"type": "string", "description": "The URL that answered"},
            "elapsed_ms": {"type": "number", "description": "From the request to the end of the body, in milliseconds"},
        },
        "required": ["status_code", "headers", "url", "elapsed_ms"],
    }
    param_names = frozenset()
    example: ClassVar[Json] = {"url": "https://example.com/", "method": "GET"}
    example_result: ClassVar[Json] = {
        "status_code": 200,
        "headers": {"content-type": "text/html; charset=utf-8"},
        "body": "<h1>Example Domain</h1>",
        "url": "https://example.com/",
        "elapsed_ms": 84.2,
    }
    idempotent = False
    begins_itself = True

    def may_repeat(self, inputs: Json) -> bool:
        """Return whether the method is idempotent (RFC 9110, 9.2.2), or the task gives the request an `Idempotency-Key`."""
        headers = inputs.get("headers", {})
        has_key = isinstance(headers, dict) and any(name.lower() == "idempotency-key" for name in headers)
        return has_key or inputs.get("method", "GET") in ("GET", "HEAD", "PUT", "DELETE")

    def uncacheable(self, params: Json, inputs: Json) -> str | None:
        if inputs.get("method", "GET") != "GET":
            return "is only for GET: requests with other methods may change something"
        named = next((name for name in ("headers", "auth") if inputs.get(name)), None)
        if named is None or (isinstance(params["cache"], dict) and params["cache"].get("key")):
            return None
        return (
            f"needs a key, because inputs.{named} may have credentials: name the inputs that tell requests apart, such as "
            '{"for": "1h", "key": ["inputs.url"]}'
        )

    def receiver(self, inputs: Json) -> str | None:
        return str(inputs.get("url"))

    async def execute(self, inputs: Json, context: Context) -> Json:
        method = inputs.get("method", "GET")
        content, content_type, size = await _body(inputs, context.files)
        file: Json = {}

        async def take(response: httpx.Response, parts: AsyncIterator[bytes]) -> bool:
            if _is_expected(response.status_code, inputs):
                kind = response.headers.get("content-type", "")
                file["file"] = await saved_body(str(response.url), kind, parts, context.files)
            return bool(file)

        defaults = {} if content_type is None else {"Content-Type": content_type}
        if method not in ("GET", "HEAD"):
            defaults["Idempotency-Key"] = context.idempotency_key
        reply = await fetch(
            method,
            inputs["url"],
            headers=merged_headers(defaults, inputs.get("headers", {}), auth_headers(inputs.get("auth", {}))),
            params=inputs.get("params"),
            content=content,
            timeout_seconds=inputs.get("timeout_seconds", 30),
            verify=inputs.get("verify", True),
            begin=context.begin,
            content_bytes=size,
            take=take if inputs.get("save") else None,
        )
        what = f"{method} {httpx.URL(reply.url).copy_with(query=None)}"
        status = reply.status_code
        if not _is_expected(status, inputs):
            known = {item.value: item.phrase for item in HTTPStatus}
            hint = "Redirects are not followed: use the final url. " if 300 <= status < 400 else ""
            raise ExecutorError(
                f"{what} answered {status} {known.get(status, '')}".rstrip()
                + f". {hint}To accept this status, add {status} to `expected_status`.",
                permanent=status < 500 and status not in PASSING,
                retry_after_seconds=reply.retry_after_seconds if status in BUSY else None,
            )
        return _result(what, reply, file)


def _is_expected(status: int, inputs: Json) -> bool:
    expected = inputs.get("expected_status", [])
    return 200 <= status < 300 or status in (expected if isinstance(expected, list) else [expected])


async def _body(inputs: Json, files: Files) -> tuple[bytes | AsyncIterator[bytes] | None, str | None, int | None]:
    """Return the body, its content type, and the size of one that is a stream; None for each if there is none."""
    given = [name for name in BODIES if name in inputs]
    if len(given) > 1:
        both = " and ".join(f"`{name}`" for name in given)
        raise ExecutorError(f"Both {both} are given: one request has one body. Drop one.", permanent=True)
    if "body_file" in inputs or "multipart" in inputs:
        is_form = "multipart" in inputs
        streamed = await (
            multipart_body(inputs["multipart"], files) if is_form else body_of_file(inputs["body_file"], files)
        )
        return streamed.parts, streamed.content_type, streamed.size
    if "json" in inputs:
        return orjson.dumps(inputs["json"]), "application/json", None
    data = inputs.get("data")
    if isinstance(data, Mapping):
        form = urlencode(httpx.QueryParams(data).multi_items()).encode()
        return form, "application/x-www-form-urlencoded", None
    return (data.encode(), "text/plain; charset=utf-8", None) if data is not None else (None, None, None)


def auth_headers(auth: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the headers for inputs of the shape `AUTH`."""
    if "bearer" in auth:
        return {"Authorization": f"Bearer {auth['bearer']}"}
    if "basic" in auth:
        pair = f"{auth['basic']['username']}:{auth['basic']['password']}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    if "apikey" in auth:
        return {auth["apikey"].get("header", "X-API-Key"): auth["apikey"]["value"]}
    return {}


def merged_headers(defaults: Mapping[str, str], given: Mapping[str, str], auth: Mapping[str, str]) -> Mapping[str, str]:
    """Merge the headers.

    Headers of the task override defaults. Raises ExecutorError if `auth` sets one of them again.
    """
    given_names = {name.lower() for name in given}
    if twice := [name for name in auth if name.lower() in given_names]:
        raise ExecutorError(f"The header {twice[0]!r} is given in `headers` and by `auth`. Drop one.", permanent=True)
    return {**{name: value for name, value in defaults.items() if name.lower() not in given_names}, **given, **auth}


def _result(what: str, reply: HttpResponse, file: Json) -> Json:
    result: Json = file | {
        "status_code": reply.status_code,
        "headers": dict(reply.headers),
        "url": reply.url,
        "elapsed_ms": reply.elapsed_ms,
    }
    if file:
        return result
    media_type = str(reply.headers.get("content-type", "")).partition(";")[0].strip().lower()
    if reply.body and (media_type == "application/json" or media_type.endswith("+json")):
        try:
            return {**result, "json": orjson.loads(reply.body)}
        except orjson.JSONDecodeError:
            raise ExecutorError(
                f"{what}: the content type of the response is JSON, but its body cannot be parsed."
            ) from None
    found = CHARSET.search(str(reply.headers.get("content-type", "")))
    name = found[1].lower().replace("-", "_") if found else ""
    charset = aliases.get(name, name)  # by Python's name; a missing or other one means UTF-8
    return {**result, "body": reply.body.decode(charset if charset in CHARSETS else "utf-8", "replace")}
