"""Models of graphs: real agents, and a provider on loopback."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

from tests.llm_formats import Says
from tests.llm_server import fingerprint
from tests.llm_site import KEY, WITH_KEY, Done, LlmSite, running_llm_site
from tests.servers import until

Json = dict[str, Any]
EXECUTOR = "langgraph_executor"
PATIENCE_SECONDS = 60
pytestmark = pytest.mark.both_engines_nightly
THREADS = {"pool": "thread"}
HELLO: Json = {"messages": [{"role": "user", "content": "Hello"}]}


def run(site: LlmSite, graph: str, *script: Says, key: str = KEY, input: Json = HELLO, **fields: Any) -> Done:
    site.llm.will(*script)
    return site.run(EXECUTOR, {"graph": graph, "input": input}, {"X-LLM-API-KEY": f"openai:{key}"}, **fields)


def calls_of(site: LlmSite, done: Done) -> list[tuple[Any, ...]]:
    """The model, node, step, status and tokens of its calls."""
    return site.server.query(
        "SELECT model, agent, step, status, total_tokens FROM tasks_modelcall WHERE task_id = %s ORDER BY started_at, step",
        done.task["id"],
    )


@pytest.mark.parametrize("params", [{}, THREADS])
def test_an_agent_calls_models_and_tools_with_the_key_of_the_run(site: LlmSite, params: Json) -> None:
    done = run(site, "agent", Says(tool_calls=(("weather", {"city": "Bern"}),)), Says(text="Warm."), params=params)
    assert (done.task["status"], done.task["error"]) == ("completed", None)
    messages = done.task["result"]["messages"]
    assert [message["type"] for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[1]["tool_calls"][0]["args"] == {"city": "Bern"}
    assert [message["content"] for message in messages[2:]] == ["It is warm in Bern.", "Warm."]
    assert done.logs == ["agent completed", "tools completed", "agent completed"]
    assert "".join(done.words) == "Warm."
    spoke = {(event["result"]["agent"], event["result"]["step"]) for event in done.events if event["type"] == "token"}
    assert spoke == {("agent", 3)}
    assert [asked.key for asked in site.llm.asked] == [KEY, KEY]
    assert [asked.body["tools"][0]["function"]["name"] for asked in site.llm.asked] == ["weather", "weather"]
    assert calls_of(site, done) == [
        ("openai/gpt-4o-mini", "agent", 1, "completed", 14),
        ("openai/gpt-4o-mini", "agent", 3, "completed", 14),
    ]
    assert done.task["token_usage"]["total_tokens"] == 28
    assert done.task["token_usage"]["cost_usd"] > 0


@pytest.mark.parametrize("graph", ["plain_node", "async_node", "streaming"])
def test_a_model_is_called_in_every_way(site: LlmSite, graph: str) -> None:
    done = run(site, graph, Says(text="Good day to you."))
    message = done.task["result"]["messages"][-1]
    assert (message["content"], message["usage_metadata"]["total_tokens"]) == ("Good day to you.", 14)
    assert len(calls_of(site, done)) == 1


def test_an_answer_has_a_schema(site: LlmSite) -> None:
    done = run(site, "structured_output", Says(text='{"rivers": ["Rhine"]}'), input={})
    assert done.task["result"] == {"answer": {"rivers": ["Rhine"]}}
    assert site.llm.asked[0].body["response_format"]["json_schema"]["name"] == "Answer"


def test_two_users_have_their_own_keys_in_one_process(site: LlmSite) -> None:
    keys = [f"sk-{name}-0123456789abcdef" for name in ("bob", "carol", "dave", "bob")]
    ids = [
        site.start(EXECUTOR, {"graph": "plain_node", "input": HELLO}, {"X-LLM-API-KEY": f"openai:{key}"}, params=params)
        for key in keys
        for params in ({}, THREADS)
    ]
    said = [site.end_of(task_id).task["result"]["messages"][-1]["content"] for task_id in ids]
    assert [text.split(" ")[0].strip(":,.") for text in said] == [fingerprint(key) for key in keys for _ in range(2)]


def test_the_error_of_a_provider_is_that_of_the_task(site: LlmSite) -> None:
    done = run(site, "plain_node", Says(status=401, error="Wrong key."))
    assert done.task["status"] == "failed"
    assert done.task["error"].startswith("openai refused the API key")
    assert done.task["error"].endswith("(in the node 'plain' of the graph)")
    assert KEY not in done.task["error"]
    assert len(site.llm.asked) == 1


def test_a_graph_without_a_key_says_so(site: LlmSite) -> None:
    done = site.run(EXECUTOR, {"graph": "plain_node", "input": HELLO}, {})
    assert done.task["error"].startswith("No API key for the provider 'openai'."), done.task
    assert site.llm.asked == []


def test_a_blocking_call_on_the_loop_is_refused(site: LlmSite) -> None:
    assert "await model.ainvoke" in run(site, "blocking").task["error"]


def test_a_call_is_cancelled(site: LlmSite) -> None:
    site.llm.will(Says(text="It breaks off here.", stalls_after=1))
    task_id = site.start(EXECUTOR, {"graph": "async_node", "input": HELLO}, WITH_KEY)
    assert site.llm.stalled.wait(PATIENCE_SECONDS)
    site.server.rpc("tasks.cancel", {"task_ids": [task_id]})
    done = site.end_of(task_id)
    assert done.task["status"] == "cancelled"
    assert [call[3] for call in calls_of(site, done)] == ["cancelled"]


def test_calls_with_another_key_are_counted(site: LlmSite) -> None:
    done = run(site, "own_key", Says(tool_calls=(("weather", {"city": "Bern"}),)), Says(text="Warm."))
    assert [asked.key for asked in site.llm.asked] == ["sk-of-the-operator"] * 2
    assert calls_of(site, done) == [
        ("openai/gpt-4o-mini", "agent", 1, "completed", 14),
        ("openai/gpt-4o-mini", "agent", 3, "completed", 14),
    ]
    assert done.task["token_usage"]["total_tokens"] == 28
    assert done.task["token_usage"]["cost_usd"] > 0


def test_a_budget_stops_a_graph(site: LlmSite) -> None:
    script = [Says(tool_calls=(("weather", {"city": "Bern"}),)), Says(text="Warm.")]
    done = run(site, "agent", *script, params={"budget": {"tokens": 10}})
    assert done.task["status"] == "failed"
    assert "budget" in done.task["error"]
    assert len(site.llm.asked) == 1


@pytest.mark.parametrize("params", [{}, THREADS])
def test_nodes_have_the_context_and_keep_no_secret(site: LlmSite, params: Json) -> None:
    site.server.http.put("/api/secrets/crm_token/", json={"value": "a-long-token-of-the-crm"}).raise_for_status()
    done = run(site, "careful", input={}, params=params)
    assert done.task["result"] == {"user": "23"}
    refused = run(site, "in_context", input={}, params=params)
    assert "has the value of a named secret" in refused.task["error"]
    assert refused.logs[0] == "for local"


@contextmanager
def listening() -> Iterator[tuple[str, Event]]:
    """A server that stands for LangSmith, and whether anything arrived there."""
    arrived = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            arrived.set()
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_PATCH = do_GET

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", arrived
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("is_allowed", [pytest.param(True, marks=pytest.mark.nightly), False])
def test_nothing_goes_to_langsmith_unless_the_operator_allows_it(is_allowed: bool) -> None:
    with listening() as (url, arrived):
        variables = {"LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": url, "LANGSMITH_API_KEY": "lsv2_x"}
        variables |= {
            "AIPARTNERUPFLOW_EXECUTORS_LANGGRAPH_GRAPHS": "agent=tests.model_graphs:agent",
            "AIPARTNERUPFLOW_EXECUTORS_LANGGRAPH_LANGSMITH": str(is_allowed).lower(),
        }
        with running_llm_site(variables) as site:
            done = run(site, "agent", Says(text="Hello."), params=THREADS)
            assert done.task["status"] == "completed", done.task
            if is_allowed:
                until(arrived.is_set, seconds=PATIENCE_SECONDS, what="a trace")
        assert arrived.is_set() == is_allowed
