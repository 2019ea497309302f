"""The parameters of a call: all that LiteLLM knows reach the model, and others are refused by name when the tree is stored."""

from typing import Any

import pytest

from tasks.executors.llm.prompt import PARAMETERS, REFUSED
from tests.lazy_modules import LazyModule
from tests.llm_formats import Says
from tests.llm_site import LlmSite

constants = LazyModule("litellm.constants")
EXECUTOR = "llm_executor"
OURS = {"model", "messages", "stream", "api_key"}
Json = dict[str, Any]
VALUES: Json = {
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "max_completion_tokens": 7,
    "parallel_tool_calls": False,
    "logprobs": True,
    "top_logprobs": 2,
    "user": "u1",
    "safety_identifier": "s1",
    "prompt_cache_key": "k1",
    "service_tier": "default",
    "store": False,
    "logit_bias": {"50256": -100},
    "top_k": 3,
}


def test_our_list_is_what_litellm_knows() -> None:
    theirs = {*constants.OPENAI_CHAT_COMPLETION_PARAMS, *constants.DEFAULT_CHAT_COMPLETION_PARAM_VALUES}
    assert theirs == (PARAMETERS.keys() | REFUSED.keys() | OURS) - {"top_k"}  # top_k is one of Anthropic's and others
    assert not PARAMETERS.keys() & REFUSED.keys()


def test_parameters_reach_the_model(site: LlmSite) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
    done = site.run(EXECUTOR, {"prompt": "Hi", "model": "openai/gpt-4", "tools": tools, **VALUES})
    assert done.task["status"] == "completed", done.task
    assert {name: site.llm.asked[-1].body.get(name) for name in VALUES} == VALUES


def test_effort_reaches_a_model_that_takes_it(site: LlmSite) -> None:
    site.run(EXECUTOR, {"prompt": "Hi", "model": "openai/o3-mini", "reasoning_effort": "low"})
    assert site.llm.asked[-1].body["reasoning_effort"] == "low"


def test_instructions_precede_the_conversation(site: LlmSite) -> None:
    site.run(EXECUTOR, {"prompt": "Hi", "system": "Speak {{language}}.", "language": "Latin"})
    assert site.llm.asked[-1].body["messages"] == [
        {"role": "system", "content": "Speak Latin."},
        {"role": "user", "content": "Hi"},
    ]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (
            {"temprature": 1},
            "inputs.temprature: is refused: the model has no such parameter, and no text has {{temprature}}. Did you mean 'temperature'?",
        ),
        ({"fallbacks": ["x"]}, "inputs.fallbacks: is refused: the model has no such parameter"),
        ({"n": 2}, "inputs.n: is refused: a task has one answer."),
        ({"extra_headers": {}}, "keys, addresses and headers are set by the server"),
        ({"api_base": "https://example.com"}, "use params.api_base"),
        ({"drop_params": True}, "no parameter is dropped silently"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"top_logprobs": 50}, "top_logprobs"),
    ],
)
def test_what_no_model_takes_is_refused_by_name(site: LlmSite, inputs: Json, says: str) -> None:
    assert says in str(site.refusal_of(EXECUTOR, inputs={"prompt": "Hi", **inputs}))


def test_results_of_dependencies_are_no_parameters(site: LlmSite) -> None:
    found = {"id": "found", "parent_id": "root", "name": "echo_executor", "inputs": {"a": 1}}
    asks = {
        "id": "asks",
        "parent_id": "root",
        "name": EXECUTOR,
        "dependencies": ["found"],
        "inputs": {"prompt": "Hi", "model": "demo/x"},
    }
    task_id = site.server.rpc("tasks.execute", {"tasks": [{"id": "root", "name": "root"}, found, asks]})["task_id"]
    assert site.end_of(task_id).task["status"] == "completed"


def test_without_a_stream_the_answer_comes_at_once(site: LlmSite) -> None:
    site.llm.will(Says(text="one two three"))
    done = site.run(EXECUTOR, {"prompt": "Hi", "model": "openai/gpt-4", "stream": False})
    assert "stream" not in site.llm.asked[-1].body
    assert done.task["result"]["content"] == "one two three"
    assert done.task["token_usage"]["total_tokens"] == 14
    site.llm.will(Says(text=""))
    assert "returned an empty answer" in site.error_of(EXECUTOR, {"prompt": "Hi", "stream": False})
    site.llm.will(Says(text="", refusal="No."))
    assert "refused to answer: No." in site.error_of(EXECUTOR, {"prompt": "Hi", "stream": False})


def test_probabilities_are_in_the_result(site: LlmSite) -> None:
    token = {"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}
    site.llm.will(Says(text="Hi", logprobs=(token,)))
    result = site.run(EXECUTOR, {"prompt": "Hi", "logprobs": True}).task["result"]
    assert [(each["token"], each["logprob"]) for each in result["logprobs"]] == [("Hi", -0.1)]
