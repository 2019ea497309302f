"""The provider of a model name, by LiteLLM's tables.

Import it only in workers: LiteLLM takes seconds and 200 MB.
"""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # otherwise the import fetches a price list
import litellm

from llmkeys.providers import PROVIDERS, known_providers, normal_name

#: LiteLLM builds addresses from names, and treats some names as addresses: these characters would
#: redirect the key.
ADDRESS: Final = re.compile(r"://|[\s\\?#\x00-\x1f\x7f-\x9f]|(?:^|/)\.\.(?:/|$)")
#: Querying LiteLLM about their models starts a login on a device.
LOG_IN_WHEN_ASKED: Final = frozenset({"chatgpt", "github_copilot"})
#: LiteLLM would call these under their own names at the address of OpenAI.
CALLED_AS: Final[Mapping[str, str]] = MappingProxyType({"ai21": "ai21_chat"})
#: LiteLLM calls these at the address of OpenAI if they have none. A test compares.
WITHOUT_ADDRESS: Final = frozenset(
    {"aiohttp_openai", "custom_openai", "hosted_vllm", "litellm_proxy", "lm_studio", "xinference"}
)


class UnknownModel(Exception):
    """LiteLLM cannot tell the provider of a model."""

    def __init__(self, model: str) -> None:
        self.message = (
            f"The provider of the model {model[:200]!r} is not known. Name it before a slash, such as 'openai/gpt-4o'."
        )
        super().__init__(self.message)


class RefusedModel(Exception):
    """The model name would send the key to another receiver than its provider."""

    def __init__(self, model: str, why: str) -> None:
        self.message = f"The model {model[:200]!r} is refused: {why}"
        super().__init__(self.message)


def refuse_addresses(model: str) -> None:
    """Raise RefusedModel for a name that could become an address, also if written as `%2e%2e`."""
    prefix, slash, rest = model.partition("/")
    name = rest if slash and normal_name(prefix) in known_providers() else model
    if ADDRESS.search(name) or ADDRESS.search(unquote(name)):
        raise RefusedModel(
            model,
            "a name has no '://', '..', backslash, '?', '#', white space or control character. An address is `params.api_base`.",
        )


def name_for_litellm(model: str, provider: str) -> str:
    """Return the model name for LiteLLM.

    A provider that only the operator has configured is called like OpenAI.
    """
    prefix, slash, rest = model.partition("/")
    if slash and prefix in CALLED_AS:
        return f"{CALLED_AS[prefix]}/{rest}"
    if not slash or prefix in PROVIDERS:
        return model
    return f"{provider}/{rest}" if provider in PROVIDERS else f"openai/{rest}"


@lru_cache(maxsize=1000)
def refuse_another_receiver(model: str, provider: str) -> None:
    """Raise RefusedModel if LiteLLM would send the key to another provider.

    It takes some names of Azure for OpenAI's. Raises UnknownModel.
    """
    if provider not in PROVIDERS - LOG_IN_WHEN_ASKED:
        return
    receiver = _by_litellm(name_for_litellm(model, provider))
    if receiver != provider:
        raise RefusedModel(
            model,
            f"LiteLLM would send it to {receiver}, with the key for {provider}. Name the model {receiver}/…, or choose another.",
        )


def refuse_without_address(model: str, provider: str) -> None:
    """Raise RefusedModel if LiteLLM knows no address for the provider, and would use OpenAI's."""
    if provider in WITHOUT_ADDRESS and not litellm.get_llm_provider(name_for_litellm(model, provider))[3]:
        raise RefusedModel(
            model,
            f"{provider} has no address of its own, so LiteLLM would send the key to OpenAI. "
            f"The operator may set llm.api_base.{provider}.",
        )


@lru_cache(maxsize=1000)
def provider_of(model: str) -> str:
    """Return the provider, by the name under which keys are stored. Raises UnknownModel."""
    prefix, slash, _ = model.partition("/")
    if slash and normal_name(prefix) in known_providers():
        return normal_name(prefix)
    return _by_litellm(model)


def _by_litellm(model: str) -> str:
    """Ask LiteLLM for the provider. Raises UnknownModel."""
    silent, litellm.suppress_debug_info = litellm.suppress_debug_info, True  # otherwise it prints an advertisement
    try:
        return normal_name(litellm.get_llm_provider(model)[1])
    except litellm.exceptions.BadRequestError:
        raise UnknownModel(model) from None
    finally:
        litellm.suppress_debug_info = silent
