"""Keep LiteLLM from what a worker of many users cannot afford: fetches on the event loop, kept keys.

Imported before the first call. Each change is one that LiteLLM has no setting for, or its setting.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final

import litellm
from litellm.caching.llm_caching_handler import LLMClientCache
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.litellm_core_utils.prompt_templates import huggingface_template_handler as templates
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
from litellm.llms.openai.common_utils import BaseOpenAILLM

from tasks.executors.llm.wire import watch

NOT_FETCHED: Final = {"status": "failure"}
_MADE: Final[ContextVar[list[Any] | None]] = ContextVar("clients made by LiteLLM in this call", default=None)


def apply() -> None:
    """Change LiteLLM for this process."""
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.disable_streaming_logging = True  # it would build and count each answer once more
    # It would compute costs and a record for callbacks, which there are none of: more than half of the time of a call.
    Logging.dispatch_success_handlers = _nothing_logged  # type: ignore[method-assign]
    # Otherwise it downloads one on the event loop, to count tokens that a provider did not count.
    litellm.disable_hf_tokenizer_download = True
    # For a model of some providers it would download a Jinja template from the repository of that
    # name, which anyone can create, and render it on the event loop. LiteLLM then uses its default.
    templates.get_tokenizer_config = templates.get_chat_template_file = _not_fetched
    templates.aget_tokenizer_config = templates.aget_chat_template_file = _not_fetched_async
    litellm.in_memory_llm_clients_cache = ClientsOfOneCall()
    AsyncHTTPHandler.create_client = _watched(AsyncHTTPHandler.create_client)  # type: ignore[method-assign]
    get_client = BaseOpenAILLM._get_async_http_client
    BaseOpenAILLM._get_async_http_client = staticmethod(_watched(get_client))  # type: ignore[method-assign]


def _watched(create: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes the same clients, whose responses are looked at."""

    @wraps(create)
    def watched(*arguments: Any, **options: Any) -> Any:
        return watch(create(*arguments, **options))

    return watched


async def _nothing_logged(self: Logging, *_: Any, **__: Any) -> None:
    return None


def _not_fetched(hf_model_name: str) -> Any:
    return NOT_FETCHED


async def _not_fetched_async(hf_model_name: str) -> Any:
    return NOT_FETCHED


class ClientsOfOneCall(LLMClientCache):
    """LiteLLM's cache of clients, without those that hold a key: LiteLLM keeps them for an hour."""

    def set_cache(
        self, key: str, value: Any, litellm_owned_client: bool = False, loop_bound: bool = True, **options: Any
    ) -> Any:
        if not hasattr(value, "api_key"):
            return super().set_cache(key, value, litellm_owned_client, loop_bound, **options)
        if litellm_owned_client and (made := _MADE.get()) is not None:
            made.append(value)
        return None


@asynccontextmanager
async def clients_of_one_call() -> AsyncIterator[None]:
    """Close the clients that LiteLLM makes while it is entered."""
    made: list[Any] = []
    token = _MADE.set(made)
    try:
        yield
    finally:
        _MADE.reset(token)
        for client in made:
            if (closing := client.close()) is not None:  # of an async client
                await closing
