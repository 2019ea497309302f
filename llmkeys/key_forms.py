"""The provider of a key, derived from the key's form."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from llmkeys.secret import Secret

#: How the keys of these providers begin. A longer beginning wins.
BEGINNINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "AIza": "gemini",
        "gsk_": "groq",
        "hf_": "huggingface",
        "pplx-": "perplexity",
        "sk-": "openai",
        "sk-ant-": "anthropic",
        "sk-or-": "openrouter",
        "xai-": "xai",
    }
)


class UnknownForm(Exception):
    """The form of a key does not show its provider. `message` says what to send, without the key."""

    def __init__(self) -> None:
        self.message = (
            "required: the form of this key does not show whose it is. Send the provider, such as openai or mistral"
        )
        super().__init__(self.message)


def provider_of_key(key: Secret) -> str:
    """Return the provider whose keys begin like this one. Raises UnknownForm."""
    fitting = [beginning for beginning in BEGINNINGS if key.reveal().startswith(beginning)]
    if not fitting:
        raise UnknownForm
    return BEGINNINGS[max(fitting, key=len)]
