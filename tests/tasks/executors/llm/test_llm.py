"""The language model executor: a real server, real workers, and a provider on loopback that writes down who asked."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from llmock.scenarios import Fail, Match, StreamFault

from tasks.executors.llm.executor import Llm
from tests.llm_formats import Says
from tests.llm_server import fingerprint
from tests.llm_site import KEY, WITH_KEY, LlmSite
from tests.servers import events_of, until
from tests.sizes import size

EXECUTOR = "llm_executor"
GPT = "openai/gpt-4"
COST_USD = 10 * 30e-6 + 4 * 60e-6
USERS = size(40, full=200)
Json = dict[str, Any]
FOUND = {"id": "found", "name": "echo_executor", "inputs": {"title": "Rivers", "list": [{"name": "Rhine"}]}}


def test_an_answer_has_content_usage_and_cost(site: LlmSite) -> None:
    done = site.run(EXECUTOR, {"prompt": "Name three rivers.", "model": GPT})
    counts = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
    assert done.task["result"] == {
        "content": f"{fingerprint(KEY)} Name three rivers.",
        "model": "gpt-4",
        "finish_reason": "stop",
        "usage": counts | {"cached_tokens": 0, "reasoning_tokens": 0},
        "cost_usd": pytest.approx(COST_USD),
        "tool_calls": [],
        "provider_id": "c1",
    }
    assert done.task["token_usage"] == {**counts, "cost_usd": pytest.approx(COST_USD)}
    Draft202012Validator(Llm.result_schema).validate(done.task["result"])


def test_words_are_events_of_their_own_for_those_who_ask_and_lines_of_the_log_for_others(site: LlmSite) -> None:
    text = " ".join(f"word{number}" for number in range(50))
    site.llm.will(Says(text=text, reasoning="First I think. "))
    done = site.run(EXECUTOR, {"prompt": "Speak."})
    assert "".join(done.words) == text
    thoughts = [event for event in done.events if event["type"] == "token" and event["result"]["kind"] == "reasoning"]
    assert "".join(event["message"] for event in thoughts) == "First I think. " == done.task["result"]["reasoning"]
    assert thoughts[-1]["seq"] < next(event["seq"] for event in done.events if event["message"].startswith("word"))
    assert len(done.words) < 40
    assert done.logs == []
    (call_id,) = {event["result"]["call_id"] for event in done.events if event["type"] == "token"}
    named = {
        "kind": None,
        "call_id": call_id,
        "model": "openai/gpt-4o-mini",
        "agent": "a task",
        "crew_task": None,
        "step": None,
    }
    for event in done.events:
        assert event["type"] != "token" or event["result"] | {"kind": None} == named
    detail = site.server.rpc("tasks.detail", {"task_id": done.task["id"]})
    for others in (site.server.finished(done.task["id"]), detail["events"]):
        lines = [event for event in others if event["type"] == "log"]
        assert "".join(event["message"] for event in lines) == text
        assert {event["result"] for event in lines} == {None}
        assert not [event for event in others if event["type"] == "token" or "think" in event["message"]]
    run = site.server.rpc("runs.get", {"run_id": done.events[0]["run_id"]})
    assert [call["id"] for call in run["model_calls"]] == [call_id]


@pytest.mark.parametrize("path", ["/tasks/{}/events", "/api/tasks/{}/events/", "/tasks"])
def test_a_wish_for_tokens_that_is_no_boolean_is_refused(site: LlmSite, path: str) -> None:
    done = site.run(EXECUTOR, {"prompt": "Speak.", "model": "demo/demo"})
    request = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute"}
    request["params"] = {"task_id": done.task["id"], "use_streaming": True, "last_event_id": "0"}
    method, body = ("POST", request) if path == "/tasks" else ("GET", None)
    path = path.format(done.task["id"])
    refused = site.server.http.request(method, path, params={"tokens": "1"}, json=body)
    assert "must be true or false" in refused.text
    types = {
        wish: {event["type"] for event in events_of(iter(taken.text.splitlines())) if "type" in event}
        for wish in ("true", "false")
        if (taken := site.server.http.request(method, path, params={"tokens": wish}, json=body)).status_code == 200
    }
    assert ("token" in types["true"], "token" in types["false"]) == (True, False)


@pytest.mark.parametrize(
    ("model", "headers", "path", "sent_as"),
    [
        ("openai/gpt-4", {"X-LLM-API-KEY": KEY}, "/v1/chat/completions", "gpt-4"),
        ("gpt-4", {"X-LLM-API-KEY": KEY}, "/v1/chat/completions", "gpt-4"),
        ("openai/gpt-4", {"X-LLM-API-KEY": f"openai:{KEY}"}, "/v1/chat/completions", "gpt-4"),
        ("anthropic/claude-sonnet-4-5", {"X-LLM-API-KEY": f"anthropic:{KEY}"}, "/v1/messages", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5", {"X-LLM-API-KEY": KEY}, "/v1/messages", "claude-sonnet-4-5"),
        ("corp/any-model", {"X-LLM-API-KEY": f"corp:{KEY}"}, "/v1/chat/completions", "any-model"),
    ],
)
def test_the_model_says_which_provider_gets_the_key(
    site: LlmSite, model: str, headers: Mapping[str, str], path: str, sent_as: str
) -> None:
    done = site.run(EXECUTOR, {"prompt": "Hello.", "model": model}, headers)
    assert done.task["result"]["content"] == f"{fingerprint(KEY)} Hello."
    asked = site.llm.asked[-1]
    assert (asked.path, asked.key, asked.body["model"]) == (path, KEY, sent_as)


@pytest.mark.parametrize(
    "model", ["mistral/mistral-small-latest", "groq/llama-3.1-8b-instant", "gemini/gemini-2.5-flash"]
)
def test_other_providers_are_spoken_to_in_their_own_ways(site: LlmSite, model: str) -> None:
    provider = model.partition("/")[0]
    done = site.run(EXECUTOR, {"prompt": "Hello.", "model": model}, {"X-LLM-API-KEY": f"{provider}:{KEY}"})
    assert done.task["status"] == "completed", done.task
    assert done.task["result"]["content"]
    assert done.task["token_usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("fields", "sent_as"),
    [
        ({"inputs": {"model": "openai/a"}, "params": {"model": "openai/b"}, "schemas": {"model": "openai/c"}}, "a"),
        ({"inputs": {}, "params": {"model": "openai/b"}, "schemas": {"model": "openai/c"}}, "b"),
        ({"inputs": {}, "params": {}, "schemas": {"model": "openai/c"}}, "c"),
        ({"inputs": {}, "params": {}, "schemas": {}}, "gpt-4o-mini"),
    ],
)
def test_the_model_is_the_first_that_is_named(site: LlmSite, fields: Json, sent_as: str) -> None:
    inputs = {"prompt": "Hello.", **fields["inputs"]}
    site.run(EXECUTOR, inputs, params=fields["params"], schemas={"method": EXECUTOR, **fields["schemas"]})
    assert site.llm.asked[-1].body["model"] == sent_as


def test_options_are_sent_and_nothing_else(site: LlmSite) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
    options = {"temperature": 0, "max_tokens": 5, "response_format": {"type": "json_object"}, "tools": tools}
    inputs = {"prompt": "Hello.", **options, "api_key": "y"}
    site.llm.will(Says(text="{}"))
    assert site.run(EXECUTOR, inputs).task["status"] == "completed"
    always = {"model", "messages", "stream", "stream_options"}
    assert site.llm.asked[-1].body.keys() == always | options.keys()
    assert {name: site.llm.asked[-1].body[name] for name in options} == options


def test_earlier_messages_precede_the_prompt_as_they_are(site: LlmSite) -> None:
    history = [{"role": "user", "content": "What is {{x}}?"}, {"role": "assistant", "content": "A placeholder."}]
    site.run("llm_executor", {"prompt": "Thanks", "history": history})
    assert site.llm.asked[0].body["messages"] == [*history, {"role": "user", "content": "Thanks"}]


def test_the_tools_that_the_model_asks_for_are_the_result(site: LlmSite) -> None:
    site.llm.will(Says(tool_calls=(("add", {"a": 1}), ("add", {"a": 2}))))
    result = site.run(EXECUTOR, {"prompt": "Add.", "model": GPT}).task["result"]
    called = [(call["function"]["name"], call["function"]["arguments"]) for call in result["tool_calls"]]
    assert called == [("add", '{"a": 1}'), ("add", '{"a": 2}')]
    assert result["content"] is None


def test_what_dependencies_found_fills_the_prompt(site: LlmSite) -> None:
    prompt = "About {{ found.title }}: {{found.list.0.name}}, {{found.list}}, {not.this}"
    asks = {
        "id": "asks",
        "name": EXECUTOR,
        "parent_id": "root",
        "dependencies": ["found"],
        "inputs": {"prompt": prompt},
    }
    tree = [{"id": "root", "name": "root"}, {**FOUND, "parent_id": "root"}, asks]
    task_id = site.server.rpc("tasks.execute", {"tasks": tree}, **WITH_KEY)["task_id"]
    assert site.end_of(task_id).events[-2]["status"] == "completed"
    assert site.llm.asked[-1].last_message == 'About Rivers: Rhine, [{"name":"Rhine"}], {not.this}'


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"prompt": "Hi {{name}} {{a.b}}", "a": {"c": 1}}, "no value for 'name', 'a.b'; the inputs have: 'a'"),
        ({"prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}]}, "Give either `prompt`"),
        ({}, "Give either `prompt`"),
        ({"history": []}, "Give either `prompt`"),
        ({"prompt": "Hi", "model": "nobody/knows"}, "Name it before a slash, such as 'openai/gpt-4o'"),
        ({"prompt": "Hi", "model": "lm_studio/llama3"}, "No API key for the provider 'lm_studio'"),
        (
            {"prompt": "Hi", "model": GPT, "response_format": {"type": "json_object"}},
            "openai/gpt-4 does not take response_format.",
        ),
        (
            {"prompt": "Hi", "model": GPT, "verbosity": "low", "reasoning_effort": "low"},
            "Leave them out, or use another model.",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anybody_is(site: LlmSite, inputs: Json, says: str) -> None:
    assert says in site.error_of(EXECUTOR, inputs)
    assert site.llm.asked == []


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"prompt": "Hi", "temperature": 3}, "temperature"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://a/b"}}]}]},
            "messages[0].content",
        ),
    ],
)
def test_what_can_never_be_asked_is_not_stored(site: LlmSite, inputs: Json, says: str) -> None:
    tasks = {"name": EXECUTOR, "inputs": inputs}
    error = site.server.call("tasks.create", {"tasks": tasks})["error"]
    assert (error["code"], error["data"][0]["field"]) == (-32602, "tasks[0].inputs")
    assert says in error["message"]


def test_without_a_key_the_task_says_what_to_do(site: LlmSite) -> None:
    error = site.error_of(EXECUTOR, {"prompt": "Hi", "model": GPT}, {})
    assert "No API key for the provider 'openai'" in error
    assert "OPENAI_API_KEY" in error


@pytest.mark.parametrize(
    ("model", "headers", "api_base", "says"),
    [
        (GPT, {}, "https://example.com/v1", "Your own api_base requires your own key"),
        ("cerebras/llama", {}, "https://example.com/v1", "Your own api_base requires your own key"),
        (GPT, WITH_KEY, "http://127.0.0.1:9/v1", "its address 127.0.0.1 is not public"),
        (GPT, WITH_KEY, "http://169.254.169.254/v1", "its address 169.254.169.254 is not public"),
        (GPT, WITH_KEY, "http://0x7f.1/v1", "refused"),
        (GPT, WITH_KEY, "file:///etc/passwd", "refused"),
        (GPT, WITH_KEY, 7, "is not a text"),
        ("anthropic/claude-3", {"X-LLM-API-KEY": KEY}, "https://example.com", "name the model openai/…"),
        ("lm_studio/x", {"X-LLM-API-KEY": f"lm_studio:{KEY}"}, None, "set llm.api_base.lm_studio"),
        ("vertex_ai/gemini-2.5-pro", {"X-LLM-API-KEY": f"vertex_ai:{KEY}"}, None, "set llm.api_base.vertex_ai"),
        ("langgraph/agent", {"X-LLM-API-KEY": f"langgraph:{KEY}"}, None, "set llm.api_base.langgraph"),
        ("bedrock/anthropic.claude-v2", {"X-LLM-API-KEY": f"bedrock:{KEY}"}, None, "set llm.api_base.bedrock"),
    ],
)
def test_an_address_of_the_users_own_is_guarded(
    site: LlmSite, model: str, headers: Mapping[str, str], api_base: Any, says: str
) -> None:
    params = {} if api_base is None else {"api_base": api_base}
    assert says in site.error_of(EXECUTOR, {"prompt": "Hi", "model": model}, headers, params=params)
    assert site.llm.asked == []


# --- what goes wrong at the provider ---


@pytest.mark.parametrize(
    ("answer", "says", "may_retry"),
    [
        (Says(status=400, error="The schema is odd."), "(400): The schema is odd.", False),
        (Says(status=400, error=f"What is {KEY}?"), "(400). Check the messages and options.", False),
        (Says(status=401, error=f"Wrong key {KEY}"), "refused the API key (401)", False),
        (Says(status=403), "refused the API key (403)", False),
        (Says(status=404), "has no model openai/gpt-4 for this key (404)", False),
        (Says(status=429), "quota", True),
        (Says(status=500), "had an internal error (500)", True),
        (Says(status=503), "had an internal error (503)", True),
    ],
)
def test_an_error_says_what_to_do_and_never_the_key(site: LlmSite, answer: Says, says: str, may_retry: bool) -> None:
    site.llm.will(answer)
    retry = {"retry": {"max_attempts": 2, "backoff_seconds": 0}}
    done = site.run(EXECUTOR, {"prompt": "Hi", "model": GPT}, params=retry)
    errors = [event["error"] for event in done.events if event["error"]]
    assert says in errors[0]
    assert done.task["status"] == ("completed" if may_retry else "failed")
    assert len(site.llm.asked) == (2 if may_retry else 1)
    assert KEY not in str(done)


def test_retry_after_is_obeyed(site: LlmSite) -> None:
    site.llm.will(Says(status=429, headers={"Retry-After": "1"}))
    done = site.run(EXECUTOR, {"prompt": "Hi"}, params={"retry": {"max_attempts": 2, "backoff_seconds": 0}})
    assert done.task["status"] == "completed"
    [retry] = [event for event in done.events if event["type"] == "task_retry"]
    assert "the next one starts in 1.0 s" in retry["message"]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (
            StreamFault("disconnect", after_chunks=1, match=Match(provider="groq", stream=True)),
            "The connection to groq was lost in the middle of the answer",
        ),
        (Fail(529, match=Match(provider="groq")), "groq had an internal error (529)"),
        (Fail(400, code="context_length_exceeded", message="Too long.", match=Match(provider="groq")), "Too long."),
    ],
)
def test_a_stream_that_breaks_is_a_failure(site: LlmSite, fault: Any, says: str) -> None:
    site.mock.state.scenarios.add(fault)
    inputs = {"prompt": "Hi", "model": "groq/llama-3.1-8b-instant"}
    assert says in site.error_of(EXECUTOR, inputs, {"X-LLM-API-KEY": f"groq:{KEY}"})


def test_a_provider_that_is_away_is_named(site: LlmSite) -> None:
    error = site.error_of(EXECUTOR, {"prompt": "Hi", "model": "cerebras/llama"}, {}, params={"timeout_seconds": 120})
    assert "cerebras could not be reached" in error


def test_a_timeout_ends_the_request(site: LlmSite) -> None:
    site.llm.will(Says(text="one two three", stalls_after=2))
    error = site.error_of(EXECUTOR, {"prompt": "Hi"}, params={"timeout_seconds": 10})
    assert error == "Timed out after 10 s (params.timeout_seconds)."
    assert not site.llm.stalled.is_set() or site.llm.hung_up.wait(150)


@pytest.mark.parametrize("force", [False, True])
def test_a_cancel_ends_the_request_and_keeps_what_was_said(site: LlmSite, force: bool) -> None:
    site.llm.will(Says(text="one two three", stalls_after=2))
    task_id = site.start(EXECUTOR, {"prompt": "Count to three.", "model": GPT})
    site.wait_for_words(task_id, "one two ")
    with site.server.events(task_id) as events:
        assert any(event["type"] == "log" for event in events)  # a client that asks for nothing else
    site.server.rpc("tasks.cancel", {"task_id": task_id, "force": force})
    assert site.llm.hung_up.wait(60)
    done = site.end_of(task_id)
    assert done.task["status"] == "cancelled"
    assert done.task["result"]["content"] == "one two "
    assert done.task["token_usage"]["completion_tokens"] > 0
    assert done.task["token_usage"]["cost_usd"] > 0


# --- whose key ---


@pytest.mark.sized
@pytest.mark.both_engines_nightly
def test_many_users_at_once_are_never_mixed_up(site: LlmSite) -> None:
    keys = {f"user-{number}": f"sk-user-{number}-{number:032x}" for number in range(USERS)}
    site.llm.together = Barrier(USERS)

    def start(user: str) -> tuple[str, str]:
        headers = {"X-LLM-API-KEY": f"openai:{keys[user]}" if user.endswith("7") else keys[user]}
        return user, site.start(EXECUTOR, {"prompt": f"I am {user}."}, headers, user_id=user)

    with ThreadPoolExecutor(16) as threads:
        started = dict(threads.map(start, keys))
    done = {user: site.end_of(task_id).task for user, task_id in started.items()}
    said = {user: task["result"]["content"] for user, task in done.items()}
    assert said == {user: f"{fingerprint(key)} I am {user}." for user, key in keys.items()}
    assert not site.llm.together.broken


@pytest.mark.both_engines_nightly
def test_the_key_of_a_run_is_gone_when_it_ends(site: LlmSite) -> None:
    site.run(EXECUTOR, {"prompt": "Hi"})
    until(lambda: site.server.query("SELECT COUNT(*) FROM llmkeys_runsecret") == [(0,)], seconds=60, what="no key left")


def test_the_environment_of_the_worker_gets_no_key(site: LlmSite) -> None:
    site.run(EXECUTOR, {"prompt": "Hi"})
    assert all(KEY not in process.environ().values() for process in site.server.processes())


# --- the demo model ---


def test_the_demo_model_needs_nobody_and_says_what_it_is(site: LlmSite) -> None:
    done = site.run(EXECUTOR, {"prompt": "What is a river?", "model": "demo/any"}, {})
    assert done.task["result"]["content"] == (
        "This is the built-in demo model: it understands nothing and costs nothing. You asked: What is a river?"
    )
    assert done.task["token_usage"] == {
        "prompt_tokens": 4,
        "completion_tokens": 18,
        "total_tokens": 22,
        "cost_usd": 0.0,
    }
    again = site.run(EXECUTOR, {"prompt": "What is a river?", "model": "demo/any"}, {})
    assert again.task["result"] == done.task["result"]
    assert site.llm.asked == []


SCHEMA: Json = {
    "type": "object",
    "properties": {"kind": {"enum": ["bug", "question"]}, "urgency": {"type": "integer"}},
    "required": ["kind", "urgency"],
}
STRUCTURED: Json = {
    "prompt": "Classify.",
    "model": "openai/gpt-4o-mini",
    "response_format": {"type": "json_schema", "json_schema": {"name": "kind", "schema": SCHEMA}},
}


@pytest.mark.parametrize(
    "text",
    ['{"kind": "bug", "urgency": 2}', '```json\n{"kind": "bug", "urgency": 2}\n```', ' {"kind":"bug","urgency":2}\n'],
)
def test_an_answer_that_has_to_fit_a_schema_is_parsed(site: LlmSite, text: str) -> None:
    site.llm.will(Says(text=text))
    result = site.run(EXECUTOR, STRUCTURED).task["result"]
    assert result["parsed"] == {"kind": "bug", "urgency": 2}
    assert result["content"].strip() == text.strip()


def test_an_answer_that_does_not_fit_is_sent_back_with_its_fault(site: LlmSite) -> None:
    site.llm.will(Says(text='{"kind": "praise", "urgency": 2}'), Says(text='{"kind": "question", "urgency": 1}'))
    done = site.run(EXECUTOR, STRUCTURED)
    assert done.task["result"]["parsed"] == {"kind": "question", "urgency": 1}
    messages = site.llm.asked[-1].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[-1]["content"].startswith("That was refused: it does not fit the schema: kind:")
    assert done.task["token_usage"]["total_tokens"] == 28


@pytest.mark.parametrize(
    ("text", "params", "error"),
    [
        ("Certainly!", {}, "The answer of gpt-4o-mini is not what response_format asks for: it is not JSON"),
        ('{"kind": "bug"}', {"repair": 0}, "it does not fit the schema: "),
    ],
)
def test_an_answer_that_never_fits_fails_the_task(site: LlmSite, text: str, params: Json, error: str) -> None:
    asked = 1 + params.get("repair", 1)
    site.llm.will(*[Says(text=text)] * asked)
    before = len(site.llm.asked)
    assert error in site.error_of(EXECUTOR, STRUCTURED, params=params)
    assert len(site.llm.asked) - before == asked


def test_any_object_will_do_for_json_object(site: LlmSite) -> None:
    site.llm.will(Says(text="[1]"), Says(text='{"any": [1]}'))
    inputs = {"prompt": "JSON.", "response_format": {"type": "json_object"}}
    assert site.run(EXECUTOR, inputs).task["result"]["parsed"] == {"any": [1]}


@pytest.mark.parametrize(
    ("schema", "params", "fault"),
    [
        ({"type": "objekt"}, {}, "inputs.response_format.json_schema.schema: is no JSON Schema"),
        (SCHEMA, {"repair": 9}, "params.repair must be an integer from 0 to 5."),
    ],
)
def test_a_format_that_no_answer_can_have_is_refused(site: LlmSite, schema: Json, params: Json, fault: str) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    refusal = site.refusal_of(EXECUTOR, inputs={"prompt": "x", "response_format": wanted}, params=params)
    assert fault in str(refusal)


def test_files_are_sent_in_the_form_of_their_type(site: LlmSite) -> None:
    sent = {"a.png": b"\x89PNG", "b.pdf": b"%PDF-1.7", "c.mp3": b"ID3", "d.txt": "größer\0".encode()}
    files = [site.server.http.post("/files", params={"name": name}, content=data).json() for name, data in sent.items()]
    site.run(EXECUTOR, {"prompt": "Describe {{n}} files.", "n": "4", "files": files})
    content = site.llm.asked[-1].body["messages"][-1]["content"]
    assert content == [
        {"type": "text", "text": "Describe 4 files."},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0xLjc=", "filename": "b.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}},
        {"type": "text", "text": "d.txt:\ngrößer\N{REPLACEMENT CHARACTER}"},
    ]
