"""Resolve which key a call of a language model uses, and where that key may be sent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Final, Literal, cast

from llmkeys import keys, run_secrets
from llmkeys.cipher import CannotUnseal
from llmkeys.models import RunSecret
from llmkeys.providers import HEADER, KEYLESS, environment_key, environment_variables, normal_name, operator_addresses
from llmkeys.secret import Secret

Source = Literal["request", "user", "environment", "none"]
OWN_ADDRESS_NEEDS_OWN_KEY: Final = (
    "Your own api_base requires your own key: the server's keys are only sent to the provider."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The address and the key of a provider.

    `api_base` is None for its own address, `api_key` if it needs none.
    """

    provider: str
    api_key: Secret | None
    api_base: str | None
    source: Source


class MissingKey(Exception):
    """There is no key that may be used. `message` says what to do."""

    def __init__(self, provider: str, *, why: str = "") -> None:
        self.provider = provider
        variable = " or ".join(environment_variables(provider))
        self.message = (
            f"No API key for the provider '{provider}'. {why}{' ' if why else ''}Send the header "
            f"'{HEADER}: {provider}:<key>' with the request, store a key with `aipartnerupflow keys set {provider}`, "
            f"or set {variable} where the server's workers start."
        )
        super().__init__(self.message)


class AmbiguousKey(MissingKey):
    """The request's key names no provider, and the run has models of several."""


class UnreadableKey(MissingKey):
    """There is a key, but it cannot be decrypted."""


def credentials(*, run_id: str, user_id: str, provider: str, wants_api_base: str | None = None) -> Credentials:
    """Return the key of the request, else the user's stored key, else the server's own.

    Only in worker processes.

    Sync; call it by `apflow_site.db.pools.read`. It sometimes records a use, but it may import
    LiteLLM, which takes seconds, so it must not run in a transaction that has written.
    `wants_api_base` is an address that the task asks for; the caller must use the guarded client
    for it. Raises MissingKey or one of its subclasses.
    """
    provider = normal_name(provider)
    address = operator_addresses().get(provider)
    try:
        found = _own_key(run_id, user_id, provider)
    except CannotUnseal as sealed:
        raise UnreadableKey(provider, why=f"The stored key cannot be decrypted: {sealed}") from None
    if found is not None:
        key, source = found
        return Credentials(provider=provider, api_key=key, api_base=wants_api_base or address, source=source)
    if wants_api_base is not None:
        raise MissingKey(provider, why=OWN_ADDRESS_NEEDS_OWN_KEY)
    if (server_key := environment_key(provider)) is not None:
        return Credentials(provider=provider, api_key=server_key, api_base=address, source="environment")
    if address is not None and provider in KEYLESS:
        return Credentials(provider=provider, api_key=None, api_base=address, source="none")
    raise MissingKey(provider)


def _own_key(run_id: str, user_id: str, provider: str) -> tuple[Secret, Source] | None:
    sent = run_secrets.find(run_id)
    if sent is not None and _is_meant_for(provider, sent):
        return run_secrets.opened(sent), "request"
    stored = keys.use_key(user_id=user_id, provider=provider)
    return None if stored is None else (stored, "user")


def _is_meant_for(provider: str, sent: RunSecret) -> bool:
    """Return whether the key is for the provider.

    Raises AmbiguousKey rather than choose one of several providers.
    """
    if sent.provider is not None:
        return sent.provider == provider
    providers = {provider, *_providers_of(sent.model_names)}
    if len(providers) > 1:
        named = ", ".join(sorted(providers))
        raise AmbiguousKey(
            provider, why=f"The key of the request names no provider, and this tree uses several: {named}."
        )
    return True


def _providers_of(model_names: Sequence[str]) -> set[str]:
    """Return the providers of the names; a text that is not the name of a model has none."""
    if not model_names:
        return set()
    models = import_module("llmkeys.model_names")  # imported on demand, since it imports LiteLLM
    provider_of = cast("Callable[[str], str]", models.provider_of)
    providers = set()
    for name in model_names:
        try:
            providers.add(provider_of(name))
        except models.UnknownModel:
            continue
    return providers
