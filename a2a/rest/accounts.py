"""`/auth/…` in the OpenAPI document. The views are those of `accounts`, outside the table of operations."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from accounts.callers import Role
from tasks.rules.strict_json import Json

TEXT: Final[Json] = {"type": "string"}
BOOLEAN: Final[Json] = {"type": "boolean"}
TOKENS: Final[Mapping[str, Json]] = {
    "access": TEXT,
    "refresh": TEXT,
    "token": TEXT | {"description": "The access token again"},
    "token_type": {"const": "Bearer"},
    "expires_in": {"type": "integer", "description": "Seconds until the access token expires"},
}
CALLER: Final[Mapping[str, Json]] = {
    "user_id": TEXT,
    "role": {"enum": [str(role) for role in Role]},
    "is_read_only": BOOLEAN,
    "is_admin": BOOLEAN,
    "auth_enabled": BOOLEAN,
}


def account_paths(error: Json) -> Json:
    """Return the operations by path. `error` is the content of a response with an error."""

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
                {200: _content(TOKENS), 429: error, **too_large},
                requestBody=_body("username", "password"),
                security=[],
            )
        },
        "/auth/refresh": {
            "post": operation(
                "refreshTokens",
                "Exchange a refresh token for new tokens. The old one is no longer valid.",
                {200: _content(TOKENS), **too_large},
                requestBody=_body("refresh"),
                security=[],
            )
        },
        "/auth/logout": {
            "post": operation(
                "logOut",
                "Revoke all tokens of the login: that of the request, or of the refresh token in the body.",
                {204: None, **too_large},
                requestBody={"content": _content({"refresh": TEXT | {"minLength": 1}}, is_optional=True)},
            )
        },
        "/auth/me": {"get": operation("getCaller", "Return the user and role of the token.", {200: _content(CALLER)})},
    }


def _body(*fields: str) -> Json:
    return {"required": True, "content": _content(dict.fromkeys(fields, TEXT | {"minLength": 1}))}


def _content(properties: Mapping[str, Json], *, is_optional: bool = False) -> Json:
    required = [] if is_optional else [*properties]
    schema: Json = {"type": "object", "properties": dict(properties), "required": required}
    return {"application/json": {"schema": schema | {"additionalProperties": False}}}
