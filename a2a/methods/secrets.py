"""Methods of `POST /system` for named secrets. No method returns a value."""

import logging
from typing import Annotated, Literal

from msgspec import Meta

from a2a.core.parsing import OnlyWith, Params, Text
from a2a.methods.method import OPERATOR, SYSTEM, VIEWER, Response, Rest, method
from a2a.methods.params import Nothing
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from llmkeys import named_secrets
from llmkeys.models import NamedSecret
from llmkeys.secret import Secret
from llmkeys.secret_forms import (
    HOST,
    HOST_CHARACTERS,
    INPUT,
    MOST_HOSTS,
    MOST_USERS,
    NAME,
    SHORTEST,
    MalformedSecret,
    checked_name,
)
from tasks.rules import exceptions as errors
from tasks.rules.exceptions import InvalidParams, RoleTooLow
from tasks.rules.strict_json import Json
from tasks.services.secrets import stored_secrets

SecretName = Annotated[str, Meta(extra_json_schema={"pattern": f"^{NAME.pattern}$"})]
SecretValue = Annotated[str, Meta(extra_json_schema={"minLength": SHORTEST, "pattern": r"^\s*\S[\s\S]{6,}\S\s*$"})]
AllowedHost = Annotated[str, Meta(extra_json_schema={"pattern": f"^({HOST.pattern})$", "maxLength": HOST_CHARACTERS})]
AllowedInput = Annotated[str, Meta(extra_json_schema={"pattern": f"^{INPUT.pattern}$"})]


class SetSecret(Params, frozen=True, kw_only=True):
    """secrets.set"""

    CONDITIONS = (OnlyWith("users", "scope", "shared"),)
    name: SecretName
    value: SecretValue
    scope: Literal["own", "shared"] = "own"
    allow_hosts: Annotated[list[AllowedHost], Meta(max_length=MOST_HOSTS)] | None = None
    """The hosts to which it may be sent; an empty list for any. None keeps those of the secret that is replaced."""
    allow_in: Annotated[list[AllowedInput], Meta(max_length=MOST_HOSTS)] | None = None
    """The inputs of tasks in which it may be used; an empty list for any. Without it, a secret with hosts may be used in `auth` and `headers`."""
    users: Annotated[list[Text], Meta(max_length=MOST_USERS)] | None = None
    """The users of a shared secret; an empty list for all. None keeps those of the secret that is replaced."""


class DeleteSecret(Params, frozen=True, kw_only=True):
    """secrets.delete"""

    name: SecretName
    scope: Literal["own", "shared"] = "own"


class SecretInfo(Response, frozen=True, kw_only=True):
    """The public facts about a named secret; never its value.

    `users` of a shared one, and its `used_at`, are for administrators only. Without `allow_hosts` it
    may be sent anywhere, without `allow_in` be used in any input that takes secrets, and without
    `users` all may use it.
    """

    name: str
    scope: Literal["own", "shared"]
    allow_hosts: list[str]
    allow_in: list[str]
    users: list[str] | None
    created_at: str
    used_at: str | None


class Secrets(Response, frozen=True, kw_only=True):
    """The secrets that the user may use."""

    secrets: list[SecretInfo]


class SecretDeleted(Response, frozen=True, kw_only=True):
    """`deleted` is false if there was no such secret."""

    name: str
    scope: Literal["own", "shared"]
    deleted: bool


logger = logging.getLogger(__name__)


@method(
    "secrets.set",
    role=OPERATOR,
    answer=SecretInfo,
    rest=[Rest("setSecret", "PUT secrets/<name>/", errors=(errors.RoleTooLow,), rules={"required": ["value"]})],
    paths=[SYSTEM],
)
async def set_secret(caller: Caller, given: SetSecret) -> DataResult:
    """Store or replace a named secret, which tasks use as `{{secret.NAME}}`."""
    _require_admin(caller, given.scope)
    try:
        stored = await pools.write(
            stored_secrets.set_secret,
            caller=caller,
            name=given.name,
            value=Secret(given.value),
            scope=given.scope,
            allow_hosts=given.allow_hosts,
            allow_in=given.allow_in,
            users=given.users,
        )
    except MalformedSecret as error:
        raise InvalidParams([(error.field, error.message)]) from None
    logger.info("Stored the secret %s", given.name, extra={"event": "secret.stored", "secret": given.name})
    return DataResult(native=_native(stored, caller))


@method("secrets.list", role=VIEWER, answer=Secrets, rest=[Rest("listSecrets", "GET secrets/")], paths=[SYSTEM])
def list_secrets(caller: Caller, given: Nothing) -> DataResult:
    """List the named secrets that the user may use: names, hosts, and times; never values."""
    rows = named_secrets.list_secrets(user_id=caller.user_id, sees_all=caller.sees_all)
    return DataResult(native={"secrets": [_native(row, caller) for row in rows]})


@method(
    "secrets.delete",
    role=OPERATOR,
    answer=SecretDeleted,
    rest=[Rest("deleteSecret", "DELETE secrets/<name>/", errors=(errors.RoleTooLow,))],
    paths=[SYSTEM],
)
async def delete_secret(caller: Caller, given: DeleteSecret) -> DataResult:
    """Delete a named secret. Tasks that need it fail, unless they have read it already."""
    _require_admin(caller, given.scope)
    try:
        name = checked_name(given.name)
    except MalformedSecret as error:
        raise InvalidParams([(error.field, error.message)]) from None
    deleted = await pools.write(stored_secrets.delete_secret, caller=caller, name=name, scope=given.scope)
    logger.info("Deleted the secret %s", given.name, extra={"event": "secret.deleted", "secret": given.name})
    return DataResult(native={"name": given.name, "scope": given.scope, "deleted": deleted})


def _require_admin(caller: Caller, scope: str) -> None:
    """Raise RoleTooLow if the caller may not manage secrets of this scope."""
    if scope == "shared" and not caller.sees_all:
        raise RoleTooLow("Only administrators may manage shared secrets. Use the scope 'own' for your own ones.")


def _native(row: NamedSecret, caller: Caller) -> Json:
    is_shared = row.user_id == named_secrets.SHARED
    sees_use = caller.sees_all or not is_shared
    return {
        "name": row.name,
        "scope": "shared" if is_shared else "own",
        "allow_hosts": row.allow_hosts,
        "allow_in": row.inputs_allowed,
        "users": row.users if is_shared and caller.sees_all else None,
        "created_at": row.created_at.isoformat(),
        "used_at": row.used_at.isoformat() if sees_use and row.used_at else None,
    }
