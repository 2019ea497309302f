"""What the how-tos tell people to type and to send, done in a user's shell with a server that is configured as they say."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from aipartnerupflow.executors import HttpResponse
from aipartnerupflow.executors.testing import context
from tests.a2a.sockets import socket
from tests.docs_site import (
    A2A,
    BRING_YOUR_CODE,
    CHECKS,
    LLM,
    LLM_KEYS,
    OLD_KEY,
    WORKFLOWS,
    WRITE_AN_EXECUTOR,
    DocsSite,
    running_docs_site,
)
from tests.documents import text, texts
from tests.llm_formats import Says
from tests.servers import until

Json = dict[str, Any]
HISTORY: Final = "docs/how-to/history.md"
FLOWS: Final = "docs/how-to/flows.md"
PASS_RESULTS: Final = "docs/how-to/pass-results.md"
GROW: Final = "docs/how-to/repeat-and-spawn.md"
SECRETS: Final = "docs/how-to/secrets.md"
BUDGETS: Final = "docs/how-to/budgets.md"
OPERATE: Final = "docs/how-to/operate.md"
STORE: Final = f"""
echo sk-of-mine-0123456789 | AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS={OLD_KEY} aipartnerupflow keys set openai --key-stdin
"""
SHOW: Final = """
export AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS=${AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS%,*}
python -c "from aipartnerupflow.extensions.llm_key_config import LLMKeyConfigManager
keys = LLMKeyConfigManager()
print(keys.get_key(user_id='local', provider='openai'))
keys.clear_all(user_id='local')"
"""


@pytest.fixture(scope="module")
def docs_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DocsSite]:
    with running_docs_site(tmp_path_factory) as site:
        yield site


@pytest.fixture
def site(docs_site: DocsSite) -> DocsSite:
    docs_site.llm.forget()
    return docs_site


@pytest.mark.parametrize(
    ("page", "heading", "result"),
    [
        (WRITE_AN_EXECUTOR, "Register it", {"words": 6}),
        (WRITE_AN_EXECUTOR, "Use a plain function", "HELLO!!"),
        (BRING_YOUR_CODE, "Code first with `@entrypoint`", 62),
    ],
)
def test_a_task_of_a_page_has_the_result_that_the_page_promises(
    site: DocsSite, page: str, heading: str, result: Any
) -> None:
    assert site.executed(text(page, heading, "json"))["result"] == result


def test_what_one_knows_from_elsewhere_runs_as_its_page_says(site: DocsSite) -> None:
    celery, crewai, langgraph, prefect = (
        text(f"docs/coming-from/{name}.md", "An example", "json")
        for name in ("celery", "crewai", "langgraph", "prefect")
    )
    assert site.executed(celery)["result"] == 12
    [routed] = site.executed(langgraph)["result"]["results"].values()
    assert routed["text"] == "long"
    paragraph = site.executed(crewai)["result"]["content"]
    assert "Write a paragraph from these notes: This is the built-in demo model" in paragraph
    (site.shell.folder / "welcome.json").write_text(prefect)
    assert '"text": "Hello Ada"' in site.run(text("docs/coming-from/prefect.md", "An example", "sh"))
    site.run("aipartnerupflow flows delete welcome")  # other pages list the flows


def test_workflows_that_one_knows_from_elsewhere_run_as_their_pages_say(site: DocsSite) -> None:
    def submit(name: str, inputs: Json, *, wait: bool) -> Json:
        task = {"name": name, "schemas": {"method": f"workflow:{name}"}, "inputs": inputs}
        answer: Json = site.server.rpc("tasks.execute", {"tasks": [task], "wait": wait})
        return answer

    urls = ["a", "b", "c"]
    assert submit("pages", {"urls": urls}, wait=True)["task"]["result"] == [f"the page {url}" for url in urls]
    sold = submit("sell", {"order": "7"}, wait=False)["root_task_id"]
    site.server.rpc("events.send", {"event": "paid", "payload": {"order": "7"}})
    site.server.finished(sold)
    assert site.server.rpc("tasks.get", {"task_id": sold})["result"] == "shipped 7"


async def test_the_test_of_a_workflow_passes_as_it_stands() -> None:
    names: Json = {}
    exec(text(WORKFLOWS, "Test them", "python"), names)
    (test,) = (value for name, value in names.items() if name.startswith("test_"))
    await test()


def test_trees_grow_as_the_page_says(site: DocsSite) -> None:
    report = site.executed(text(GROW, "Run a template for each item of a list", "json"))["result"]
    assert report == {"count": 2, "names": ["Ada", "Alan"]}
    published = site.executed(text(GROW, "Run something again until it is good", "json"))["result"]
    assert published["text"] == "Draft 3. Improve on “Draft 2. Improve on “Draft 1. Begin.””"
    assert site.executed(text(GROW, "Add tasks that a result names", "json"))["result"]["is"] == "found"
    assert site.executed(text(GROW, "Run a tree of its own", "json"))["result"]["begins"] == "Hello Ada"
    written = site.executed(text(GROW, "Let a model write the tasks", "json"))
    assert (written["status"], written["result"]["results"]) == ("completed", {"work": {"demo": {}}})


def test_results_are_passed_on_as_the_page_says(site: DocsSite) -> None:
    order = site.executed(text(PASS_RESULTS, "Pass results from task to task", "json"))["result"]
    assert (order["total"], order["text"]) == (9, "The cup costs 9 €, not {{price}}.")
    greeting = site.executed(text(PASS_RESULTS, "Give a run its inputs", "json"), "--input", "name=Ada")
    assert greeting["result"] == {"text": "Hello Ada!"}
    end = site.executed(text(PASS_RESULTS, "Take one way or another", "json"))
    assert [result["text"] for result in end["result"]["results"].values()] == ["Once more."]
    assert [task["status"] for task in end["children"]] == ["completed", "skipped", "completed"]
    answer = site.executed(text(PASS_RESULTS, "Go on without a task", "json"))
    assert (answer["status"], answer["result"]["results"]) == ("completed", {"second-choice": {"text": "Instead."}})


def test_a_flow_is_saved_and_run_as_the_page_says(site: DocsSite) -> None:
    saved, ran = (
        site.server.http.post("/tasks", json=json.loads(text(FLOWS, heading, "json"))).json()["result"]
        for heading in ("Save a flow", "Run it")
    )
    assert (saved["version"], saved["is_new"]) == (1, True)
    assert (ran["status"], ran["task"]["result"]) == ("completed", {"text": "Hello Ada", "times": 1})
    site.server.rpc("flows.delete", {"name": "greet"})  # another block saves it, too


def test_a_file_is_the_same_flow(site: DocsSite) -> None:
    (site.shell.folder / "greet.yaml").write_text(text(FLOWS, "From the command line", "yaml"))
    said = site.run(text(FLOWS, "From the command line", "sh"))
    first, *run, last = said.splitlines()
    end = run.index("Run completed")
    saved, *listed, version = map(json.loads, [first, *run[end + 1 :], last])
    assert (saved["name"], saved["version"], version["version"]) == ("greet", 1, 1)
    assert json.loads("".join(run[:end])) == {"text": "Hello Ada", "times": 2}
    assert [flow["name"] for flow in listed] == ["greet"]
    site.server.rpc("flows.delete", {"name": "greet"})


def test_a_tree_is_forked_as_the_page_says(site: DocsSite) -> None:
    echo = {"schemas": {"method": "echo_executor"}}
    summary = {"id": "summary", "name": "Summary", "parent_id": "daily-report", "dependencies": ["numbers"], **echo}
    tasks = [
        {"id": "daily-report", "name": "Report"},
        {"id": "numbers", "name": "Numbers", "parent_id": "daily-report", "inputs": {"total": 3}, **echo},
        summary | {"inputs": {"text": "{{numbers.sum}} orders"}},
    ]
    body = {"jsonrpc": "2.0", "method": "tasks.execute", "params": {"tasks": tasks, "wait": True}, "id": 1}
    assert site.server.http.post("/tasks", json=body).json()["result"]["status"] == "failed"
    heading = "Run again from the middle"
    forked = site.server.http.post("/tasks", json=json.loads(text(HISTORY, heading, "json"))).json()
    by_command = json.loads(site.run(f"{text(HISTORY, heading, 'sh').rstrip()} --json"))
    for answer in (forked["result"], by_command):
        _, summary = answer["task"]["children"]
        assert (summary["status"], summary["result"]["text"]) == ("completed", "3 orders")


def test_an_address_is_called_and_the_answer_is_the_result(site: DocsSite) -> None:
    page = site.executed(text("docs/quickstart.md", "Failures, retries and timeouts", "json"))
    assert (page["result"]["status_code"], page["params"]["retry"]["max_attempts"]) == (200, 3)


def test_another_agent_gets_what_the_task_before_it_found(site: DocsSite) -> None:
    """The poet of the page is this very server, whose text messages are prompts."""
    site.llm.will(Says(text="Roses are red."))
    report = site.executed(text("docs/how-to/call-agents.md", "Call other agents", "json"))
    assert site.llm.asked[0].last_message.startswith("Write a poem about this page: <!doctype html>")
    assert "Roses are red." in str(report["result"]["results"])


def test_a_model_without_a_key_answers(site: DocsSite) -> None:
    task = site.executed(text(LLM, "Try it without a key", "json"))
    assert task["result"]["content"].endswith("Name three rivers.")
    assert site.llm.asked == []


def test_a_model_is_asked_with_the_key_of_the_request(site: DocsSite) -> None:
    site.llm.will(Says(text="Rhine, Nile, Amazon."))
    reply = site.answer(text(LLM, "Call a model", "bash"))
    assert reply["result"]["task"]["result"]["content"] == "Rhine, Nile, Amazon."
    (asked,) = site.llm.asked
    assert (asked.key, asked.last_message) == ("sk-your-openai-key", "Name three rivers.")


def test_a_prompt_holds_the_result_of_another_task(site: DocsSite) -> None:
    tree, *_ = texts(LLM, "Call a model", "json")
    site.llm.will(Says(text="A page about a server."))
    assert site.executed(tree)["result"]["content"] == "A page about a server."
    assert site.llm.asked[0].last_message.startswith("Sum up this page in a sentence: <!doctype html>")


def test_a_model_chooses_the_way(site: DocsSite) -> None:
    _, tree, _ = texts(LLM, "Call a model", "json")
    site.llm.will(Says(text='{"kind": "bug", "summary": "Save crashes"}'))
    done = site.executed(tree)
    assert [result["ticket"] for result in done["result"]["results"].values()] == ["Save crashes"]
    assert [task["status"] for task in done["children"]] == ["completed", "completed", "skipped"]


def test_a_provider_with_a_fault_is_asked_again(site: DocsSite) -> None:
    *_, patience = texts(LLM, "Call a model", "json")
    site.llm.will(Says(status=500), Says(text="At last."))
    task = {"name": "llm_executor", "inputs": {"prompt": "Hello."}, **json.loads(patience)}
    assert site.executed(json.dumps(task))["result"]["content"] == "At last."
    assert len(site.llm.asked) == 2


def test_another_model_answers_if_one_fails(site: DocsSite) -> None:
    site.llm.will(Says(status=429), Says(text="Rhine, Nile, Amazon."))
    task = site.executed(text(LLM, "Ask another model if one fails", "json"))
    assert task["result"]["content"] == "Rhine, Nile, Amazon."
    assert [(asked.body["model"], asked.key) for asked in site.llm.asked] == [
        ("gpt-4o", "sk-of-the-server"),
        ("claude-sonnet-4-5", "sk-ant-of-the-server"),
    ]


def test_a_second_request_is_sent_to_a_slow_model(site: DocsSite) -> None:
    hedged = json.loads(text(LLM, "Send a second request to a slow model", "json"))
    hedged["params"]["hedge"]["after_seconds"] /= 100
    site.llm.will(Says(stalls_after=0), Says(text="Rhine, Nile, Amazon."))
    assert site.executed(json.dumps(hedged))["result"]["content"] == "Rhine, Nile, Amazon."
    assert [asked.body["model"] for asked in site.llm.asked] == ["gpt-4o", "gpt-4o"]


def test_an_answer_is_checked(site: DocsSite) -> None:
    block = text(CHECKS, "Check an answer", "json")
    (site.shell.folder / "tree.json").write_text(block)
    task = json.loads(site.run(text(CHECKS, "Check an answer", "sh")))["task"]
    assert task["status"] == "completed"
    names = ["secrets", "addresses", "length"]
    assert [(each["name"], each["passed"]) for each in task["checks"]] == [(name, True) for name in names]
    site.llm.will(Says(text="Write to help@example.com. " * 20), Says(text="Write to help@example.com."))
    task = site.executed(block.replace("demo/demo", "openai/gpt-4o"))
    assert task["result"]["content"] == "Write to [redacted]."


def test_a_conversation_goes_on(site: DocsSite) -> None:
    block = json.loads(text(LLM, "Continue a conversation", "json"))
    block["inputs"]["model"] = "openai/gpt-4o"
    first = block | {"id": "first", "name": "A river?", "inputs": block["inputs"] | {"prompt": "A river?"}}
    site.llm.will(Says(text="The Rhine."), Says(text="In Europe."))
    site.executed(json.dumps(first))
    site.executed(json.dumps(block))
    said = [message["content"] for message in site.llm.asked[1].body["messages"]]
    assert said == ["A river?", "The Rhine.", "And where is it?"]


def test_a_crew_of_two_models_writes_its_page(site: DocsSite) -> None:
    site.llm.will(Says(text="Rivers are long."), Says(text="A page."))
    result = site.executed(text(LLM, "Run a crew", "json"))["result"]
    assert [task["output"] for task in result["tasks"]] == ["Rivers are long.", "A page."]
    assert [asked.body["model"] for asked in site.llm.asked] == ["gpt-4o", "claude-sonnet-4-5"]


def test_a_crew_uses_the_tool_that_the_operator_named(site: DocsSite) -> None:
    crew = json.loads(text(LLM, "Run a crew", "json"))
    crew["params"]["works"]["agents"]["researcher"]["tools"] = ["search"]
    site.llm.will(Says(tool_calls=(("search", {"text": "rivers"}),)), Says(text="Long."), Says(text="A page."))
    site.executed(json.dumps(crew))
    assert site.llm.asked[1].last_message == "All about rivers."


def test_a_crew_of_the_operators_code_runs(site: DocsSite) -> None:
    site.llm.will(Says(text="Rivers are long."))
    result = site.executed(text(BRING_YOUR_CODE, "A crew", "json"))["result"]
    assert result["tasks"] == [{"name": "reporting", "output": "Rivers are long."}]
    (asked,) = site.llm.asked
    assert (asked.key, asked.body["model"]) == ("sk-of-the-server", "gpt-4o")


def test_a_graph_of_the_operators_code_asks(site: DocsSite) -> None:
    task = json.loads(text(BRING_YOUR_CODE, "A LangGraph graph", "json"))
    site.server.rpc("tasks.execute", {"tasks": [task]})
    question = until(lambda: _question_of(site, task["id"]), seconds=60, what="the question of the graph")
    assert (question["text"], question["options"]) == ("Order tea?", ["yes", "no"])
    site.server.rpc("tasks.answer", {"task_id": task["id"], "answer": "yes"})
    site.server.finished(task["id"])
    done = site.server.rpc("tasks.get", {"task_id": task["id"]})
    assert done["result"] == {"product": "tea", "approved": "yes"}


def test_a_graph_calls_a_model_with_the_key_of_the_run(site: DocsSite) -> None:
    site.llm.will(Says(text="Hello!"))
    inputs = {"graph": "support", "input": {"messages": [{"role": "user", "content": "Hi"}]}}
    result = site.executed(json.dumps({"name": "langgraph_executor", "inputs": inputs}))["result"]
    assert [message["content"] for message in result["messages"]] == ["Hi", "Hello!"]
    (asked,) = site.llm.asked
    assert (asked.key, asked.body["model"]) == ("sk-of-the-server", "gpt-4o-mini")


def _question_of(site: DocsSite, task_id: str) -> Any:
    return site.server.rpc("tasks.detail", {"task_id": task_id}).get("question")


def test_a_model_writes_a_tree_that_runs(site: DocsSite) -> None:
    written = {
        "id": "written",
        "name": "CPU",
        "schemas": {"method": "system_info_executor"},
        "inputs": {"resource": "cpu"},
    }
    site.llm.will(Says(text=json.dumps([written])))
    site.run(text(LLM, "Generate a tree", "bash"))
    (asked,) = site.llm.asked
    assert (asked.body["model"], "Look at CPU and memory" in str(asked.body["messages"])) == ("gpt-4o", True)
    assert site.server.rpc("tasks.get", {"task_id": "written"})["status"] == "completed"


# --- keys ---


def test_the_request_of_the_page_on_keys_uses_its_key(site: DocsSite) -> None:
    reply = site.answer(text(LLM_KEYS, "Send a key with a request", "bash"))
    assert site.server.finished(reply["result"]["task_id"])[-1]["status"] == "completed"
    assert [asked.key for asked in site.llm.asked] == ["sk-your-openai-key"]


def test_a_key_is_asked_for_and_shown_by_its_end(site: DocsSite) -> None:
    shown = site.shell.typed(text(LLM_KEYS, "Store a key on the server", "bash"), "sk-of-mine-0123456789")
    assert "sk-of-mine" not in shown
    assert shown.count("…6789") == 2
    assert shown.endswith("Deleted the key for openai.\n")


def test_a_script_gets_a_key_back(site: DocsSite) -> None:
    """Typed line by line, so that Python shows what each gives."""
    said = site.run("python -i -q", given=text(LLM_KEYS, "Store a key on the server", "python"))
    values = [line.rpartition(">>> ")[2] for line in said.splitlines()]
    assert [value for value in values if value] == ["True", "['openai']", "'sk-xxx'", "True", "0"]


def test_a_key_is_changed_by_sealing_anew(site: DocsSite) -> None:
    made, both = texts(LLM_KEYS, "Encryption keys", "bash")
    assert OLD_KEY in both
    said = site.run(f"{made}echo $AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS; {STORE}\n{both}{SHOW}")
    random, *_, sealed, kept = said.splitlines()
    assert len(random) >= 32
    assert sealed.startswith("Re-encrypted: 1.")
    assert kept == "sk-of-mine-0123456789"


# --- usage ---


def test_the_usage_of_models_is_listed(site: DocsSite) -> None:
    site.executed(text(LLM, "Try it without a key", "json"))
    rows = [json.loads(line) for line in site.run(text(BUDGETS, "See what was used", "bash")).splitlines()]
    assert [row["calls"] > 0 for row in rows if row.get("model") == "demo/demo"] == [True]


def test_a_user_has_a_limit_each_day(site: DocsSite) -> None:
    limits = site.server.http.get("/api/usage/").json()["today"]
    allowed = {limit["measure"]: limit["allowed"] for limit in limits}
    assert allowed == {"tokens": 2_000_000, "cost_usd": 20, "tasks": 50_000, "seconds": 36_000}


def test_a_budget_ends_a_run(site: DocsSite) -> None:
    tasks = json.loads(text(BUDGETS, "Limit a run", "json"))
    reply = site.server.http.post("/tasks", json={"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": {"tasks": tasks, "wait": True}})  # fmt: skip
    result = reply.json()["result"]
    ended = {task["id"]: task for task in result["task"]["children"]}
    assert [ended[result["ids"][name]]["status"] for name in ("first", "second", "third")] == ["completed", "completed", "failed"]  # fmt: skip
    assert "spent 50 of 30 tokens" in ended[result["ids"]["third"]]["error"]


# --- secrets ---


def test_a_secret_is_asked_for_and_not_shown(site: DocsSite) -> None:
    shown = site.shell.typed(text(SECRETS, "Secrets", "bash"), "ghp_of-mine-0123456789")
    assert "of-mine" not in shown
    assert "Stored the secret github_token, for api.github.com only." in shown
    assert shown.endswith("Deleted the secret github_token.\n")


def test_the_task_of_the_page_on_secrets_needs_its_secret(site: DocsSite) -> None:
    task = json.loads(text(SECRETS, "Use a secret in a task", "json"))
    refusal = site.server.http.post("/api/tasks/", json=task).json()["error"]["message"]
    assert "There is no secret 'github_token'" in refusal
    site.server.http.put("/api/secrets/github_token/", json={"value": "ghp_of-mine", "allow_hosts": ["api.github.com"]})
    assert site.server.http.post("/api/tasks/", json=task).status_code == 201
    site.server.http.delete("/api/secrets/github_token/")


def test_a_secret_is_shared(site: DocsSite) -> None:
    site.run(text(SECRETS, "Share a secret", "bash"), given="ghp_of-ours-0123456789\n")
    (secret,) = site.server.http.get("/api/secrets/").json()["secrets"]
    assert (secret["scope"], secret["users"], secret["allow_hosts"]) == ("shared", ["alice", "bob"], ["ci.example.com"])
    site.server.http.delete("/api/secrets/build_token/?scope=shared")


def test_an_executor_asks_for_a_secret() -> None:
    sent: list[Any] = []

    async def fetch(method: str, url: str, **options: Any) -> HttpResponse:
        sent.append(options["headers"])
        return HttpResponse(url=url, status_code=202, headers={}, body=b"", elapsed_ms=1)

    scope: dict[str, Any] = {}
    exec(text(SECRETS, "In your own executors", "python"), scope)
    here = context(secrets={"deploy_token": "of-the-page"}, fetch=fetch)
    assert asyncio.run(scope["Deploy"]().execute({}, here)) == {"status_code": 202}
    assert sent == [{"Authorization": "Bearer of-the-page"}]


# --- A2A ---


def said_to(site: DocsSite, said: str) -> Json:
    """The A2A task that answers a text."""
    message = {"messageId": said, "role": "ROLE_USER", "parts": [{"text": said}]}
    task: Json = site.server.http.post("/message:send", json={"message": message}).json()["task"]
    return task


def test_curl_gets_the_task_when_it_is_over(site: DocsSite) -> None:
    task = site.answer(text(A2A, "With curl", "sh"))["task"]
    assert (task["status"]["state"], task["artifacts"][-1]["artifactId"]) == ("TASK_STATE_COMPLETED", "result")


def test_a_text_is_a_prompt_for_the_default_model(site: DocsSite) -> None:
    assert said_to(site, "Hello.")["status"]["state"] == "TASK_STATE_COMPLETED"
    (asked,) = site.llm.asked
    assert (asked.body["model"], asked.last_message) == ("small", "Hello.")


@pytest.mark.parametrize(
    ("said", "state", "words"),
    [
        ("report", "TASK_STATE_INPUT_REQUIRED", "On which city?"),
        ("report Berlin", "TASK_STATE_COMPLETED", "Report on Berlin"),
    ],
)
def test_a_text_means_what_the_handler_of_the_page_says(site: DocsSite, said: str, state: str, words: str) -> None:
    task = said_to(site, said)
    assert task["status"]["state"] == state
    assert words in str(task)
    assert site.llm.asked == []


def test_the_card_names_the_port_of_grpc_and_is_signed_with_the_key_of_the_page(site: DocsSite) -> None:
    card = site.server.http.get("/.well-known/agent-card.json").json()
    assert card["signatures"]
    assert f"127.0.0.1:{site.addresses['50051']}" in [each["url"] for each in card["supportedInterfaces"]]


# --- operating ---


def test_the_doctor_finds_nothing_red(site: DocsSite) -> None:
    assert "server answers on" in site.shell.typed(text(OPERATE, "Check the installation", "sh"))


def test_the_status_of_the_last_day_is_shown(site: DocsSite) -> None:
    assert " failed since " in site.shell.typed(text(OPERATE, "See what failed", "sh"))


def test_an_example_that_failed_is_explained(site: DocsSite) -> None:
    site.server.rpc("tasks.execute", {"task_id": "example-failure-report", "wait": True})
    said = site.shell.typed(text(OPERATE, "Find out why a task waits", "sh"))
    assert "requires 'Unreachable service' (example-failure-call), which has failed" in said


def test_the_settings_are_listed(site: DocsSite) -> None:
    said = site.shell.typed(text(OPERATE, "Show the effective settings", "sh"))
    assert re.search(
        r"^executors\.command\.allow +\('/usr/local/bin/count-words',\) +\S+/config\.yaml *$", said, re.MULTILINE
    )
    assert OLD_KEY not in said


def test_a_message_of_the_socket_is_as_shown(site: DocsSite) -> None:
    shown = json.loads(text("docs/reference/websocket.md", "WebSocket", "json"))
    with socket(site.server.url) as client:
        site.server.rpc(
            "tasks.execute", {"tasks": {"id": "s", "name": "sleep_executor", "inputs": {"seconds": 0.2, "steps": 2}}}
        )
        message = client.until("progress")[-1]
    assert message.keys() == shown.keys()
    assert shown["data"].keys() <= message["data"].keys()
    assert {name: message[name] for name in ("type", "task_id", "status", "progress")} == {
        name: shown[name] for name in ("type", "task_id", "status", "progress")
    }
