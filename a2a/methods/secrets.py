"""Methods of `POST /system` for named secrets. No method returns a value."""

import logging

from a2a.methods import params
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from llmkeys import named_secrets
from llmkeys.models import NamedSecret
from llmkeys.secret import Secret
from llmkeys.secret_forms import MalformedSecret, checked_name
from tasks.rules.exceptions import InvalidParams, RoleTooLow
from tasks.rules.strict_json import Json
from tasks.services.secrets import stored_secrets

logger = logging.getLogger(__name__)


async def set_secret(caller: Caller, given: params.SetSecret) -> DataResult:
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


def list_secrets(caller: Caller, given: params.Nothing) -> DataResult:
    """List the named secrets that the user may use: names, hosts, and times; never values."""
    rows = named_secrets.list_secrets(user_id=caller.user_id, sees_all=caller.sees_all)
    return DataResult(native={"secrets": [_native(row, caller) for row in rows]})


async def delete_secret(caller: Caller, given: params.DeleteSecret) -> DataResult:
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
