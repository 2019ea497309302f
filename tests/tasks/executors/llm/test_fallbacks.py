"""Several requests for one call: a real server, real workers, and a provider on loopback that fails in each way; and races by hand."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from aipartnerupflow.executors import ExecutorError, Stopped
from tasks.executors.llm.client import ignore
from tasks.executors.llm.fallbacks import FEW, LEAST_SECONDS, RECENT, Latencies, ModelError, WithFallbacks
from tasks.executors.llm.prompt import Completion, Prompt
from tests.llm_formats import Says
from tests.llm_site import KEY, LlmSite

Json = dict[str, Any]
EXECUTOR = "llm_executor"
GPT, OTHER = "openai/gpt-4", "openai/gpt-4o"
BOTH = [GPT, OTHER]
TOO_LONG = {"message": "Too long.", "type": "invalid_request_error", "code": "context_length_exceeded"}
OVERLOADED = 'data: {"error": {"message": "Overloaded.", "type": "overloaded_error"}}\n\n'
PAGE = Says(raw="<html>Bad gateway</html>", content_type="text/html")
LATE = 3_600
SOON = 0.05
OK = Says(text="Fine.")


def calls_of(site: LlmSite, task_id: str, *columns: str) -> list[tuple[Any, ...]]:
    return site.server.query(
        f"SELECT {', '.join(columns)} FROM tasks_modelcall WHERE task_id = %s ORDER BY started_at, id", task_id
    )


@pytest.mark.parametrize(
    ("fails", "inputs", "on", "says"),
    [
        pytest.param(Says(status=429), {}, [429], "(429)", id="429"),
        pytest.param(Says(status=429, error={"code": "insufficient_quota"}), {}, ["429"], "used up", id="quota"),
        pytest.param(Says(status=500), {}, ["5xx"], "(500)", id="500"),
        pytest.param(Says(status=529), {}, None, "(529)", id="529"),
        pytest.param(Says(text="", frames=(OVERLOADED,)), {}, ["5xx"], "Overloaded", id="error in a stream"),
        pytest.param(Says(stalls_after=0), {"timeout": 0.5}, ["timeout"], "", id="silence"),
        pytest.param(Says(cut_after=0), {}, ["connection"], "", id="no answer"),
        pytest.param(Says(text="one two three", cut_after=2), {}, None, "in the middle of the answer", id="cut"),
        pytest.param(PAGE, {}, ["connection"], "text/html", id="web page"),
        pytest.param(Says(status=400, error=TOO_LONG), {}, None, "Too long.", id="context length"),
        pytest.param(Says(status=413), {}, ["context_length"], "(413)", id="413"),
        pytest.param(Says(text="", refusal="I will not."), {}, ["refusal"], "I will not.", id="refusal"),
        pytest.param(Says(text="", finish="content_filter"), {}, ["refusal"], "content filter", id="filter"),
        pytest.param(Says(status=500), {"stream": False}, ["5xx"], "(500)", id="not streamed"),
    ],
)
def test_the_next_model_answers_and_both_requests_are_recorded(
    site: LlmSite, fails: Says, inputs: Json, on: list[Any] | None, says: str
) -> None:
    site.llm.will(fails, OK)
    params = {} if on is None else {"fallback": {"on": on}}
    done = site.run(EXECUTOR, {"prompt": "Hi", "model": BOTH, **inputs}, params=params)
    assert (done.task["status"], done.task["result"]["content"]) == ("completed", "Fine."), done.task
    assert done.task["result"]["model"] == "gpt-4o"
    failed, answered = calls_of(site, done.task["id"], "model", "status", "error", "total_tokens", "attempt")
    assert (failed[0], failed[1], failed[4]) == (GPT, "failed", 1)
    assert says in failed[2]
    assert answered == (OTHER, "completed", None, 14, 1)
    (line,) = (line for line in done.logs if "openai/gpt-4" in line)
    assert failed[2] in line


def test_the_calls_of_a_run_list_each_request_with_its_cost(site: LlmSite) -> None:
    site.llm.will(Says(text="one two three", cut_after=3), OK)
    done = site.run(EXECUTOR, {"prompt": "Hi", "model": BOTH})
    found = site.server.rpc("runs.calls", {"run_id": done.events[0]["run_id"]})["calls"]
    assert [(call["model"], call["status"]) for call in found] == [(GPT, "failed"), (OTHER, "completed")]
    assert all(call["cost_usd"] > 0 and call["usage"]["total_tokens"] > 0 for call in found)
    total = sum(call["usage"]["total_tokens"] for call in found)
    assert done.task["token_usage"]["total_tokens"] == total
    assert done.task["token_usage"]["cost_usd"] == pytest.approx(sum(call["cost_usd"] for call in found))
    page = site.server.http.get(f"/ui/trace/{done.task['id']}").text
    assert page.count(GPT) >= 1 and "in the middle of the answer" in page


def test_the_words_of_a_model_that_fails_are_no_part_of_the_answer(site: LlmSite) -> None:
    site.llm.will(Says(text="one two three", cut_after=2), Says(text="uno due tre"))
    done = site.run(EXECUTOR, {"prompt": "Count.", "model": BOTH})
    assert done.task["result"]["content"] == "uno due tre"
    by_model: dict[str, str] = {}
    for event in done.events:
        if event["type"] == "token":
            name = event["result"]["model"]
            by_model[name] = by_model.get(name, "") + event["message"]
    assert by_model == {GPT: "one two ", OTHER: "uno due tre"}
    (line,) = done.logs
    assert line.startswith(f"{GPT} failed after 8 characters of its answer, which are dropped: The connection")
    assert line.endswith(f"{OTHER} answers from the start.")
    order = [event["type"] for event in done.events if event["type"] in ("token", "log")]
    assert order.index("log") not in (0, len(order) - 1)


@pytest.mark.parametrize(
    ("fails", "fallback", "says"),
    [
        (Says(status=401), None, "refused the API key"),
        (Says(status=400, error="Odd."), None, "Odd."),
        (Says(text="", refusal="I will not."), None, "I will not."),
        (Says(status=429), {"on": ["5xx"]}, "(429)"),
    ],
)
def test_a_failure_that_is_not_named_fails_the_call(site: LlmSite, fails: Says, fallback: Any, says: str) -> None:
    site.llm.will(fails)
    error = site.error_of(EXECUTOR, {"prompt": "Hi", "model": BOTH}, params={"fallback": fallback})
    assert says in error
    assert len(site.llm.asked) == 1


def test_each_model_gets_the_key_of_its_own_provider(site: LlmSite) -> None:
    site.llm.will(Says(status=500), OK)
    done = site.run(EXECUTOR, {"prompt": "Hi", "model": [GPT, "ollama/llama3"]})
    assert done.task["result"]["content"] == "Fine."
    first, second = site.llm.asked
    assert (first.path, first.key, second.path) == ("/v1/chat/completions", KEY, "/api/generate")
    assert KEY not in second.key


def test_a_key_without_a_provider_is_given_to_none_of_several(site: LlmSite) -> None:
    inputs = {"prompt": "Hi", "model": [GPT, "anthropic/claude-sonnet-4-5"]}
    assert "uses several: anthropic, openai" in site.error_of(EXECUTOR, inputs, {"X-LLM-API-KEY": KEY})
    assert site.llm.asked == []


def test_retries_come_after_the_last_model(site: LlmSite) -> None:
    site.llm.will(Says(status=500), Says(status=429), Says(status=500), OK)
    retry = {"max_attempts": 2, "backoff_seconds": 0.01}
    done = site.run(EXECUTOR, {"prompt": "Hi"}, params={"model": BOTH, "retry": retry})
    assert done.task["result"]["content"] == "Fine."
    assert calls_of(site, done.task["id"], "model", "attempt") == [(GPT, 1), (OTHER, 1), (GPT, 2), (OTHER, 2)]


def test_the_error_names_all_models(site: LlmSite) -> None:
    site.llm.will(Says(status=500), Says(status=401))
    error = site.error_of(EXECUTOR, {"prompt": "Hi", "model": BOTH})
    assert error.startswith(f"None of 2 requests was answered. {GPT}: openai had an internal error (500).")
    assert f"{OTHER}: openai refused the API key (401)" in error


def test_the_budget_counts_each_request_and_is_asked_before_each(site: LlmSite) -> None:
    site.llm.will(Says(text="one two three", cut_after=3), OK)
    error = site.error_of(EXECUTOR, {"prompt": "Hi", "model": BOTH}, params={"budget": {"tokens": 2}})
    assert "budget" in error.lower()
    assert len(site.llm.asked) == 1


def test_an_agent_goes_on_with_the_next_model_within_its_loop(site: LlmSite) -> None:
    call = Says(tool_calls=(("weather", {"city": "Bern"}),))
    site.llm.will(call, Says(status=503), Says(text="It is warm."))
    done = site.run(EXECUTOR, {"prompt": "Go.", "tools": ["weather"], "model": BOTH})
    assert (done.task["status"], done.task["result"]["content"]) == ("completed", "It is warm.")
    assert [asked.body["model"] for asked in site.llm.asked] == ["gpt-4", "gpt-4", "gpt-4o"]
    assert site.llm.asked[2].body["messages"] == site.llm.asked[1].body["messages"]
    columns = ("step", "model", "status", "attempt")
    assert calls_of(site, done.task["id"], *columns) == [
        (1, GPT, "completed", 1),
        (2, GPT, "failed", 1),
        (2, OTHER, "completed", 1),
    ]


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_other_pools_ask_the_next_model_too(site: LlmSite, pool: str) -> None:
    site.llm.will(Says(status=500), OK)
    done = site.run(EXECUTOR, {"prompt": "Hi", "model": BOTH}, params={"pool": pool})
    assert done.task["result"]["content"] == "Fine."
    assert [model for (model,) in calls_of(site, done.task["id"], "model")] == BOTH


def test_a_tree_is_written_by_the_next_model(site: LlmSite) -> None:
    site.llm.will(Says(status=500), Says(text='{"tasks": [{"name": "echo_executor", "inputs": {"a": 1}}]}'))
    done = site.run("generate_executor", {"requirement": "Echo.", "model": BOTH})
    assert (done.task["status"], done.task["result"]["count"]) == ("completed", 1), done.task


@pytest.mark.crews
def test_agents_of_a_crew_without_a_model_have_those_of_the_task(site: LlmSite) -> None:
    site.llm.will(Says(status=500), Says(text="Notes."), Says(status=500), Says(text="A poem."))
    agents = {"ada": {"role": "Reader"}, "bob": {"role": "Writer", "llm": OTHER}}
    tasks = {
        "read": {"description": "Read.", "agent": "ada", "expected_output": "notes"},
        "write": {"description": "Write.", "agent": "bob", "expected_output": "a poem"},
    }
    done = site.run("crewai_executor", {}, params={"model": BOTH, "works": {"agents": agents, "tasks": tasks}})
    assert done.task["status"] == "completed", done.task
    models = [(agent, model) for agent, model in calls_of(site, done.task["id"], "agent", "model")]
    assert models == [("ada", GPT), ("ada", OTHER), ("bob", OTHER), ("bob", OTHER)]


# --- slow models ---


def test_a_model_that_does_not_begin_in_time_is_given_up(site: LlmSite) -> None:
    site.llm.will(Says(stalls_after=0), OK)
    done = site.run(EXECUTOR, {"prompt": "Hi", "model": BOTH}, params={"fallback": {"after_seconds": SOON}})
    assert done.task["result"]["content"] == "Fine."
    assert site.llm.hung_up.wait(60)
    late, answered = calls_of(site, done.task["id"], "model", "status", "error")
    assert late == (GPT, "failed", f"{GPT} did not begin to answer in {SOON} s (params.fallback.after_seconds).")
    assert answered[:2] == (OTHER, "completed")


@pytest.mark.parametrize("models", [GPT, BOTH])
def test_a_second_request_answers_for_a_slow_one_which_is_cancelled(site: LlmSite, models: Any) -> None:
    site.llm.will(Says(stalls_after=0), Says(text="I am fast."))
    done = site.run(EXECUTOR, {"prompt": "Hi", "model": models}, params={"hedge": {"after_seconds": SOON}})
    assert done.task["result"]["content"] == "I am fast."
    assert site.llm.hung_up.wait(60)
    # On a busy machine the second request may be the first to arrive, and then it is the slow one.
    slow, fast = sorted(calls_of(site, done.task["id"], "status", "error", "total_tokens", "model"))
    assert slow[:3] == ("cancelled", "Another request of the same call began to answer first.", None)
    assert fast[:3] == ("completed", None, 14)
    second = GPT if models == GPT else OTHER
    assert sorted((slow[3], fast[3])) == sorted((GPT, second))
    assert done.logs == [f"{GPT} has not begun to answer in {SOON} s; a second request goes to {second}."]
    assert "".join(done.words) == "I am fast."


def test_no_second_request_is_sent_for_an_answer_in_time(site: LlmSite) -> None:
    done = site.run(EXECUTOR, {"prompt": "Hi", "model": BOTH}, params={"hedge": {"after_seconds": LATE}})
    assert (done.task["status"], len(site.llm.asked), done.logs) == ("completed", 1, [])


def test_a_cancelled_task_ends_all_its_requests_and_keeps_what_was_said(site: LlmSite) -> None:
    site.llm.will(Says(status=500), Says(text="one two three", stalls_after=2))
    task_id = site.start(EXECUTOR, {"prompt": "Count.", "model": BOTH}, params={"hedge": {"after_seconds": LATE}})
    site.wait_for_words(task_id, "one two ")
    site.server.rpc("tasks.cancel", {"task_id": task_id})
    done = site.end_of(task_id)
    assert (done.task["status"], done.task["result"]["content"]) == ("cancelled", "one two ")
    assert site.llm.hung_up.wait(60)
    assert [status for (status,) in calls_of(site, task_id, "status")] == ["failed", "cancelled"]


def test_the_worker_knows_how_slow_a_model_is(site: LlmSite) -> None:
    model = "openai/gpt-that-is-measured"
    for _ in range(FEW):
        site.run(EXECUTOR, {"prompt": "Hi", "model": model})
    site.llm.will(Says(stalls_after=0), Says(text="I am fast."))
    done = site.run(EXECUTOR, {"prompt": "Hi", "model": model}, params={"hedge": "after p50"})
    assert done.task["result"]["content"] == "I am fast."
    assert site.llm.hung_up.wait(60)
    (line,) = done.logs
    assert line.startswith(f"{model} has not begun to answer in ")


# --- refused when stored ---

NO_TOOLS = "fireworks_ai/accounts/fireworks/models/llama-v3p2-1b-instruct"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("executor", [EXECUTOR, "generate_executor"])
def test_what_can_never_work_is_refused_when_stored(site: LlmSite, executor: str) -> None:
    words: Json = {"requirement": "Hi"} if executor == "generate_executor" else {"prompt": "Hi"}
    rows: list[tuple[Json, Json, str]] = [
        ({"model": []}, {}, "inputs"),
        ({"model": [GPT] * 6}, {}, "inputs"),
        ({"model": [GPT, 7]}, {}, "inputs"),
        ({}, {"model": []}, "params.model is a list of 0 models. Give 1 to 5."),
        ({}, {"model": [GPT] * 6}, "params.model is a list of 6 models. Give 1 to 5."),
        ({}, {"model": [GPT, ""]}, "params.model is not a text."),
        ({"model": BOTH}, {"fallback": {"on": ["5XX"]}}, "params.fallback.on: '5XX' is not known. "),
        ({"model": BOTH}, {"fallback": {"on": ["time_out"]}}, "Did you mean 'timeout'?"),
        ({"model": BOTH}, {"fallback": {"on": [500]}}, "params.fallback.on: '500' is not known."),
        ({"model": BOTH}, {"fallback": {"on": []}}, "params.fallback.on must be a list of at least one of 429, 5xx"),
        ({"model": BOTH}, {"fallback": {"on": "429"}}, "params.fallback.on must be a list"),
        (
            {"model": BOTH},
            {"fallback": {"after": 1}},
            "params.fallback.after is not known; known are on, after_seconds.",
        ),
        ({"model": BOTH}, {"fallback": [GPT]}, "params.fallback must be an object with on and after_seconds."),
        ({"model": BOTH}, {"fallback": {"after_seconds": 0}}, "params.fallback.after_seconds must be a number above 0"),
        ({"model": BOTH}, {"fallback": {"after_seconds": True}}, "params.fallback.after_seconds must be a number"),
        ({"model": BOTH}, {"fallback": {"on": ["5xx"], "after_seconds": 1}}, "needs the word timeout"),
        ({"model": BOTH}, {"hedge": {"after_seconds": -1}}, "params.hedge.after_seconds must be a number above 0"),
        ({"model": BOTH}, {"hedge": {}}, "params.hedge needs after_seconds"),
        ({"model": BOTH}, {"hedge": "after p100"}, "params.hedge: 'after p100' is not known. Write 'after p95'"),
        ({"model": GPT}, {"fallback": {"on": ["5xx"]}}, "is for several models, and inputs.model names one."),
        ({}, {"model": [GPT], "fallback": {}}, "is for several models, and params.model names one."),
    ]
    wrong = []
    for inputs, params, says in rows:
        refusal = str(site.refusal_of(executor, inputs=words | inputs, params=params))
        if says not in refusal:
            wrong.append((inputs, params, refusal))
    assert wrong == []


@pytest.mark.parametrize("tools", [["weather"], [TOOL]])
def test_a_model_that_is_known_to_take_no_tools_is_refused_for_an_agent(site: LlmSite, tools: list[Any]) -> None:
    inputs = {"prompt": "Hi", "tools": tools, "model": [GPT, NO_TOOLS]}
    assert f"{NO_TOOLS} is known to take no tools" in str(site.refusal_of(EXECUTOR, inputs=inputs))
    embedding = inputs | {"model": [GPT, "openai/text-embedding-3-small"]}
    assert "openai/text-embedding-3-small is known to take no tools" in str(site.refusal_of(EXECUTOR, inputs=embedding))
    unknown = inputs | {"model": [GPT, "corp/any-model"]}
    assert site.run(EXECUTOR, unknown).task["status"] == "completed"


@pytest.mark.crews
def test_crews_are_checked_too(site: LlmSite) -> None:
    works = {"agents": {"ada": {"role": "Reader"}}}
    params = {"works": works, "model": BOTH, "fallback": {"on": ["never"]}}
    assert "params.fallback.on: 'never' is not known." in str(site.refusal_of("crewai_executor", params=params))


# --- races by hand ---


@dataclass
class Asked:
    """One request, which a test answers."""

    prompt: Prompt
    heard: Callable[[str], None]
    end: "asyncio.Future[Completion]"
    is_cancelled: bool = False


@dataclass
class ByHand:
    """Models whose requests begin with the `greeting`, if there is one, and wait for what the test says."""

    greeting: str = ""
    asked: list[Asked] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(
        self,
        prompt: Prompt,
        *,
        spent: Callable[[Json], None],
        heard: Callable[[str], None],
        thought: Callable[[str], None] = ignore,
    ) -> Completion:
        asked = Asked(prompt, heard, asyncio.get_running_loop().create_future())
        self.asked.append(asked)
        self.arrived.set()
        if self.greeting:
            heard(self.greeting)
        try:
            return await asked.end
        except asyncio.CancelledError:
            asked.is_cancelled = True
            raise Stopped(result=prompt.model) from None

    async def check(self, prompt: Prompt) -> None:
        raise NotImplementedError

    async def request(self, number: int) -> Asked:
        """Return the request of this number, from 1, once it is sent."""
        while len(self.asked) < number:
            self.arrived.clear()
            await self.arrived.wait()
        return self.asked[number - 1]


def completion(model: str) -> Completion:
    return Completion(content=model, model=model, usage={"cost_usd": None})


@dataclass
class Race:
    models: ByHand
    answer: "asyncio.Task[Completion]"
    words: list[str]
    logs: list[str]


def race(
    *models: str,
    greeting: str = "",
    hedge: float | str | None = None,
    latencies: Latencies | None = None,
    **fallback: Any,
) -> Race:
    by_hand, words, logs = ByHand(greeting=greeting), list[str](), list[str]()
    first, *others = models
    prompt = Prompt(
        model=first,
        others=others,
        messages=[],
        run_id="run-1",
        user_id="alice",
        fallback=fallback or None,
        hedge={"after_seconds": hedge} if isinstance(hedge, float) else hedge,
    )
    ask = WithFallbacks(by_hand, log=logs.append, latencies=latencies or Latencies()).ask(
        prompt, spent=lambda _: None, heard=words.append
    )
    return Race(by_hand, asyncio.create_task(ask), words, logs)


async def test_the_request_that_begins_first_goes_on_alone() -> None:
    run = race("a/1", "b/2", hedge=0.001)
    slow, fast = await run.models.request(1), await run.models.request(2)
    fast.heard("two ")
    slow.heard("one ")
    await asyncio.sleep(0)
    fast.heard("three")
    fast.end.set_result(completion("b/2"))
    assert (await run.answer).model == "b/2"
    assert (run.words, slow.is_cancelled) == (["two ", "three"], True)


async def test_the_first_request_may_still_answer_after_the_second_was_sent() -> None:
    run = race("a/1", hedge=0.001)
    first, second = await run.models.request(1), await run.models.request(2)
    assert (first.prompt.model, second.prompt.model) == ("a/1", "a/1")
    first.end.set_result(completion("a/1"))
    assert (await run.answer).content == "a/1"
    assert second.is_cancelled


def asking(model: str, api_base: str | None = None) -> Prompt:
    return Prompt(model=model, messages=[], run_id="run-1", user_id="alice", api_base=api_base)


def test_the_delay_is_that_of_recent_answers_of_the_same_model() -> None:
    latencies, prompt = Latencies(), asking("a/1")
    for seconds in range(1, FEW):
        latencies.note(prompt, seconds)
    assert latencies.within(0.95, prompt) is None
    latencies.note(prompt, FEW)
    assert [latencies.within(share, prompt) for share in (0.5, 0.95, 0.99)] == [10, 19, 20]
    assert latencies.within(0.95, asking("b/2")) is None
    assert latencies.within(0.95, asking("a/1", "https://models.example.com")) is None
    for _ in range(RECENT):
        latencies.note(prompt, 0.001)
    assert latencies.within(0.95, prompt) == LEAST_SECONDS


async def test_a_second_request_is_sent_when_most_answers_would_have_begun() -> None:
    latencies = Latencies()
    for _ in range(FEW):
        latencies.note(asking("a/1"), 0.001)
    run = race("a/1", "b/2", hedge="after p95", latencies=latencies)
    await run.models.request(1)
    second = await run.models.request(2)
    second.end.set_result(completion("b/2"))
    assert (await run.answer).model == "b/2"
    assert run.logs == [f"a/1 has not begun to answer in {LEAST_SECONDS:g} s; a second request goes to b/2."]


async def test_no_second_request_is_sent_while_few_answers_are_known() -> None:
    run = race("a/1", "b/2", hedge="after p95")
    first = await run.models.request(1)
    first.end.set_result(completion("a/1"))
    assert (await run.answer).model == "a/1"
    assert len(run.models.asked) == 1


async def test_a_request_that_fails_beside_another_one_is_waited_for_no_longer() -> None:
    run = race("a/1", "b/2", "c/3", hedge=0.001)
    first, second = await run.models.request(1), await run.models.request(2)
    first.end.set_exception(ModelError("No.", permanent=True))  # no other model is asked because of this
    second.end.set_exception(ModelError("Busy.", kind="429"))
    third = await run.models.request(3)
    third.end.set_result(completion("c/3"))
    assert (await run.answer).model == "c/3"
    assert run.logs[-1] == "b/2 failed: Busy. c/3 is asked instead."


async def test_a_slow_answer_that_has_begun_is_not_given_up() -> None:
    run = race("a/1", "b/2", greeting="Well, ", hedge=0.001, after_seconds=0.001)
    slow = await run.models.request(1)
    await asyncio.sleep(0.01)
    slow.heard("yes.")
    slow.end.set_result(completion("a/1"))
    assert (await run.answer).model == "a/1"
    assert (run.words, len(run.models.asked)) == (["Well, ", "yes."], 1)


async def test_the_last_model_has_all_the_time() -> None:
    run = race("a/1", "b/2", after_seconds=0.001)
    first, last = await run.models.request(1), await run.models.request(2)
    await asyncio.sleep(0.01)
    assert not run.answer.done()
    last.end.set_result(completion("b/2"))
    assert (await run.answer).model == "b/2"
    assert first.is_cancelled


async def test_another_attempt_may_help_if_one_model_failed_for_a_time() -> None:
    run = race("a/1", "b/2")
    (await run.models.request(1)).end.set_exception(ModelError("Busy.", kind="429", retry_after_seconds=7))
    (await run.models.request(2)).end.set_exception(ModelError("No.", permanent=True))
    with pytest.raises(ExecutorError, match=r"None of 2 requests was answered. a/1: Busy. b/2: No.") as raised:
        await run.answer
    assert (raised.value.permanent, raised.value.retry_after_seconds) == (False, 7)


async def test_a_cancelled_call_stops_as_the_request_that_has_begun() -> None:
    run = race("a/1", "b/2", hedge=0.001)
    first, second = await run.models.request(1), await run.models.request(2)
    second.heard("two")
    run.answer.cancel()
    with pytest.raises(Stopped) as stopped:
        await run.answer
    assert (stopped.value.result, first.is_cancelled, second.is_cancelled) == ("b/2", True, True)


async def test_an_unknown_error_of_a_request_is_not_hidden() -> None:
    run = race("a/1", "b/2")
    (await run.models.request(1)).end.set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await run.answer
    assert len(run.models.asked) == 1
