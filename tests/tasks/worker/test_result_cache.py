"""The cache of results in workers: equal tasks take a result or wait for the one that makes the call, on whichever worker."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models import F
from django.db.models.functions import Now
from pytest_django import Settings

from a2a.methods import queries
from a2a.methods.params import Get
from accounts.callers import LOCAL, Caller
from llmkeys import named_secrets
from llmkeys.secret import Secret
from tasks.models import CachedResult, CallInFlight, ModelCall, Question, Run, Task
from tasks.queue import suspension
from tasks.queue.leases import SUSPENDED
from tasks.rules.exceptions import InvalidParams
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.trees import cached_results
from tasks.services.trees.editing import delete_task
from tasks.services.upkeep.housekeeping import keep_house
from tasks.services.waits import equal_calls
from tests.sections import replace
from tests.servers import until
from tests.tasks.trees import ALICE, BOB
from tests.workers import Json, Ran, WorkerThread, group, result_of

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]

VALUE = "the-value-of-the-secret-of-the-cache"


def asks(name: str, *, prompt: str = "Hi", cache: Any = "1h", **params: Any) -> Json:
    """A task that asks the demo model."""
    chat = {"prompt": prompt, "model": "demo/demo"}
    return {
        "id": name,
        "name": name,
        "schemas": {"method": "llm_executor"},
        "inputs": chat,
        "params": {"cache": cache, **params},
    }


def agent(name: str, *, cache: Any = "1h", **inputs: Any) -> Json:
    """An agent whose tool echoes what the demo model says."""
    task = asks(name, cache=cache)
    return task | {"inputs": task["inputs"] | {"tools": ["echo_executor"], **inputs}}


def steady(name: str, inputs: Json | None = None, *, cache: Any = "1h", **fields: Any) -> Json:
    """A task whose executor does what its inputs say."""
    params = {"cache": cache, **fields.pop("params", {})}
    method = {"method": "steady_executor"}
    return {"id": name, "name": name, "schemas": method, "inputs": inputs or {}, "params": params, **fields}


def start(*tasks: Json, caller: Caller = LOCAL) -> Run:
    return trees.execute_tree(caller=caller, tasks=list(tasks)).run


def ran(worker: WorkerThread, *tasks: Json, caller: Caller = LOCAL) -> Ran:
    run = start(*tasks, caller=caller)
    worker.work()
    return result_of(run)


def taken(task: Task) -> str | None:
    """The task whose result it took."""
    return None if task.cached_from is None else str(task.cached_from["task_id"])


def effects(folder: Path) -> list[str]:
    """What really happened, in its order."""
    return (folder / "effects").read_text().splitlines()


def waits(*runs: Run) -> bool:
    """Whether all of them wait, and no worker has them."""
    return Run.objects.filter(id__in=[run.id for run in runs], lease_owner=SUSPENDED).count() == len(runs)


def nothing_is_left() -> bool:
    return not CallInFlight.objects.exists() and not Question.objects.filter(closed_at=None).exists()


class Meanwhile:
    """A worker of its own, at work on a task until there is a file `gate`."""

    def __init__(self, folder: Path, name: str, **more: Any) -> None:
        self.inputs = {"gate": str(folder / "gate"), "effects": str(folder / "effects"), **more}
        self._gate = folder / "gate"
        self.run = start(steady(name, self.inputs))
        self._thread = threading.Thread(target=WorkerThread().work)
        self._thread.start()
        until(lambda: (folder / "effects").exists(), seconds=60, what="the start of the task")

    def waits(self, worker: WorkerThread, *runs: Run) -> None:
        """Return when these runs wait, whichever worker has had them."""
        worker.work()
        until(lambda: waits(*runs), seconds=60, what="the wait for the call")

    def open(self) -> Ran:
        """Let the task end."""
        self._gate.touch()
        return self.ended()

    def ended(self) -> Ran:
        self._thread.join()
        return result_of(self.run)


# --- a result is taken ---


def test_an_equal_task_takes_the_result_and_says_from_which(worker: WorkerThread) -> None:
    first = ran(worker, asks("first"))
    ended = ran(worker, asks("second"))
    task = ended.tasks["second"]
    assert (ended.run.status, task.status, task.attempt) == ("completed", "completed", 0)
    assert task.result == first.tasks["first"].result
    assert (task.token_usage, ModelCall.objects.count()) == (None, 1)
    stored = CachedResult.objects.get()
    cached_from = {"task_id": "first", "run_id": first.run.id, "at": stored.stored_at.isoformat()}
    assert task.cached_from == cached_from
    assert queries.detail(LOCAL, Get(task_id="second")).native["cached_from"] == cached_from
    assert "cached_from" not in queries.detail(LOCAL, Get(task_id="first")).native
    assert [event["cached_from"] for event in ended.events if event["type"] == "task_completed"] == [cached_from]
    assert nothing_is_left()
    assert Task.objects.get(id="first").cached_from is None


def test_what_differs_is_another_call(worker: WorkerThread) -> None:
    ran(worker, asks("first"))
    others = [
        asks("prompt", prompt="Ho"),
        asks("base", api_base="https://models.invalid"),
        steady("executor", {"prompt": "Hi", "model": "demo/demo"}),
        asks("shorter", cache={"for": "1h", "key": ["inputs.prompt"]}),
        {**asks("schema"), "schemas": {"method": "llm_executor", "input_schema": {"required": ["prompt"]}}},
        asks("checked", checks=[{"on": "output", "with": "secrets"}]),
        asks("later", timeout_seconds=60, retry={"max_attempts": 2}, keep=True),
    ]
    assert [taken(ran(worker, each).tasks[each["id"]]) for each in others] == [None] * 4 + ["first", None, "first"]


def test_a_key_of_its_own_says_what_counts(worker: WorkerThread) -> None:
    cache = {"for": "7d", "key": ["inputs.city.name", "inputs.days.0"]}
    ran(worker, steady("first", {"city": {"name": "Bern", "asked": 1}, "days": [3, 4]}, cache=cache))
    again = ran(worker, steady("again", {"city": {"name": "Bern", "asked": 2}, "days": [3]}, cache=cache))
    other = ran(worker, steady("other", {"city": {"name": "Bern"}, "days": [4]}, cache=cache))
    assert (taken(again.tasks["again"]), taken(other.tasks["other"])) == ("first", None)
    missing = ran(worker, steady("missing", {"city": "Bern", "days": []}, cache=cache))
    error = missing.tasks["missing"].error or ""
    assert error.startswith("params.cache.key: the inputs have nothing at 'inputs.city.name'. Correct the inputs")


@pytest.mark.parametrize("cache", ["1h", {"for": "1h", "key": ["inputs.prompt"]}])
def test_the_texts_of_a_model_count_as_they_are_filled(worker: WorkerThread, cache: Any) -> None:
    items = {"id": "each", "name": "each", "parent_id": "all", "params": {"for_each": {"items": [1, 2, 1]}}}
    say = asks("say", prompt="Say {{item}}", cache=cache) | {"parent_id": "each"}
    found = ran(worker, {"id": "all", "name": "all", "dependencies": ["each"]}, items, say)
    said = [found.tasks[f"say[{number}]"].result["content"] for number in range(3)]
    assert [text.rpartition(": ")[2] for text in said] == ["Say 1", "Say 2", "Say 1"]
    assert CachedResult.objects.count() == 2


def test_results_of_dependencies_count_and_their_ids_do_not(worker: WorkerThread) -> None:
    def tree(name: str, says: str) -> list[Json]:
        source = {"id": f"{name}-source", "name": "echo_executor", "inputs": {"says": says}}
        need = {"id": source["id"], "as": "before"}
        return group(
            name, source, steady(f"{name}-end", {"text": "{{before.says}}!"}, dependencies=[need], parent_id=name)
        )

    ran(worker, *tree("a", "Hi"))
    assert taken(ran(worker, *tree("b", "Hi")).tasks["b-end"]) == "a-end"
    assert taken(ran(worker, *tree("c", "Ho")).tasks["c-end"]) is None


def test_a_result_is_taken_for_its_time_and_replaced_on_request(worker: WorkerThread) -> None:
    ran(worker, steady("first"))
    CachedResult.objects.update(stored_at=Now() - timedelta(minutes=5))
    assert taken(ran(worker, steady("strict", cache="4m")).tasks["strict"]) is None
    assert taken(ran(worker, steady("again")).tasks["again"]) == "strict"
    refreshed = ran(worker, steady("fresh", cache={"for": "1h", "refresh": True}))
    assert (taken(refreshed.tasks["fresh"]), refreshed.tasks["fresh"].attempt) == (None, 1)
    assert taken(ran(worker, steady("newest")).tasks["newest"]) == "fresh"
    CachedResult.objects.update(expires_at=Now())
    assert taken(ran(worker, steady("expired")).tasks["expired"]) is None
    assert CachedResult.objects.count() == 1


def test_a_failure_is_no_result(worker: WorkerThread) -> None:
    retry = {"max_attempts": 2, "backoff_seconds": 0}
    for name in ("first", "second"):
        task = ran(worker, steady(name, {"then": "fail"})).tasks[name]
        assert (task.status, task.attempt) == ("failed", 1)
    assert not CachedResult.objects.exists()
    task = ran(worker, steady("third", {"fails_until_attempt": 2}, params={"retry": retry})).tasks["third"]
    assert (task.status, task.attempt, task.cached_from) == ("completed", 2, None)
    again = ran(worker, steady("fourth", {"fails_until_attempt": 2}))
    assert taken(again.tasks["fourth"]) == "third"
    assert nothing_is_left()


def test_a_task_that_runs_again_no_longer_says_from_where(worker: WorkerThread) -> None:
    ran(worker, steady("first"))
    ran(worker, steady("second"))
    CachedResult.objects.all().delete()
    run = trees.execute_again(caller=LOCAL, task_id="second").run
    worker.work()
    task = result_of(run).tasks["second"]
    assert (task.status, task.attempt, task.cached_from) == ("completed", 1, None)


# --- of one user ---


def test_no_user_takes_a_result_of_another_unless_they_share_it(worker: WorkerThread, settings: Settings) -> None:
    ran(worker, steady("a"), caller=ALICE)
    assert taken(ran(worker, steady("b"), caller=BOB).tasks["b"]) is None
    shared = {"for": "1h", "scope": "shared"}
    with pytest.raises(
        InvalidParams, match=r"params.cache.scope.*shared is not allowed by the operator \(cache.shared\)"
    ):
        start(steady("c", cache=shared), caller=ALICE)
    settings.APFLOW = replace(settings.APFLOW, cache=replace(settings.APFLOW.cache, shared=True))
    assert ran(worker, steady("c", cache=shared), caller=ALICE).tasks["c"].cached_from is None
    of_bob = ran(worker, steady("d", cache=shared), caller=BOB).tasks["d"].cached_from
    assert (of_bob["task_id"], of_bob["run_id"]) == (None, None)
    assert taken(ran(worker, steady("e", cache=shared), caller=ALICE).tasks["e"]) == "c"
    for cache, inputs, why in (
        (shared | {"key": ["inputs.x"]}, {"x": 1}, "shared needs the default key"),
        (shared, {"x": "{{secret.crm}}"}, "shared is not for a task with a secret"),
    ):
        named_secrets.set_secret(user_id="alice", name="crm", value=Secret(VALUE))
        with pytest.raises(InvalidParams, match=why):
            start(steady("f", inputs, cache=cache), caller=ALICE)


def test_the_name_of_a_secret_counts_and_its_value_is_nowhere(worker: WorkerThread) -> None:
    named_secrets.set_secret(user_id="alice", name="crm", value=Secret(VALUE))
    named_secrets.set_secret(user_id="alice", name="erp", value=Secret(VALUE))
    first = ran(worker, steady("first", {"token": "{{secret.crm}}"}), caller=ALICE).tasks["first"]
    assert first.result["inputs"] == {"token": "…"}
    named_secrets.set_secret(user_id="alice", name="crm", value=Secret(f"another-{VALUE}"))
    again = ran(worker, steady("again", {"token": "{{secret.crm}}"}), caller=ALICE)
    other = ran(worker, steady("other", {"token": "{{secret.erp}}"}), caller=ALICE)
    assert (taken(again.tasks["again"]), taken(other.tasks["other"])) == ("first", None)
    assert VALUE not in str(list(CachedResult.objects.values()))


# --- one call at a time ---


def test_equal_tasks_at_the_same_time_make_one_call(worker: WorkerThread) -> None:
    ended = ran(worker, *group("root", *(asks(f"t{number}") for number in range(20))))
    assert ended.run.status == "completed"
    assert ModelCall.objects.count() == 1
    attempts = sorted(task.attempt for name, task in ended.tasks.items() if name != "root")
    assert attempts == [0] * 19 + [1]
    (first,) = [task.id for task in ended.tasks.values() if task.attempt]
    assert {taken(task) for task in ended.tasks.values()} == {None, first}
    waits = [event["message"] for event in ended.events if event["type"] == "log"]
    assert waits == [f"waiting for the same call of task {first}"] * 19
    assert nothing_is_left()


def test_a_task_waits_without_a_worker_for_the_call_of_another(worker: WorkerThread, tmp_path: Path) -> None:
    first = Meanwhile(tmp_path, "first")
    run = start(steady("second", first.inputs))
    first.waits(worker, run)
    wait = queries.detail(LOCAL, Get(task_id="second")).native["wait"]
    assert (wait["kind"], wait["text"]) == ("call", "for the same call of task first")
    assert (wait["event"], wait["match"], wait["limit"], wait["until"]) == (None, None, None, None)
    assert Task.objects.get(id="second").status == "pending"
    first.open()
    worker.work()
    ended = result_of(run)
    assert (ended.run.status, taken(ended.tasks["second"])) == ("completed", "first")
    assert effects(tmp_path) == ["start first", "end first"]
    assert nothing_is_left()


def test_after_a_failure_the_next_task_makes_the_call(worker: WorkerThread, tmp_path: Path) -> None:
    first = Meanwhile(tmp_path, "first", fails_until_attempt=2)
    retry = {"max_attempts": 2, "backoff_seconds": 0}
    runs = [start(steady(name, first.inputs, params={"retry": retry})) for name in ("second", "third")]
    first.waits(worker, *runs)
    assert first.open().run.status == "failed"
    worker.work()
    (second, third) = [result_of(run) for run in runs]
    assert (second.run.status, third.run.status) == ("completed", "completed")
    together = [second.tasks["second"], third.tasks["third"]]
    assert sorted(taken(task) is None for task in together) == [False, True]
    assert nothing_is_left()


def test_after_a_cancellation_the_next_task_makes_the_call(worker: WorkerThread, tmp_path: Path) -> None:
    first = Meanwhile(tmp_path, "first")
    run = start(steady("second", first.inputs))
    first.waits(worker, run)
    cancels.ask(caller=LOCAL, task_ids=["first"], force=False, message="No longer")
    until(lambda: result_of(first.run).run.status == "cancelled", seconds=60, what="the cancellation")
    first.open()
    worker.work()
    assert result_of(run).tasks["second"].attempt == 1
    assert effects(tmp_path) == ["start first", "cancel first", "start second", "end second"]


def test_a_task_that_waits_can_be_cancelled_and_has_its_time(worker: WorkerThread, tmp_path: Path) -> None:
    first = Meanwhile(tmp_path, "first")
    cancelled = start(steady("cancelled", first.inputs))
    timed = start(steady("timed", first.inputs, params={"timeout_seconds": 3600}))
    first.waits(worker, cancelled, timed)
    cancels.ask(caller=LOCAL, task_ids=["cancelled"], force=False, message="No longer")
    assert Question.objects.filter(task_id="timed").update(expires_at=F("asked_at")) == 1
    suspension.resume_due()
    worker.work()
    for run in (cancelled, timed):
        until(lambda: result_of(run).run.finished_at, seconds=60, what="the end of the wait")  # noqa: B023
    assert result_of(cancelled).tasks["cancelled"].status == "cancelled"
    task = result_of(timed).tasks["timed"]
    assert (task.status, task.error) == ("failed", "Timed out while waiting for the same call of task first.")
    assert first.open().run.status == "completed"
    assert nothing_is_left()


def test_a_wait_for_a_call_that_nothing_makes_any_longer_ends(worker: WorkerThread, tmp_path: Path) -> None:
    first = Meanwhile(tmp_path, "first")
    run = start(steady("second", first.inputs))
    first.waits(worker, run)
    equal_calls.sweep()
    assert Question.objects.get(closed_at=None).answered_at is None
    CallInFlight.objects.update(run_id="deleted")
    assert equal_calls.void_calls().count() == 1
    equal_calls.sweep()
    first.open()
    worker.work()
    assert result_of(run).run.status == "completed"
    CallInFlight.objects.create(key="void", run_id="deleted", task_id="x")
    keep_house()
    assert nothing_is_left()


def test_a_call_that_waits_for_an_answer_holds_back_no_other(worker: WorkerThread) -> None:
    first, second = (start(steady(name, {"then": "ask"})) for name in ("first", "second"))
    worker.work()
    assert Question.objects.for_people().filter(closed_at=None).count() == 2
    assert not CallInFlight.objects.exists()
    cancels.ask(caller=LOCAL, task_ids=["first", "second"], force=False, message="Enough")
    worker.work()
    assert {result_of(run).run.status for run in (first, second)} == {"cancelled"}


# --- agents ---


def test_an_agent_works_each_time_and_its_models_answer_once(worker: WorkerThread, settings: Settings) -> None:
    executors = settings.APFLOW.executors
    executors = replace(executors, llm=replace(executors.llm, tools=("echo_executor",)))
    settings.APFLOW = replace(settings.APFLOW, executors=executors)
    first = ran(worker, agent("first"))
    assert (first.run.status, CachedResult.objects.count()) == ("completed", 2)
    again = ran(worker, agent("again"))
    assert again.tasks["again"].result["content"] == first.tasks["first"].result["content"]
    calls = ModelCall.objects.filter(task_id="again").order_by("step")
    assert [(call.total_tokens, call.cost_nanos, call.status) for call in calls] == [(0, 0, "completed")] * 2
    assert [call.content["tool_calls"] for call in calls] == [
        call.content["tool_calls"] for call in ModelCall.objects.filter(task_id="first").order_by("step")
    ]
    assert again.tasks["again"].token_usage is None
    said = [event["message"] for event in again.events if event["type"] == "log" and event["task_id"] == "again"]
    assert said == ["The answer of demo/demo is that to first, from the cache"] * 2
    assert [Task.objects.filter(spawned_by=name).count() for name in ("first", "again")] == [1, 1]
    assert again.tasks["again"].cached_from is None
    fresh = ran(worker, agent("fresh", cache={"for": "1h", "refresh": True}))
    assert (fresh.tasks["fresh"].token_usage or {})["total_tokens"] > 0
    assert set(CachedResult.objects.values_list("task_id", flat=True)) == {"fresh"}
    assert nothing_is_left()


# --- what is refused, and what is removed ---


def test_a_task_that_may_not_take_a_result_is_refused_by_name(test_executors: None) -> None:
    rest = {"schemas": {"method": "rest_executor"}}
    url = {"url": "https://example.com/"}
    cache = {"cache": "1h"}
    keyed = {"cache": {"for": "1h", "key": ["inputs.url"]}}
    python = {"schemas": {"method": "python_executor"}, "inputs": {"function": "nothing"}}
    checks = {"checks": [{"on": "output", "with": "secrets"}]}
    checked = agent("x") | {"params": cache | checks}
    table: list[tuple[Json, str | None]] = [
        ({"name": "echo_executor", "params": cache}, "is not for echo_executor: it does not say"),
        ({"name": "Group", "params": cache}, "is for tasks with an executor"),
        ({**python, "params": cache}, "is for functions that are marked with @python_function"),
        (agent("x", cache={"for": "1h", "key": ["inputs.prompt"]}), "cache.key: is not for llm_executor with these"),
        (agent("x", cache={"for": "1h", "scope": "shared"}), "cache.scope: is not for llm_executor with these inputs"),
        (checked, "cache: is not for an agent with params.checks"),
        (asks("x", conversation="c"), "is not for a task in a conversation"),
        (steady("x", params={"spawn": {}}), "is not for a task with params.spawn"),
        ({**rest, "inputs": url | {"method": "POST"}, "params": cache}, "is only for GET"),
        ({**rest, "inputs": url | {"headers": {"X": "y"}}, "params": cache}, "needs a key, because inputs.headers"),
        ({**rest, "inputs": url | {"auth": {"bearer": "x"}}, "params": cache}, "needs a key, because inputs.auth"),
        ({**rest, "inputs": url, "params": cache}, None),
        ({**rest, "inputs": url | {"headers": {"X": "y"}}, "params": keyed}, None),
    ]
    wrong = []
    for task, why in table:
        try:
            trees.create_tree(caller=LOCAL, tasks=[{"name": "x", **task}])
            said = None
        except InvalidParams as error:
            said = str(error)
        if (
            (why is None) != (said is None)
            or (why and "params.cache" not in str(said))
            or (why and why not in str(said))
        ):
            wrong.append((task, why, said))
    assert wrong == []


def test_what_a_result_fills_in_may_be_refused_when_the_task_runs(worker: WorkerThread) -> None:
    filled = {"id": "source", "name": "echo_executor", "inputs": {"method": "POST"}}
    schemas = {"method": "rest_executor", "input_schema": {"properties": {"method": {"type": "string"}}}}
    request = {"name": "request", "schemas": schemas, "inputs": {"url": "https://example.invalid/"}}
    more = {"id": "request", "parent_id": "root", "dependencies": ["source"], "params": {"cache": "1h"}}
    ended = ran(worker, *group("root", filled), {**request, **more})
    assert (ended.tasks["request"].error or "").startswith("params.cache is only for GET")


def test_results_go_with_their_tree(worker: WorkerThread) -> None:
    ran(worker, steady("first"))
    ran(worker, steady("other", {"x": 1}))
    ran(worker, *group("root", steady("part", {"x": 2})))
    assert CachedResult.objects.count() == 3
    delete_task(caller=LOCAL, task_id="part", force=True)
    delete_task(caller=LOCAL, task_id="first", force=True)
    assert [row.task_id for row in CachedResult.objects.all()] == ["other"]
    assert taken(ran(worker, steady("second")).tasks["second"]) is None


def test_housekeeping_removes_what_is_too_old_or_too_much(worker: WorkerThread, settings: Settings) -> None:
    for number in range(4):
        ran(worker, steady(f"a{number}", {"x": number}), caller=ALICE)
    ran(worker, steady("b", {"x": 0}), caller=BOB)
    CachedResult.objects.filter(task_id="a3").update(expires_at=Now())

    def left(**bounds: int) -> list[str]:
        settings.APFLOW = replace(settings.APFLOW, cache=replace(settings.APFLOW.cache, **bounds))
        keep_house()
        return list(CachedResult.objects.order_by("task_id").values_list("task_id", flat=True))

    assert left() == ["a0", "a1", "a2", "b"]
    assert left(entries_per_user=2) == ["a1", "a2", "b"]
    assert left(bytes_per_user=1024) == ["a1", "a2", "b"]
    CachedResult.objects.filter(task_id="a1").update(size=1_000)
    assert left(bytes_per_user=1024) == ["a2", "b"]


def test_people_see_and_clear_their_own(worker: WorkerThread) -> None:
    ran(worker, steady("a0", {"x": 0}), caller=ALICE)
    ran(worker, steady("a1", {"x": 1}), caller=ALICE)
    ran(worker, asks("a2"), caller=ALICE)
    ran(worker, steady("b"), caller=BOB)
    assert [(row.executor, row.results) for row in cached_results.list_cached(ALICE)] == [
        ("llm_executor", 1),
        ("steady_executor", 2),
    ]
    assert cached_results.clear(ALICE, executor="echo_executor") == 0
    assert cached_results.clear(ALICE, executor="steady_executor") == 2
    assert cached_results.clear(BOB, flow="unknown") == 0
    assert cached_results.clear(ALICE) == 1
    assert [row.task_id for row in CachedResult.objects.all()] == ["b"]


def test_a_run_without_the_cache_asks_nothing_about_it(worker: WorkerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("It was asked.")

    for name in ("look", "take", "settle", "end_calls"):
        monkeypatch.setattr(equal_calls, name, refuse)
    ended = ran(worker, *group("root", *({**steady(name), "params": None} for name in "abc")))
    assert ended.run.status == "completed"
