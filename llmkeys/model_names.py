"""Whose model a name means, by LiteLLM's own tables. Import it in worker processes only: LiteLLM takes seconds and 200 MB."""

import os
from functools import lru_cache

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import fetches a price list
import litellm

from llmkeys.providers import known_providers, normal_name


class UnknownModel(Exception):
    """LiteLLM cannot tell the provider of a model."""

    def __init__(self, model: str) -> None:
        self.message = (
            f"The provider of the model {model[:200]!r} is not known. Name it before a slash, such as 'openai/gpt-4o'."
        )
        super().__init__(self.message)


@lru_cache(maxsize=1000)
def provider_of(model: str) -> str:
    """The provider by the name under which keys are kept. Raises UnknownModel."""
    prefix, slash, _ = model.partition("/")
    if slash and normal_name(prefix) in known_providers():
        return normal_name(prefix)
    silent, litellm.suppress_debug_info = litellm.suppress_debug_info, True  # else it prints an advertisement
    try:
        return normal_name(litellm.get_llm_provider(model)[1])
    except litellm.exceptions.BadRequestError:
        raise UnknownModel(model) from None
    finally:
        litellm.suppress_debug_info = silent
