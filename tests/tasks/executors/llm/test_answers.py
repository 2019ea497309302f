"""Answers are what they seem: what a provider sends is an answer, or the task fails and says what came instead."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tasks.executors.llm.executor import Llm
from tests.llm_formats import USAGE, Says
from tests.llm_site import KEY, LlmSite

EXECUTOR = "llm_executor"
Json = dict[str, Any]
ANSWERS = {
    "openai/gpt-4": KEY,
    "azure/gpt-4": f"azure:{KEY}",
    "anthropic/claude-sonnet-4-5": f"anthropic:{KEY}",
    "gemini/gemini-2.5-flash": f"gemini:{KEY}",
    "ollama/llama3": f"ollama:{KEY}",
}
AGAIN = "Try again later, or set params.retry."


def frame(**fields: Any) -> str:
    return f"data: {json.dumps(fields)}\n\n"


def failure(site: LlmSite, model: str, says: Says, **params: Any) -> tuple[str, int]:
    """The error of a task that may be tried twice, and how often the provider was asked."""
    site.llm.will(says, says)
    retry = {"retry": {"max_attempts": 2, "backoff_seconds": 0}}
    before = len(site.llm.asked)
    error = site.error_of(EXECUTOR, {"prompt": "Hi", "model": model}, key_for(model), params=retry | params)
    return error, len(site.llm.asked) - before


def key_for(model: str) -> dict[str, str]:
    return {"X-LLM-API-KEY": ANSWERS[model]}


@pytest.mark.parametrize("model", ANSWERS)
@pytest.mark.parametrize(
    ("says", "error"),
    [
        (Says(raw="Hello there", content_type="text/plain"), "sent no answer (text/plain): Hello there"),
        (Says(raw="<html>Log in</html>", content_type="text/html"), "sent no answer (text/html): <html>Log in</html>"),
        (Says(raw=""), f"returned an empty answer. {AGAIN}"),
        (Says(raw="data: {not json\n\ndata: [DONE]\n\n"), "sent no answer (text/event-stream): {not json"),
        (Says(text=""), f"returned an empty answer (finish_reason: stop). {AGAIN}"),
        (Says(text="one two", frames=("data: {oops\n\n",)), "sent an answer that cannot be read: {oops"),
        (Says(text="one two", frames=("",)), f"was lost in the middle of the answer. {AGAIN}"),
        (Says(text="one two three", cut_after=3), f"was lost in the middle of the answer. {AGAIN}"),
        (
            Says(text="one", frames=(frame(error={"message": "Too much to do.", "type": "overloaded_error"}),)),
            "reported an error in the middle of its answer (overloaded_error): Too much to do.",
        ),
    ],
    ids=["text", "page", "nothing", "garbage", "empty", "garbage within", "no end", "cut", "error within"],
)
def test_what_is_no_answer_fails_and_may_be_tried_again(site: LlmSite, model: str, says: Says, error: str) -> None:
    message, asked = failure(site, model, says)
    assert error in message
    assert asked == 2


@pytest.mark.parametrize("model", ["openai/gpt-4", "azure/gpt-4"])
@pytest.mark.parametrize(
    ("says", "error"),
    [
        (Says(text="", refusal="I cannot help with that."), "gpt-4 refused to answer: I cannot help with that."),
        (Says(text="So", finish="content_filter"), "withheld the answer (finish_reason: content_filter)"),
        (
            Says(text="one", frames=(frame(error={"message": "No money.", "code": "insufficient_quota"}),)),
            "is used up (insufficient_quota). Check its plan and billing.",
        ),
        (
            Says(status=429, error={"message": "No money.", "type": "insufficient_quota"}),
            "is used up (insufficient_quota). Check its plan and billing.",
        ),
        (
            Says(
                raw='{"error": {"message": "No money.", "code": "insufficient_quota"}}', content_type="application/json"
            ),
            "is used up (insufficient_quota). Check its plan and billing.",
        ),
        (
            Says(text="", frames=(frame(error={"message": "Too long.", "code": "context_length_exceeded"}),)),
            "instead of an answer (context_length_exceeded): Too long.",
        ),
    ],
    ids=["refusal", "filter", "quota within", "quota", "quota as an answer", "too long"],
)
def test_what_another_attempt_will_not_mend_is_final(site: LlmSite, model: str, says: Says, error: str) -> None:
    message, asked = failure(site, model, says)
    assert error in message
    assert asked == 1


@pytest.mark.parametrize("model", ["anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash"])
def test_other_providers_filter_too(site: LlmSite, model: str) -> None:
    message, asked = failure(site, model, Says(text="So", finish="content_filter"))
    assert "withheld the answer (finish_reason: content_filter)" in message
    assert asked == 1


def test_the_key_is_not_quoted_from_a_stream(site: LlmSite) -> None:
    for says in (
        Says(raw=f"Your key {KEY} is odd", content_type="text/plain"),
        Says(text="one", frames=(frame(error={"message": f"What is {KEY}?", "code": KEY}),)),
        Says(text="", refusal=f"I will not say {KEY}."),
    ):
        message, _ = failure(site, "openai/gpt-4", says)
        assert KEY[:8] not in message


@pytest.mark.parametrize("model", ANSWERS)
def test_an_answer_that_comes_whole_is_read(site: LlmSite, model: str) -> None:
    site.llm.will(Says(text="The whole answer.", plain=True))
    done = site.run(EXECUTOR, {"prompt": "Hi", "model": model}, key_for(model))
    assert done.task["status"] == "completed", done.task
    assert done.task["result"]["content"] == "The whole answer."
    assert done.task["result"]["finish_reason"] == "stop"
    assert done.task["token_usage"]["total_tokens"] == 14
    assert "".join(done.words) == "The whole answer."


@pytest.mark.parametrize("model", ["openai/gpt-4", "anthropic/claude-sonnet-4-5"])
def test_calls_of_tools_that_come_whole_are_read(site: LlmSite, model: str) -> None:
    site.llm.will(Says(text="", tool_calls=(("add", {"a": 1}), ("add", {"a": 2})), plain=True))
    result = site.run(EXECUTOR, {"prompt": "Hi", "model": model}, key_for(model)).task["result"]
    called = [json.loads(call["function"]["arguments"]) for call in result["tool_calls"]]
    assert (called, result["finish_reason"]) == ([{"a": 1}, {"a": 2}], "tool_calls")


@pytest.mark.parametrize("model", ANSWERS)
def test_an_answer_that_is_cut_off_has_a_warning(site: LlmSite, model: str) -> None:
    site.llm.will(Says(text="Once upon", finish="length"))
    result = site.run(EXECUTOR, {"prompt": "Hi", "model": model}, key_for(model)).task["result"]
    assert (result["content"], result["finish_reason"]) == ("Once upon", "length")
    assert "cut off at its greatest length" in result["warning"]
    Draft202012Validator(Llm.result_schema).validate(result)


def test_an_answer_that_is_cut_off_may_be_a_failure(site: LlmSite) -> None:
    message, asked = failure(site, "openai/gpt-4", Says(text="Once upon", finish="length"), fail_on_length=True)
    assert "cut off at its greatest length" in message
    assert asked == 2
    refusal = site.refusal_of(EXECUTOR, inputs={"prompt": "x"}, params={"fail_on_length": 1})
    assert "params.fail_on_length must be true or false." in str(refusal)


def test_the_result_tells_the_rest(site: LlmSite) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 6}, "completion_tokens_details": {"reasoning_tokens": 3}}
    sources = frame(id="c1", choices=[], citations=["https://example.com/a"])
    end = frame(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    usage = frame(choices=[], usage=USAGE | details)
    site.llm.will(Says(text="So.", reasoning="Let me think.", frames=(sources, end, usage, "data: [DONE]\n\n")))
    done = site.run(EXECUTOR, {"prompt": "Hi", "model": "openai/gpt-4"})
    result = done.task["result"]
    assert result["reasoning"] == "Let me think."
    (call,) = site.server.rpc("runs.calls", {"run_id": done.events[0]["run_id"]})["calls"]
    said = {name: call["content"][name] for name in ("answer", "reasoning", "citations", "left_out_citations")}
    assert said == {
        "answer": "So.",
        "reasoning": "Let me think.",
        "citations": ["https://example.com/a"],
        "left_out_citations": 0,
    }
    assert result["citations"] == ["https://example.com/a"]
    assert result["usage"] == USAGE | {"cached_tokens": 6, "reasoning_tokens": 3}
    Draft202012Validator(Llm.result_schema).validate(result)


def test_a_wait_in_milliseconds_is_obeyed(site: LlmSite) -> None:
    site.llm.will(Says(status=429, headers={"retry-after-ms": "1500", "Retry-After": "7"}))
    done = site.run(EXECUTOR, {"prompt": "Hi"}, params={"retry": {"max_attempts": 2, "backoff_seconds": 0}})
    assert done.task["status"] == "completed"
    [retry] = [event for event in done.events if event["type"] == "task_retry"]
    assert "the next one starts in 1.5 s" in retry["message"]
