"""Clients for OpenAI's API whose calls the server makes: with the LLM key of the run, its budget, and a record of each.

    model = ChatOpenAI(model="gpt-4o-mini", **run_clients())

The code that has such a client never sees the key. A name with a provider, such as `anthropic/claude-sonnet-4-5`, calls a model of
that provider.
"""

import asyncio
from collections.abc import Iterator
from typing import Final

import httpx
import orjson

from aipartnerupflow.executors import ExecutorError, Json, Stopped
from aipartnerupflow.executors.current import Current, current

CHAT: Final = "/chat/completions"
MARK: Final = "aipartnerupflow"
"""The `system_fingerprint` of the answers: the server has recorded these calls."""
NO_KEY: Final = "the-key-of-the-run"
STREAM_FIELDS: Final = ("stream", "stream_options")


def run_clients() -> Json:
    """Return the arguments of `ChatOpenAI`, and of others that take `api_key`, `http_client` and `http_async_client`.

    For `openai.AsyncOpenAI`, pass `http_client=run_clients()["http_async_client"]`. The clients may be made when a module is
    imported. They call models only while a task is at work.
    """
    return {
        "api_key": NO_KEY,
        "http_client": httpx.Client(transport=_Transport()),
        "http_async_client": httpx.AsyncClient(transport=_AsyncTransport()),
    }


class _Transport(httpx.BaseTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        task = current()
        try:
            return task.wait(_answer(request.url.path, request.read(), task))
        except RuntimeError as error:
            return _failure(task, ExecutorError(str(error), permanent=True))


class _AsyncTransport(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        task = current()
        return await task.run(_answer(request.url.path, await request.aread(), task))


async def _answer(path: str, body: bytes, task: Current) -> httpx.Response:
    if not path.endswith(CHAT):
        text = f"Only {CHAT} is called with the key of the run, not {path}. Leave out use_responses_api, embeddings and files."
        return _failure(task, ExecutorError(text, permanent=True))
    asked: Json = orjson.loads(body)
    streams, include = (asked.pop(name, None) for name in STREAM_FIELDS)
    agent, step = task.caller()
    model = asked.pop("model")
    try:
        answer = await task.context.llm(
            asked.pop("messages"),
            model=model if "/" in model else f"openai/{model}",
            tools=asked.pop("tools", None) or (),
            agent=agent,
            step=step,
            **asked,
        )
    except Stopped:
        raise asyncio.CancelledError from None  # clients would repeat the call after any other
    except ExecutorError as error:
        return _failure(task, error)
    if streams:
        head = {"content-type": "text/event-stream"}
        events = _events(answer, includes_usage=bool((include or {}).get("include_usage")))
        return httpx.Response(200, headers=head, content=b"".join(events))
    message = {"role": "assistant", "content": answer["content"]}
    if calls := _calls(answer):
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "finish_reason": answer["finish_reason"]}
    whole = _head(answer, "chat.completion") | {"choices": [choice], "usage": _usage(answer)}
    return httpx.Response(200, json=whole)


def _events(answer: Json, *, includes_usage: bool) -> Iterator[bytes]:
    """Yield the answer as a stream: it comes whole, in one part."""
    head = _head(answer, "chat.completion.chunk")
    delta: Json = {"role": "assistant", "content": answer["content"]}
    if calls := _calls(answer):
        delta["tool_calls"] = [call | {"index": index} for index, call in enumerate(calls)]
    yield _event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    end = head | {"choices": [{"index": 0, "delta": {}, "finish_reason": answer["finish_reason"]}]}
    usage = {"usage": _usage(answer)}
    yield _event(end if includes_usage else end | usage)
    if includes_usage:
        yield _event(head | {"choices": []} | usage)
    yield b"data: [DONE]\n\n"


def _event(data: Json) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def _head(answer: Json, kind: str) -> Json:
    named = {"id": answer["provider_id"] or "none", "object": kind, "created": 0, "model": answer["model"]}
    return named | {"system_fingerprint": MARK}


def _calls(answer: Json) -> list[Json]:
    """Return the calls of tools with ids, which some providers leave out."""
    return [call | {"id": call.get("id") or f"call_{index}"} for index, call in enumerate(answer["tool_calls"])]


def _usage(answer: Json) -> Json:
    usage = answer["usage"]
    return {
        **{name: usage.get(name) or 0 for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
        "prompt_tokens_details": {"cached_tokens": usage.get("cached_tokens") or 0},
        "completion_tokens_details": {"reasoning_tokens": usage.get("reasoning_tokens") or 0},
    }


def _failure(task: Current, error: ExecutorError) -> httpx.Response:
    """Return the failure as a provider would. Clients repeat the call after a temporary one."""
    wait = error.retry_after_seconds
    said = {"message": str(error), "type": "invalid_request_error", "code": task.code_of(error)}
    return httpx.Response(
        400 if error.permanent else 503,
        headers={} if wait is None else {"retry-after": f"{wait:g}"},
        json={"error": said},
    )
