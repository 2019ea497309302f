"""Calls of models through LiteLLM, whose answers arrive in chunks.

Imported only in worker processes, by `tasks.executors.llm.loading`.

The key is an argument of the single call that uses it. Nothing falls back to a key of the server:
`llmkeys.resolve` decides which key may be used, and where it may be sent.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from copy import deepcopy
from functools import partial
from importlib import import_module
from itertools import count
from typing import Any, Final

import httpx
import litellm
import openai
import orjson
from django.conf import settings
from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices

from aipartnerupflow.executors import ExecutorError, Json, Stopped
from aipartnerupflow.executors.functions import on_a_thread
from apflow_site.db import pools
from llmkeys.model_names import (
    RefusedModel,
    UnknownModel,
    name_for_litellm,
    provider_of,
    refuse_addresses,
    refuse_another_receiver,
    refuse_without_address,
)
from llmkeys.resolve import Credentials, MissingKey, credentials
from tasks.executors.http.safe_http import GuardedTransport, egress_of_tasks, judged_addresses, parse_url
from tasks.executors.llm import litellm_bounds
from tasks.executors.llm.attachments import sounds_in
from tasks.executors.llm.client import ignore
from tasks.executors.llm.errors import code_in, fault_of, not_taken, problem
from tasks.executors.llm.fallbacks import CONTEXT_LENGTH, REFUSAL, TIMEOUT, ModelError
from tasks.executors.llm.litellm_bounds import MODEL_LOOP, Heard
from tasks.executors.llm.prompt import Completion, Prompt
from tasks.executors.llm.rate_headers import rate_headers
from tasks.executors.llm.wire import WIRE, Watched, Wire
from tasks.telemetry import metrics, tracing

litellm_bounds.apply()
# LiteLLM would load its table of tokens with the first count, and a cancelled answer is not given the time for that.
import_module("litellm.litellm_core_utils.default_encoding")
for name in ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router"):
    logging.getLogger(name).handlers.clear()  # LiteLLM's log lines then go through our handlers, which mask keys

SILENCE_SECONDS: Final = 300.0
"""The seconds that a provider may be silent. `params.timeout_seconds` limits the whole task."""
CHUNKS_EACH_TURN: Final = 8
"""The number of chunks that have arrived together which are read in one turn of the event loop: each takes
LiteLLM half a millisecond.
"""
KINDS_OF_ERRORS: Final[Sequence[tuple[Any, str]]] = (
    (litellm.exceptions.ContextWindowExceededError, CONTEXT_LENGTH),
    (litellm.exceptions.ContentPolicyViolationError, REFUSAL),
    ((openai.APITimeoutError, httpx.TimeoutException), TIMEOUT),
)
"""The kinds of errors that LiteLLM knows by what providers write."""
NO_KEY: Final = "none"
"""The key for a provider that needs none. Without any key, LiteLLM would look for one in the environment.
"""
MAX_SAID: Final = 5_000
UNSUPPORTED: Final = re.compile(r"(?s).*?does not support parameters: \[([^\]]*)\].*")
NAMES: Final = re.compile(r"'(\w+)'")
PREFIXES: Final = re.compile(r"(litellm\.)?\w+(Error|Exception)( -|:) ?")
#: These run on the operator's machines, or use the identity of the machine: a client's own key must
#: not open them.
OF_THE_OPERATOR: Final = frozenset(
    """
    a2a a2a_agent aiohttp_openai bedrock bedrock_mantle chatgpt custom custom_openai docker_model_runner gdc github_copilot hosted_vllm
    infinity langflow langgraph lemonade litellm_proxy llamafile lm_studio microsoft_365_copilot oci ollama oobabooga openai_like petals
    ragflow sagemaker sagemaker_nova sap triton vertex_ai vllm xinference
    """.split()
)
MAX_PARTS: Final = 20_000
"""The number of chunks that an answer may have besides text: parts of tool calls."""

JOINED_AT_ONCE: Final = 20_000
"""Up to how many characters an answer is joined on the event loop."""


class Streamed:
    """Joins the texts as they come and keeps one chunk for all of them, since each takes kilobytes.

    `max_characters` limits the text. An answer that was not streamed is `whole`.
    """

    def __init__(self, *, max_characters: int) -> None:
        self.whole: Any = None
        self._max_characters = max_characters
        self._characters = 0
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._logprobs: list[Any] = []
        self._sample: Any = None
        self._usage: Any = None
        self._others: list[Any] = []

    def add(self, chunk: Any) -> str:
        """Keep what is needed of the chunk, and return its text. Raises ExecutorError above the limits."""
        text: str = (chunk.choices[0].delta.content or "") if chunk.choices else ""
        thought = thought_of(chunk)
        self._characters += len(text) + len(thought)
        if thought:
            self._thoughts.append(thought)
        self._logprobs += _logprobs_of(chunk)
        if not _is_plain(chunk):
            self._others.append(chunk)
        else:
            self._texts.append(text)
            if getattr(chunk, "usage", None):
                self._usage = chunk  # some providers send the usage so far with each token
            self._sample = self._sample or chunk
        if self._characters > self._max_characters or len(self._others) > MAX_PARTS:
            raise ExecutorError(
                f"The answer was stopped: it has more than the {self._max_characters:,} characters that limits.result_bytes "
                f"allows, or more than {MAX_PARTS:,} parts of tool calls. Limit it with `max_tokens`.",
                permanent=True,
            )
        return text

    @property
    def has_begun(self) -> bool:
        return bool(self.whole or self._sample or self._others)

    @property
    def is_counted(self) -> bool:
        """Whether the provider has counted the tokens, of an answer that is joined at once."""
        return self._usage is not None and self._characters <= JOINED_AT_ONCE

    @property
    def reasoning(self) -> str:
        """The thoughts of the model before its answer, if the provider sends them."""
        return "".join(self._thoughts)

    @property
    def logprobs(self) -> list[Any]:
        """The tokens with their probabilities, if the provider was asked for them."""
        return self._logprobs if self.whole is None else _logprobs_of(self.whole)

    def chunks(self) -> list[Any]:
        """Return chunks that amount to those that came. They are copies, since LiteLLM counts its own."""
        usage = [] if self._usage is None else [_with_text(self._usage, None)]
        texts = [] if self._sample is None else [_with_text(self._sample, "".join(self._texts))]
        return [*texts, *self._others, *usage]


def _is_plain(chunk: Any) -> bool:
    """Return whether the chunk has nothing but text, or the usage."""
    if not chunk.choices:
        return bool(getattr(chunk, "usage", None))
    return not _calls_a_tool(chunk) and chunk.choices[0].finish_reason is None


def _calls_a_tool(chunk: Any) -> bool:
    delta = chunk.choices[0].delta if chunk.choices else None
    return bool(getattr(delta, "tool_calls", None) or getattr(delta, "function_call", None))


def thought_of(chunk: Any) -> str:
    return (getattr(chunk.choices[0].delta, "reasoning_content", None) or "") if chunk.choices else ""


def _logprobs_of(chunk: Any) -> list[Any]:
    logprobs = getattr(chunk.choices[0], "logprobs", None) if chunk.choices else None
    content = logprobs.get("content") if isinstance(logprobs, dict) else getattr(logprobs, "content", None)
    return [each if isinstance(each, dict) else each.model_dump(mode="json") for each in content or ()]


def _with_text(chunk: Any, text: str | None) -> Any:
    copy = deepcopy(chunk)
    if copy.choices:
        copy.choices[0].delta.content = text
    return copy


async def ask(
    prompt: Prompt,
    *,
    heard: Callable[[str], None],
    spent: Callable[[Json], None],
    thought: Callable[[str], None] = ignore,
) -> Completion:
    """Call the model; pass the answer to `heard` and its reasoning to `thought` as they arrive, and the usage to `spent` in any
    case.

    If cancelled, it ends the request and raises Stopped with the answer so far. Raises
    ExecutorError.
    """
    granted = await access(prompt)
    streamed = Streamed(max_characters=settings.APFLOW.limits.result_bytes)
    wire = Wire(sounds=sounds_in(prompt.messages), span=tracing.here())
    said = Heard(heard, thought)
    failure: Exception | None = None
    try:
        await MODEL_LOOP.run(partial(_listen, prompt, granted, streamed, said.add, wire))
    except (openai.OpenAIError, httpx.HTTPError) as error:
        # A new error, because the text of these may contain what was sent, and the engine may log
        # the chain.
        failure = _problem(error, prompt, granted, wire)
    except ExecutorError as error:
        failure = error
    except asyncio.CancelledError:
        failure = Stopped()
        if text := wire.merger.text:
            choice = StreamingChoices(index=0, delta=Delta(content=text))  # as LiteLLM makes of a part with text only
            heard(streamed.add(ModelResponseStream(model=prompt.model, choices=[choice])))
    work = partial(_answer, prompt, streamed, wire)
    # Where a provider does not count its tokens, they are counted here, which may take seconds.
    answer = work() if streamed.is_counted else await asyncio.wrap_future(on_a_thread(work, name="answer of a model"))
    if isinstance(failure, Stopped):
        failure.result = answer.as_result()
    if streamed.has_begun and not wire.is_silent:
        metrics.llm_used(granted.provider, prompt.model, answer.usage)
        spent(answer.usage)
    key = granted.api_key.reveal() if granted.api_key else None
    failure = failure or fault_of(answer, wire, provider=granted.provider, model=prompt.model, key=key)
    tracing.note({"gen_ai.provider.name": granted.provider, **wire.server})
    if failure is not None:
        tracing.note({tracing.ERROR: _kind_of(failure, wire)})
        raise failure
    return answer


def takes_json(model: str) -> bool:
    """Return whether a model is known to answer with JSON only when it is asked to."""
    return litellm.supports_response_schema(model)


async def _listen(
    prompt: Prompt, granted: Credentials, streamed: Streamed, said: Callable[[str, str], None], wire: Wire
) -> None:
    WIRE.set(wire)
    async with AsyncExitStack() as stack:
        request = await _request(prompt, granted, stack)
        if prompt.streams:
            try:
                async for chunk in _chunks(request):
                    words = streamed.add(chunk), thought_of(chunk)
                    if any(words) or _calls_a_tool(chunk):
                        said(*words)
                return
            except (openai.OpenAIError, httpx.HTTPError):
                if wire.whole is None:
                    raise
        streamed.whole = await litellm.acompletion(**request)
        said(streamed.whole.choices[0].message.content or "", "")


async def _chunks(request: Mapping[str, Any]) -> AsyncIterator[Any]:
    stream = await litellm.acompletion(**request, stream=True, stream_options={"include_usage": True})
    numbers = count(1)
    is_finished = False
    async with aclosing(stream):  # otherwise a cancelled request continues until it is garbage-collected
        async for chunk in stream:
            yield chunk
            is_finished |= bool(chunk.choices and chunk.choices[0].finish_reason)
            chunks = getattr(stream, "chunks", []) if is_finished else []
            counted = [each for each in chunks if getattr(each, "usage", None)]
            if len(counted) == 1 and counted[0] is chunks[-1]:
                yield counted[0].model_copy(update={"choices": []})
                return  # the usage came once, as the last thing; LiteLLM would build and count the answer twice
            if next(numbers) % CHUNKS_EACH_TURN == 0:
                await asyncio.sleep(0)  # what has arrived already does not let others go on


async def access(prompt: Prompt) -> Credentials:
    """Return the credentials for the prompt's model.

    Raises ExecutorError if the model or its key is unavailable.

    For a refused model no key is looked up.
    """
    try:
        refuse_addresses(prompt.model)
        provider = provider_of(prompt.model)
        refuse_another_receiver(prompt.model, provider)
        granted = await pools.read(
            credentials,
            run_id=prompt.run_id,
            user_id=prompt.user_id,
            provider=provider,
            wants_api_base=prompt.api_base,
        )
        if granted.api_base is None:
            refuse_without_address(prompt.model, provider)
    except (RefusedModel, UnknownModel, MissingKey) as error:
        tracing.note({tracing.ERROR: type(error).__name__})
        raise ExecutorError(error.message, permanent=True) from None
    is_given_by_operator = granted.source in ("environment", "none") or (granted.api_base and not prompt.api_base)
    if provider in OF_THE_OPERATOR and not is_given_by_operator:
        raise ExecutorError(
            f"{provider} runs on the operator's machines, or with the operator's identity, so your own key cannot be used. "
            f"The operator may set llm.api_base.{provider}, or a key in the server's environment.",
            permanent=True,
        )
    return granted


async def _request(prompt: Prompt, granted: Credentials, stack: AsyncExitStack) -> Json:
    """Return the arguments for LiteLLM. Resources that they need are closed with the stack.

    A user's own address gets a client that does not lead into the operator's network. Raises ExecutorError.
    """
    key = granted.api_key.reveal() if granted.api_key else NO_KEY
    request = {
        "model": name_for_litellm(prompt.model, granted.provider),
        "messages": prompt.messages,
        "api_key": key,
        "max_retries": 0,
        "timeout": SILENCE_SECONDS,
        **prompt.options,
    }
    if granted.api_base:
        request["api_base"] = granted.api_base
    if not prompt.api_base:
        return request
    if granted.provider != "openai":
        raise ExecutorError(
            f"`params.api_base` is for services with OpenAI's API: name the model openai/…, not {granted.provider}/….",
            permanent=True,
        )
    egress = egress_of_tasks()
    await judged_addresses(parse_url(prompt.api_base), egress=egress)
    transport = Watched(GuardedTransport(verify=True, egress=egress), is_foreign=True)
    http = await stack.enter_async_context(httpx.AsyncClient(transport=transport, trust_env=False))
    request["client"] = openai.AsyncOpenAI(
        api_key=key, base_url=prompt.api_base, http_client=http, max_retries=0, timeout=SILENCE_SECONDS
    )
    return request


def _answer(prompt: Prompt, streamed: Streamed, wire: Wire) -> Completion:
    """Join the chunks. Tokens that the provider does not count are counted here."""
    whole = None if wire.is_silent else streamed.whole
    if whole is None and not wire.is_silent and (chunks := streamed.chunks()):
        whole = litellm.stream_chunk_builder(chunks, messages=list(prompt.messages))
    if whole is None:
        return Completion(content=None, model=prompt.model, usage=_usage(prompt, None))
    message = whole.choices[0].message
    finish_reason = "length" if wire.has_reached_length else whole.choices[0].finish_reason
    return Completion(
        content=message.content,
        model=whole.model or prompt.model,
        usage=_usage(prompt, whole),
        tool_calls=[call.model_dump(mode="json") for call in message.tool_calls or ()],
        finish_reason=None if wire.is_cut else finish_reason,
        reasoning=streamed.reasoning or getattr(message, "reasoning_content", None),
        citations=wire.citations,
        provider_id=wire.answer_id,
        logprobs=streamed.logprobs,
        rate_headers=rate_headers(wire.headers),
    )


def _usage(prompt: Prompt, whole: Any) -> Json:
    """Return the counts and the cost, which is None for a model whose price is unknown."""
    usage = getattr(whole, "usage", None)
    try:
        cost = litellm.completion_cost(completion_response=whole, model=prompt.model) if usage else None
    except Exception:  # noqa: BLE001  (it raises nothing more exact for a model that is not in its table)
        cost = None
    return {
        "prompt_tokens": getattr(usage, "prompt_tokens", 0),
        "completion_tokens": getattr(usage, "completion_tokens", 0),
        "total_tokens": getattr(usage, "total_tokens", 0),
        "cached_tokens": _part(usage, "prompt_tokens_details", "cached_tokens"),
        "reasoning_tokens": _part(usage, "completion_tokens_details", "reasoning_tokens"),
        "cost_usd": None if cost is None else round(cost, 10),
    }


def _part(usage: Any, details: str, name: str) -> int:
    return getattr(getattr(usage, details, None), name, None) or 0


def _problem(error: Exception, prompt: Prompt, granted: Credentials, wire: Wire) -> ExecutorError:
    key = granted.api_key.reveal() if granted.api_key else None
    if isinstance(error, litellm.exceptions.UnsupportedParamsError):
        return not_taken(prompt.model, NAMES.findall(UNSUPPORTED.sub(r"\1", str(error))))
    broke = getattr(error, "original_exception", None) or error  # LiteLLM wraps what breaks a stream
    kind = next((kind for classes, kind in KINDS_OF_ERRORS if isinstance(broke, classes)), "")
    if fault := fault_of(None, wire, provider=granted.provider, model=prompt.model, key=key):
        fault.kind = kind or fault.kind
        return fault
    response = getattr(error, "response", None)
    headers = wire.headers or getattr(response, "headers", None) or {}
    # LiteLLM calls errors that it does not know 500.
    status = wire.status if (wire.status or 0) >= 400 else getattr(error, "status_code", None)
    is_no_answer = isinstance(broke, litellm.exceptions.APIConnectionError) or (status == 500 and not headers)
    if wire.is_stream and wire.status is not None and wire.status < 400 and (status or 0) >= 500:
        is_no_answer = True  # the provider has begun to answer, so 5xx is LiteLLM's word for what broke
    return problem(
        None if is_no_answer else status,
        provider=granted.provider,
        model=prompt.model,
        headers=headers,
        said=_said(error),
        key=key,
        code=code_in(wire.body),
        kind=kind,
    )


def _kind_of(failure: Exception, wire: Wire) -> str:
    """Return the `error.type` of a failed call: the provider's status, or our word for what happened."""
    if isinstance(failure, Stopped):
        return "cancelled"
    if (wire.status or 0) >= 400:
        return str(wire.status)
    kind = failure.kind if isinstance(failure, ModelError) else ""
    return kind or "invalid_request"


def _said(error: Exception) -> str:
    """Return the provider's or LiteLLM's own error message, without LiteLLM's prefixes."""
    body = getattr(error, "body", None)
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    # The pattern would take long for a long run of letters.
    text = PREFIXES.sub("", str(error)[:MAX_SAID]).strip()
    try:
        return str(orjson.loads(text)["error"]["message"])
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return text
