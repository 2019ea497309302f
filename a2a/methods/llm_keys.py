"""Methods of `POST /system` for the LLM keys of users. No method returns a key."""

from typing import Annotated

from msgspec import Meta

from a2a.core.parsing import Params, Text
from a2a.methods.method import OPERATOR, SYSTEM, VIEWER, Response, Rest, method
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from llmkeys import keys
from llmkeys.providers import (
    MAX_CHARACTERS,
    MalformedKey,
    UnknownForm,
    UnknownProvider,
    provider_named,
    provider_of_key,
)
from llmkeys.secret import Secret
from tasks.rules import exceptions as errors
from tasks.rules.exceptions import InvalidParams, RoleTooLow
from tasks.services.secrets import stored_secrets


class SetLLMKey(Params, frozen=True, kw_only=True):
    """config.llm_key.set"""

    api_key: Annotated[str, Meta(min_length=1, max_length=MAX_CHARACTERS)]
    provider: Text | None = None
    """The provider of the key; None derives it from the key's form, where that is unmistakable."""
    user_id: Text | None = None


class GetLLMKey(Params, frozen=True, kw_only=True):
    """config.llm_key.get"""

    provider: Text | None = None
    user_id: Text | None = None


class DeleteLLMKey(Params, frozen=True, kw_only=True):
    """config.llm_key.delete"""

    provider: Text
    user_id: Text | None = None


class LLMKeyStored(Response, frozen=True, kw_only=True):
    """The stored key. `last_four` is empty for a short key."""

    success: bool
    user_id: str
    provider: str
    last_four: str


class LLMKeyInfo(Response, frozen=True, kw_only=True):
    """The public facts about a stored key."""

    provider: str
    last_four: str
    created_at: str
    used_at: str | None


class LLMKeys(Response, frozen=True, kw_only=True):
    """The keys of a user, or that for one provider.

    `providers` has the last four characters of all keys.
    """

    has_key: bool
    user_id: str
    provider: str | None
    providers: dict[str, str]
    keys: list[LLMKeyInfo]


class LLMKeyDeleted(Response, frozen=True, kw_only=True):
    """`deleted` is false if there was no key."""

    success: bool
    user_id: str
    provider: str
    deleted: bool


@method(
    "config.llm_key.set",
    role=OPERATOR,
    answer=LLMKeyStored,
    rest=[Rest("setLLMKey", "PUT llm-keys/<provider>/", errors=(errors.RoleTooLow,), rules={"required": ["api_key"]})],
    paths=[SYSTEM],
)
async def set_key(caller: Caller, given: SetLLMKey) -> DataResult:
    """Store or replace the key for an LLM provider.

    Runs of the user's tasks use it; A2A Tasks that wait for it resume.
    """
    user_id = _owner(caller, given.user_id)
    try:
        key = Secret(given.api_key)
        provider = given.provider or provider_of_key(key)
        stored = await pools.write(
            stored_secrets.set_llm_key, caller=caller, user_id=user_id, provider=provider, key=key
        )
    except (UnknownProvider, UnknownForm) as error:
        raise InvalidParams([("provider", error.message)]) from None
    except MalformedKey as error:
        raise InvalidParams([("api_key", error.message)]) from None
    return DataResult(
        native={
            "success": True,
            "user_id": user_id,
            "provider": stored.provider,
            "last_four": stored.last_four,
        }
    )


@method(
    "config.llm_key.get",
    role=VIEWER,
    answer=LLMKeys,
    rest=[Rest("listLLMKeys", "GET llm-keys/", errors=(errors.RoleTooLow,))],
    paths=[SYSTEM],
)
def get_keys(caller: Caller, given: GetLLMKey) -> DataResult:
    """List stored LLM keys: provider, last four characters, and time of the last use."""
    user_id = _owner(caller, given.user_id)
    provider = None if given.provider is None else _known(given.provider)
    stored = keys.list_keys(user_id=user_id)
    meant = [key for key in stored if provider in (None, key.provider)]
    return DataResult(
        native={
            "has_key": bool(meant),
            "user_id": user_id,
            "provider": provider,
            "providers": {key.provider: f"…{key.last_four}" for key in stored},
            "keys": [
                {
                    "provider": key.provider,
                    "last_four": key.last_four,
                    "created_at": key.created_at.isoformat(),
                    "used_at": None if key.used_at is None else key.used_at.isoformat(),
                }
                for key in meant
            ],
        }
    )


@method(
    "config.llm_key.delete",
    role=OPERATOR,
    answer=LLMKeyDeleted,
    rest=[Rest("deleteLLMKey", "DELETE llm-keys/<provider>/", errors=(errors.RoleTooLow,))],
    paths=[SYSTEM],
)
async def delete_key(caller: Caller, given: DeleteLLMKey) -> DataResult:
    """Delete the key for an LLM provider. Runs that have started may still use it."""
    user_id, provider = _owner(caller, given.user_id), _known(given.provider)
    deleted = await pools.write(stored_secrets.delete_llm_key, caller=caller, user_id=user_id, provider=provider)
    return DataResult(native={"success": True, "user_id": user_id, "provider": provider, "deleted": deleted})


def _owner(caller: Caller, named: str | None) -> str:
    """Return the owner of the keys. Raises RoleTooLow for another user, whether that user exists or not."""
    if named in (None, caller.user_id) or caller.sees_all:
        return named or caller.user_id
    raise RoleTooLow("Only administrators may manage the LLM keys of other users. Omit user_id for your own keys.")


def _known(provider: str) -> str:
    """Return the canonical name of the provider. Raises InvalidParams if it is unknown."""
    try:
        return provider_named(provider)
    except UnknownProvider as error:
        raise InvalidParams([("provider", error.message)]) from None
