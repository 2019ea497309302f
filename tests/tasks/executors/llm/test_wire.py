"""What is known of a response: whether it is an answer, and what it is instead. Without LiteLLM."""

import json
from typing import Any

import httpx
import pytest

from aipartnerupflow.executors import ExecutorError
from tasks.executors.llm.errors import fault_of
from tasks.executors.llm.executor import Llm
from tasks.executors.llm.prompt import Completion
from tasks.executors.llm.wire import WIRE, Watched, Wire
from tests import llm_formats
from tests.llm_formats import Says
from tests.llm_server import llm_server

USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost_usd": None}
Json = dict[str, Any]


def answered(content: str | None = "So.", **fields: Any) -> Completion:
    return Completion(content=content, model="m", usage=USAGE, **{"finish_reason": "stop", **fields})


def wire_of(stream: str) -> Wire:
    wire = Wire(status=200, content_type="text/html", is_stream=True)
    wire.read(stream.encode())
    wire.close()
    return wire


def fault(wire: Wire, answer: Completion | None) -> str:
    return str(fault_of(answer, wire, provider="openai", model="openai/m", key="sk-0123456789"))


@pytest.mark.parametrize(
    ("stream", "answer", "says"),
    [
        ("<p>Log in</p>", answered(None), "openai sent no answer (text/html): <p>Log in</p>"),
        ("", answered(None), "openai/m returned an empty answer."),
        (
            'data: {"error": {"message": "Busy."}}\n\n',
            answered(),
            "openai reported an error instead of an answer: Busy.",
        ),
        ('data: {"choices": []}\n\n', answered(), "The connection to openai was lost in the middle of the answer."),
        (
            "data: [DONE]\n\n",
            answered(finish_reason="content_filter"),
            "The content filter of openai withheld the answer",
        ),
        ("data: {\n\n", None, "openai sent no answer (text/html): {"),
    ],
)
def test_what_is_no_answer_is_a_fault(stream: str, answer: Completion | None, says: str) -> None:
    assert fault(wire_of(stream), answer).startswith(says)


@pytest.mark.parametrize(
    "stream",
    [
        "".join(llm_formats.openai_stream("So.", Says(), "m")),
        "".join(llm_formats.anthropic_stream("So.", Says())),
        "".join(llm_formats.gemini_stream("So.", Says())),
        "".join(llm_formats.ollama_stream("So.", Says(), "m")),
    ],
)
def test_an_answer_is_none(stream: str) -> None:
    assert fault(wire_of(stream), answered()) == "None"
    assert fault(wire_of(stream), answered(None, tool_calls=[{}])) == "None"


def test_an_input_that_is_no_parameter_is_refused() -> None:
    with pytest.raises(ExecutorError, match=r"inputs\.temprature is refused.*Did you mean 'temperature'"):
        Llm().check_with_inputs({}, {"prompt": "Hi", "temprature": 1})
    Llm().check_with_inputs({}, {"prompt": "Hi {{name}}", "name": "you", "temperature": 1})


async def test_a_stream_of_bedrock_is_left_to_litellm() -> None:
    with llm_server() as llm:
        async with httpx.AsyncClient(
            transport=Watched(httpx.AsyncHTTPTransport(), is_foreign=True), timeout=60
        ) as client:
            llm.will(Says(raw="\0\0\1\n\2", content_type="application/vnd.amazon.eventstream"))
            wire = Wire()
            token = WIRE.set(wire)
            body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
            response = await client.post(f"{llm.openai_base}/chat/completions", json=body)
            WIRE.reset(token)
    assert response.content == b"\0\0\1\n\2"
    assert fault(wire, answered()) == "None"


async def test_a_request_without_the_sound_is_not_sent() -> None:
    sound = "UklGRiQAAABXQVZF"
    with llm_server() as llm:
        async with httpx.AsyncClient(
            transport=Watched(httpx.AsyncHTTPTransport(), is_foreign=True), timeout=60
        ) as client:
            wire = Wire(sounds=[sound])
            token = WIRE.set(wire)
            message = {"role": "user", "content": "Hi"}
            with pytest.raises(httpx.RequestError, match="a part was left out"):
                await client.post(f"{llm.openai_base}/chat/completions", json={"model": "m", "messages": [message]})
            assert (wire.is_deaf, llm.asked) == (True, [])
            content = [{"type": "input_audio", "input_audio": {"data": sound}}]
            body = {"model": "m", "messages": [message | {"content": content}]}
            response = await client.post(f"{llm.openai_base}/chat/completions", json=body)
            WIRE.reset(token)
    assert json.loads(response.content)["choices"]
