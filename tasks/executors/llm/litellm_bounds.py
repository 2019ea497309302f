"""Keep LiteLLM from what a worker of many users cannot afford: fetches on the event loop, kept keys.

Imported before the first call. Each change is one that LiteLLM has no setting for, or its setting.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import wraps
from importlib.metadata import version
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
    """Change LiteLLM for this process. Raises RuntimeError for a version that has not what is to be changed."""
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.disable_streaming_logging = True  # it would build and count each answer once more
    # Otherwise it downloads one on the event loop, to count tokens that a provider did not count.
    litellm.disable_hf_tokenizer_download = True
    # For a model of some providers it would download a Jinja template from the repository of that
    # name, which anyone can create, and render it on the event loop. LiteLLM then uses its default.
    for name in ("get_tokenizer_config", "get_chat_template_file"):
        replace_undocumented(templates, name, lambda _: _not_fetched)
        replace_undocumented(templates, f"a{name}", lambda _: _not_fetched_async)
    litellm.in_memory_llm_clients_cache = ClientsOfOneCall()
    replace_undocumented(AsyncHTTPHandler, "create_client", _watched)
    replace_undocumented(BaseOpenAILLM, "_get_async_http_client", lambda create: staticmethod(_watched(create)))
    _spare_records()


def _spare_records() -> None:
    """Do without the record that LiteLLM makes of each call, for callbacks that there are none of, and the cost that it computes before
    there is an answer, from a count of the prompt's tokens. Both take a third of the time of a call.

    LiteLLM 1.110 has no setting for it: `disable_streaming_logging` is for plain calls only, and `no-log` is asked for each callback, after
    the record is made.
    """
    replace_undocumented(Logging, "async_success_handler", lambda _: _nothing_async)
    replace_undocumented(Logging, "response_cost_calculator", lambda _: _nothing)


def replace_undocumented(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace what LiteLLM does not document, by what `make` returns for it. Raises RuntimeError if it is not there."""
    if not callable(replaced := getattr(owner, name, None)):
        raise RuntimeError(
            f"LiteLLM {version('litellm')} has no {owner.__name__}.{name}, which has to be replaced. Install the version that "
            "requirements/all.txt names."
        )
    setattr(owner, name, make(replaced))


def _watched(create: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes the same clients, whose responses are looked at."""

    @wraps(create)
    def watched(*arguments: Any, **options: Any) -> Any:
        return watch(create(*arguments, **options))

    return watched


async def _nothing_async(*_: Any, **__: Any) -> None:
    return None


def _nothing(*_: Any, **__: Any) -> None:
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
