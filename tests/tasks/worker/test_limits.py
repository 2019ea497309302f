"""Named limits in workers: a task beyond one waits for its turn without a worker, users take turns, and nothing is counted twice."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from random import Random
from typing import Any

import pytest
from django.db import connection
from django.db.models import Sum
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from a2a.methods import queries
from a2a.methods.params import Get
from accounts.callers import LOCAL, Caller
from tasks.models import Flow, LimitPlace, ModelCall, Question, Run, RunTag, SharedLimit, Task, WorkerProcess
from tasks.queue import leases
from tasks.queue.clock import database_time
from tasks.queue.leases import SUSPENDED
from tasks.rules.exceptions import InvalidParams
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.waits import named_limits
from tasks.services.waits.limit_waits import Asking, SharedLimits, forget_shares, leave
from tasks.status import WaitKind
from tasks.worker.supervisor import serve_limits
from tasks.worker.task_limits import TaskLimits
from tests.sections import replace
from tests.servers import until
from tests.tasks.services.trees.test_idempotency import together
from tests.tasks.trees import ADMIN, ALICE, BOB
from tests.workers import Json, WorkerThread, group, result_of, step

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]

ONE = {"one": {"match": {"executor": "scripted_executor"}, "requests_per_minute": 1}}
Limited = Callable[[Json | None], WorkerThread]


@pytest.fixture
def limited(settings: Settings, transactional_db: None, test_executors: None) -> Iterator[Limited]:
    """A worker with these limits."""
    workers = list[WorkerThread]()

    def make(shared: Json | None) -> WorkerThread:
        limits = replace(settings.APFLOW.limits, shared=shared)
        settings.APFLOW = replace(settings.APFLOW, limits=limits)
        workers.append(WorkerThread())
        return workers[-1]

    yield make
    for worker in workers:
        worker.settle()


def start(*tasks: Json, caller: Caller = LOCAL) -> Run:
    return trees.execute_tree(caller=caller, tasks=list(tasks)).run


def a_minute_passes(shared: Json) -> None:
    """For the limits: all is paid. Then a supervisor looks."""
    SharedLimit.objects.update(debts={})
    SharedLimits(shared).serve()


def statuses(run: Run) -> list[str]:
    return list(
        Task.objects.tree(run.root_id).exclude(executor_id=None).order_by("position").values_list("status", flat=True)
    )


def waiting() -> list[str]:
    """The tasks that wait for a limit, in their order."""
    found = Question.objects.filter(kind=WaitKind.LIMIT, answered_at=None, closed_at=None)
    return list(found.order_by("turn", "asked_at", "id").values_list("task_id", flat=True))


def test_tasks_beyond_the_limit_wait_in_order_without_a_worker_and_without_an_attempt(limited: Limited) -> None:
    worker = limited(ONE)
    run = start(*group("root", step("a"), step("b"), step("c")))
    worker.work()
    run.refresh_from_db()
    assert run.lease_owner == SUSPENDED
    assert statuses(run) == ["completed", "pending", "pending"]
    messages = [event["message"] for event in result_of(run).events if event["type"] == "log"]
    assert messages[0] == "waiting for limit one, about 60 s"
    assert [message.partition(", ")[0] for message in messages] == ["waiting for limit one"] * 2
    wait = queries.detail(LOCAL, Get(task_id="b")).native["wait"]
    assert (wait["kind"], wait["limit"], wait["text"]) == ("limit", "one", "for limit one, about 60 s")
    assert (wait["event"], wait["match"], wait["until"]) == (None, None, None)
    for ended in (2, 3):
        a_minute_passes(ONE)
        worker.work()
        assert statuses(run).count("completed") == ended
    ran = result_of(run)
    assert ran.run.status == "completed"
    assert [name for name in ran.order() if name != "root"] == ["a", "b", "c"]
    assert [ran.tasks[name].attempt for name in "abc"] == [1, 1, 1]
    assert not Question.objects.filter(closed_at=None).exists()


def test_users_take_turns(limited: Limited) -> None:
    worker = limited(ONE)
    runs = list[Run]()
    for number in range(4):  # each begins to wait before the next one is there
        runs.append(start(step(f"a{number}"), caller=ALICE))
        worker.work()
    runs.append(start(step("b0"), caller=BOB))
    worker.work()
    order = ["a0"]
    for _ in range(4):
        before = set(waiting())
        a_minute_passes(ONE)
        worker.work()
        order += before - set(waiting())
    assert order == ["a0", "a1", "b0", "a2", "a3"]
    assert {result_of(run).run.status for run in runs} == {"completed"}


def test_a_task_that_waits_for_a_limit_can_be_cancelled(limited: Limited) -> None:
    worker = limited(ONE)
    run = start(*group("root", step("a"), step("b"), step("c")))
    worker.work()
    cancels.ask(caller=LOCAL, task_ids=["b"], force=False, message="No longer")
    worker.work()
    assert statuses(run) == ["completed", "cancelled", "pending"]
    assert waiting() == ["c"]
    a_minute_passes(ONE)
    worker.work()
    assert statuses(run) == ["completed", "cancelled", "completed"]
    assert result_of(run).tasks["b"].attempt == 0


def test_each_attempt_takes_a_unit_and_a_wait_is_no_attempt(limited: Limited) -> None:
    worker = limited(ONE)
    retry = {"max_attempts": 3, "backoff_seconds": 0}
    run = start(step("a", inputs={"fails_until_attempt": 3}, params={"retry": retry}))
    for attempt in (1, 2, 3):
        worker.work()
        assert result_of(run).tasks["a"].attempt == attempt
        a_minute_passes(ONE)
    worker.work()
    assert result_of(run).run.status == "completed"


def test_with_per_user_each_has_a_limit_of_their_own(limited: Limited) -> None:
    shared = {"one": ONE["one"] | {"per": "user"}}
    worker = limited(shared)
    runs = [start(step(name), caller=caller) for name, caller in (("a", ALICE), ("b", BOB), ("c", BOB))]
    worker.work()
    assert waiting() == ["c"]
    a_minute_passes(shared)
    worker.work()
    assert {result_of(run).run.status for run in runs} == {"completed"}


def test_with_per_flow_each_has_a_limit_of_its_own(limited: Limited) -> None:
    shared = {"one": ONE["one"] | {"per": "flow"}}
    worker = limited(shared)
    runs = [start(step(name)) for name in ("a", "b", "c")]
    for run, flow in zip(runs, ("report", "digest", "digest"), strict=True):  # the second or the third waits
        fields = {"user_id": run.user_id, "name": flow}
        found, _ = Flow.objects.get_or_create({"created_at": Now(), "updated_at": Now()}, **fields)
        Run.objects.filter(id=run.id).update(flow_id=found.id)
    worker.work()
    assert waiting() in (["b"], ["c"])
    a_minute_passes(shared)
    worker.work()
    assert {result_of(run).run.status for run in runs} == {"completed"}


def test_a_task_joins_a_limit_by_its_name_and_needs_a_unit_of_each(limited: Limited) -> None:
    shared = ONE | {"two": {"requests_per_minute": 1}}
    worker = limited(shared)
    echo = {"id": "e", "name": "e", "schemas": {"method": "echo_executor"}, "params": {"limits": ["two"]}}
    first, second = start(echo), start(step("s", params={"limits": ["two"]}))
    worker.work()
    assert result_of(first).run.status == "completed"
    (wait,) = Question.objects.filter(closed_at=None)
    assert wait.event == "two"
    SharedLimit.objects.filter(key="two").update(debts={})
    SharedLimits(shared).serve()
    worker.work()
    assert result_of(second).run.status == "completed"
    with pytest.raises(InvalidParams, match=r"names 'tow', which is no limit of this installation.*Did you mean 'two'"):
        start(step("x", params={"limits": ["tow"]}))
    with pytest.raises(InvalidParams, match="must be a list of 1 to 20 names"):
        start(step("x", params={"limits": "two"}))


def test_a_limit_matches_the_host_that_gets_the_request(limited: Limited) -> None:
    shared = {"crm": {"match": {"host": "crm.invalid", "pool": "loop"}, "requests_per_minute": 1}}
    worker = limited(shared)

    def request(name: str, host: str) -> Json:
        inputs: dict[str, Any] = {"url": f"https://{host}/x", "method": "GET"}
        return {"id": name, "name": name, "schemas": {"method": "rest_executor"}, "inputs": inputs}

    for number, host in enumerate(["crm.invalid", "other.invalid", "crm.invalid"]):
        start(request(f"r{number}", host))
    worker.work()
    assert waiting() == ["r2"]


def test_places_are_given_back_at_the_end_of_an_attempt(limited: Limited) -> None:
    shared = {"few": {"match": {"executor": "scripted_executor"}, "at_once": 2}}
    worker = limited(shared)
    others = start({"id": "others", "name": "echo_executor"})
    LimitPlace.objects.bulk_create([LimitPlace(key="few", run=others, task_id=f"{number}") for number in range(2)])
    Run.objects.filter(id=others.id).update(lease_owner=SUSPENDED)
    run = start(*group("root", *(step(name) for name in "abc")))
    worker.work()
    assert waiting() == ["a", "b", "c"]
    assert [event["message"] for event in result_of(run).events if event["type"] == "log"] == [
        "waiting for limit few"
    ] * 3
    LimitPlace.objects.filter(task_id="1").delete()
    SharedLimits(shared).serve()
    assert set(LimitPlace.objects.values_list("task_id", flat=True)) == {"0", "a"}
    worker.work()
    assert waiting() == ["b", "c"]
    LimitPlace.objects.filter(task_id="0").delete()
    SharedLimits(shared).serve()
    assert set(LimitPlace.objects.values_list("task_id", flat=True)) == {"b", "c"}
    worker.work()
    assert result_of(run).run.status == "completed"
    retry = {"max_attempts": 2, "backoff_seconds": 0}
    again = start(step("f", inputs={"fails_until_attempt": 2}, params={"retry": retry}))
    worker.work()
    assert result_of(again).tasks["f"].attempt == 2
    assert not LimitPlace.objects.exists()


def test_a_place_belongs_to_a_task_in_an_unfinished_run_and_a_repeated_task_has_one() -> None:
    limits = SharedLimits({"few": {"at_once": 2}})
    runs = [start({"id": name, "name": "echo_executor"}) for name in "abc"]
    ask = [Asking("local", run.id, run.root_id) for run in runs]
    assert limits.take("few", ask) == {ask[2]: 0.0}
    assert limits.take("few", [ask[0]]) == {}
    assert limits.take("few", [ask[2]]) == {ask[2]: 0.0}
    Run.objects.filter(id=runs[1].id).update(finished_at=Now())
    assert limits.take("few", [ask[2]]) == {}
    assert LimitPlace.objects.filter(key="few").count() == 3


@pytest.mark.parametrize("shared", [None, {"other": {"requests_per_minute": 1}}])
def test_a_task_continues_when_its_limit_is_no_longer_configured(limited: Limited, shared: Json | None) -> None:
    run = start(*group("root", step("a"), step("b")))
    limited(ONE).work()
    assert waiting() == ["b"]
    worker = limited(shared)
    SharedLimits(shared or {}).serve()
    worker.work()
    assert result_of(run).run.status == "completed"


def test_without_limits_a_start_makes_no_query_about_them(limited: Limited) -> None:
    worker = limited(None)
    run = start(step("a"))
    worker.work()
    assert result_of(run).run.status == "completed"
    assert not SharedLimit.objects.exists()


def test_processes_that_ask_at_once_get_no_more_than_there_is() -> None:
    limits = {"one": {"requests_per_minute": 100}}
    SharedLimits(limits).take("one", [Asking("alice", "run", "first")])
    began = SharedLimit.objects.get().seen_at

    def take() -> int:
        shared = SharedLimits(limits)
        return sum(not shared.take("one", [Asking("alice", "run", f"{number}")]) for number in range(5))

    granted = 1 + sum(together(8, take))
    row = SharedLimit.objects.get()
    assert granted <= 1 + (row.seen_at - began).total_seconds() / 0.6 + 1e-3
    assert row.debts["requests_per_minute"] <= 0.6


# --- calls of models ---

CALLS = {"demo": {"match": {"provider": "demo"}, "requests_per_minute": 1}}


def asks(name: str, *, params: Json | None = None, **inputs: Any) -> Json:
    """A task that asks the demo model."""
    chat = {"prompt": "Hi", "model": "demo/demo", **inputs}
    return {"id": name, "name": name, "schemas": {"method": "llm_executor"}, "inputs": chat, "params": params}


def test_a_call_of_a_model_beyond_its_limit_waits_without_a_worker(limited: Limited) -> None:
    worker = limited(CALLS)
    run = start(*group("root", asks("a"), asks("b")))
    worker.work()
    run.refresh_from_db()
    assert (run.lease_owner, statuses(run)) == (SUSPENDED, ["completed", "in_progress"])
    assert waiting() == ["b"]
    a_minute_passes(CALLS)
    worker.work()
    ended = result_of(run)
    assert (ended.run.status, ended.tasks["b"].attempt) == ("completed", 1)
    assert ModelCall.objects.count() == 2


def test_a_later_call_of_an_agent_waits_too_and_no_tool_is_called_twice(limited: Limited, settings: Settings) -> None:
    executors = settings.APFLOW.executors
    executors = replace(executors, llm=replace(executors.llm, tools=("echo_executor",)))
    settings.APFLOW = replace(settings.APFLOW, executors=executors)
    worker = limited(CALLS)
    run = start(asks("agent", tools=["echo_executor"]))
    worker.work()
    assert waiting() == ["agent"]
    a_minute_passes(CALLS)
    worker.work()
    ended = result_of(run)
    assert (ended.run.status, ended.run.root_id) == ("completed", "agent")
    assert Task.objects.filter(root_id="agent", executor_id="echo_executor").count() == 1
    assert (ModelCall.objects.count(), Task.objects.get(id="agent").attempt) == (2, 1)


def test_a_call_that_cannot_be_made_again_waits_where_it_is(limited: Limited) -> None:
    worker = limited(CALLS)
    start(asks("first"))
    worker.work()
    run = start(asks("inside", params={"pool": "thread"}))
    at_work = threading.Thread(target=worker.work)
    at_work.start()
    until(lambda: waiting() == ["inside"], seconds=60, what="the wait")
    assert statuses(run) == ["in_progress"]
    a_minute_passes(CALLS)
    at_work.join()
    assert result_of(run).run.status == "completed"
    assert not Question.objects.filter(closed_at=None).exists()


def test_tokens_are_taken_by_an_estimate_and_settled_by_what_was_used(limited: Limited) -> None:
    worker = limited({"tokens": {"match": {"model": "demo/demo"}, "tokens_per_minute": 100}})
    run = start(asks("a", max_tokens=500))
    worker.work()
    used = (result_of(run).tasks["a"].token_usage or {})["total_tokens"]
    assert 0 < used < 100
    assert 0 < SharedLimit.objects.get().debts["tokens_per_minute"] <= used * 0.6


def test_a_service_that_asks_for_time_gets_it_from_all(limited: Limited) -> None:
    limits = SharedLimits({"crm": {"requests_per_second": 100}})
    ask = [Asking("local", "run", f"{number}") for number in range(2)]
    assert limits.take("crm", ask[:1]) == {}
    limits.hold("crm", [1_000.0])
    (seconds,) = SharedLimits({"crm": {"requests_per_second": 100}}).take("crm", ask[1:]).values()
    assert 900 < seconds <= 1_000


def test_a_limit_that_never_bites_is_asked_rarely_and_one_that_bites_each_time() -> None:
    limits = SharedLimits({"wide": {"requests_per_minute": 10**6}, "tight": {"requests_per_minute": 600}})
    for key, ahead in (("wide", 256), ("tight", 0)):
        assert limits.take(key, [Asking("local", "run", key)]) == {}
        assert sum(limits.has_ahead(key, Asking("local", "run", key)) for _ in range(1_000)) == ahead
    wide = SharedLimit.objects.get(key="wide")
    assert wide.debts["requests_per_minute"] == pytest.approx(257 * 60 / 10**6)


def test_only_the_limits_of_the_service_that_asked_for_time_are_held_for_a_minute_at_most() -> None:
    given = {
        "crm": {"match": {"host": "crm.example.com"}, "requests_per_minute": 60},
        "other": {"match": {"host": "other.example.com"}, "requests_per_minute": 60},
        "rest": {"match": {"executor": "rest_executor"}, "requests_per_minute": 60},
        "paid": {"match": {"provider": "openai"}, "tokens_per_minute": 6_000},
    }

    async def hold() -> None:
        limits = TaskLimits(given)
        await limits.hold({"host": ["crm.example.com"], "executor": ["rest_executor"]}, "alice", 86_400.0)
        await limits.hold({"provider": ["openai"]}, "alice", 5.0)

    asyncio.run(hold())
    debts = {row.key: row.debts for row in SharedLimit.objects.all()}
    assert debts == {"crm": {"requests_per_minute": 60.0}, "paid": {"tokens_per_minute": pytest.approx(5.59)}}


# --- changes while workers run ---


def test_a_limit_that_is_set_holds_tasks_back_until_it_is_deleted(limited: Limited) -> None:
    named_limits.set_limit(ADMIN, name="stop", given={"match": {"executor": "scripted_executor"}, "at_once": 0})
    worker = limited(None)
    run = start(step("a"))
    worker.work()
    assert waiting() == ["a"]
    (listed,) = named_limits.list_limits(ADMIN)
    assert (listed.name, listed.waiting, listed.at_work) == ("stop", 1, 0)
    limits = SharedLimits({})
    limits.refresh()
    assert limits.serve() == 1.0
    assert named_limits.delete_limit(ADMIN, name="stop")
    limits.refresh()
    limits.serve()
    worker.work()
    assert result_of(run).run.status == "completed"


@pytest.mark.parametrize(("fact", "value"), [("user", "alice"), ("tag", "nightly"), ("flow", "report")])
def test_a_limit_matches_by_what_the_run_is(limited: Limited, fact: str, value: str) -> None:
    worker = limited({"stop": {"match": {fact: value}, "at_once": 0}})
    matching, other = start(step("a"), caller=ALICE), start(step("b"), caller=BOB)
    RunTag.objects.create(run_id=matching.id, tag="nightly", user_id="alice", created_at=matching.created_at)
    flow = Flow.objects.create(user_id="alice", name="report", created_at=Now(), updated_at=Now())
    Run.objects.filter(id=matching.id).update(flow_id=flow.id)
    worker.work()
    assert waiting() == ["a"]
    assert result_of(other).run.status == "completed"


def test_users_see_only_their_own_waits(limited: Limited) -> None:
    worker = limited(ONE)
    for name, caller in (("a", ALICE), ("b", ALICE), ("c", BOB)):
        start(step(name), caller=caller)
    worker.work()
    (of_bob,), (of_all,) = named_limits.list_limits(BOB), named_limits.list_limits(ADMIN)
    assert (of_bob.waiting, of_all.waiting) == (1, 2)
    assert [wait.task_id for wait in named_limits.get_limit(BOB, name="one")[1]] == ["c"]


# --- limits of users, pauses, costs ---


def test_a_limit_that_a_user_has_set_is_for_the_tasks_of_this_user_alone(limited: Limited) -> None:
    named_limits.set_limit(ALICE, name="own", given={"match": {"executor": "scripted_executor"}, "at_once": 0})
    named_limits.set_limit(BOB, name="own", given={"at_once": 1})
    worker = limited({"own": {"at_once": 0}})
    start(step("a"), caller=ALICE)
    other = start(step("b"), caller=BOB)
    worker.work()
    assert waiting() == ["a"]
    assert result_of(other).run.status == "completed"
    (of_all, of_alice) = sorted(named_limits.list_limits(ALICE), key=lambda each: each.waiting)
    assert (of_alice.name, of_alice.limit.owner, of_alice.waiting) == ("own", "alice", 1)
    assert (of_all.name, of_all.limit.owner, of_all.waiting) == ("own", "", 0)
    assert queries.detail(ALICE, Get(task_id="a")).native["wait"]["limit"] == "own"


def test_a_paused_flow_waits_visibly_and_is_resumed_in_order(limited: Limited) -> None:
    flow = Flow.objects.create(user_id="alice", name="report", created_at=Now(), updated_at=Now())
    named_limits.pause(ALICE, "flow", "report", owner="alice")
    worker = limited(None)
    runs = [start(step(name), caller=ALICE) for name in ("a", "b")]
    same_name = Flow.objects.create(user_id="bob", name="report", created_at=Now(), updated_at=Now())
    others = [start(step("own"), caller=ALICE), start(step("bobs"), caller=BOB)]
    Run.objects.filter(id__in=[run.id for run in runs]).update(flow_id=flow.id)
    Run.objects.filter(id=others[1].id).update(flow_id=same_name.id)
    worker.work()
    assert sorted(waiting()) == ["a", "b"]
    assert {result_of(run).run.status for run in others} == {"completed"}
    wait = queries.detail(ALICE, Get(task_id="a")).native["wait"]
    assert wait["text"].startswith("for the flow report: paused by alice since 20")
    assert wait["text"].endswith(" UTC")
    (paused,) = named_limits.list_pauses(ALICE)
    assert (paused.name, paused.waiting) == ("report", 2)
    assert named_limits.list_pauses(BOB) == []
    assert named_limits.resume(ALICE, "flow", "report", owner="alice")
    limits = SharedLimits({})
    limits.refresh()
    limits.serve()
    worker.work()
    assert [result_of(run).tasks[run.root_id].attempt for run in runs] == [1, 1]
    assert {result_of(run).run.status for run in runs} == {"completed"}


def test_a_paused_provider_lets_calls_wait(limited: Limited) -> None:
    named_limits.pause(ADMIN, "provider", "demo")
    worker = limited(None)
    run = start(asks("a"), caller=ALICE)
    worker.work()
    assert waiting() == ["a"]
    text = queries.detail(ALICE, Get(task_id="a")).native["wait"]["text"]
    assert text.startswith("for the provider demo: paused by an administrator since ")
    named_limits.resume(ADMIN, "provider", "demo")
    limits = SharedLimits({})
    limits.refresh()
    limits.serve()
    worker.work()
    assert result_of(run).run.status == "completed"


def test_a_start_costs_what_its_place_says(limited: Limited) -> None:
    shared = {"gpu": {"match": {"executor": "scripted_executor"}, "at_once": 4, "cost": "{{params.gpus}}"}}
    worker = limited(shared)
    others = start({"id": "others", "name": "echo_executor"})
    Run.objects.filter(id=others.id).update(lease_owner=SUSPENDED)
    LimitPlace.objects.create(key="gpu", run=others, task_id="others", places=2)
    runs = [start(step(name, params={"gpus": gpus})) for name, gpus in (("two", 2), ("three", 3), ("one", 1))]
    worker.work()
    assert (waiting(), result_of(runs[0]).run.status) == (["three", "one"], "completed")
    LimitPlace.objects.filter(task_id="others").delete()
    SharedLimits(shared).serve()
    assert dict(LimitPlace.objects.values_list("task_id", "places")) == {"three": 3, "one": 1}
    worker.work()
    assert {result_of(run).run.status for run in runs} == {"completed"}
    for gpus, why in ((5, "which is 5: more than its at_once of 4"), ("x", "must be a whole number from 1")):
        failing = start(step("never", params={"gpus": gpus}))
        worker.work()
        assert why in str(result_of(failing).tasks[failing.root_id].error)


def test_each_value_of_an_input_has_a_limit_of_its_own(limited: Limited) -> None:
    shared = {"each": {"match": {"executor": "echo_executor"}, "requests_per_minute": 1, "per": "{{inputs.customer}}"}}
    worker = limited(shared)
    for number, customer in enumerate(["x", "x", "y", None]):
        inputs = {} if customer is None else {"customer": customer}
        start({"id": f"{number}", "name": "echo_executor", "inputs": inputs})
    worker.work()
    assert waiting() == ["1"]


# --- shares ---

WIDE = {"wide": {"match": {"executor": "scripted_executor"}, "at_once": 1_000}}


def asking(run: str, *names: str) -> list[Asking]:
    return [Asking("local", run, name) for name in names]


def test_far_from_the_limit_tasks_have_places_of_the_share_of_their_process(limited: Limited) -> None:
    worker = limited(WIDE)
    run = start(*group("root", *(step(f"{number}") for number in range(40))))
    worker.work()
    assert result_of(run).run.status == "completed"
    (share,) = LimitPlace.objects.all()
    assert (share.run_id, share.key) == ("", "wide")
    assert share.places <= 40 + 1_000 // 32


def test_a_process_never_has_more_places_than_it_has_stored() -> None:
    now = 0.0
    first = SharedLimits(WIDE, steady=lambda: now, process_id="host/1/0")
    second = SharedLimits(WIDE, steady=lambda: now, process_id="host/2/0")
    (a, b, c) = asking("run", "a", "b", "c")
    assert first.take("wide", [a]) == {}
    assert LimitPlace.objects.get().places == 1 + 999 // 32
    started = [each for each in asking("run", *map(str, range(100))) if first.has_ahead("wide", each)]
    assert len(started) == 31
    assert not second.has_ahead("wide", b)
    second.take("wide", [b])
    assert LimitPlace.objects.get(task_id="host/2/0").places == 1 + (1_000 - 33) // 32
    now = 1.5
    first.leave("wide", a)
    assert not first.has_ahead("wide", c)
    first.give_back("wide", [None])
    assert LimitPlace.objects.get(task_id="host/1/0").places == 31
    for each in started:
        first.leave("wide", each)
    first.give_back("wide", [None])
    assert not LimitPlace.objects.filter(task_id="host/1/0").exists()
    assert first.shares() == []


def test_near_its_limit_each_task_has_a_place_of_its_own_and_a_change_ends_what_was_taken_in_advance() -> None:
    limits = SharedLimits(WIDE, process_id="host/1/0")
    run = start({"id": "r", "name": "echo_executor"})
    LimitPlace.objects.create(key="wide", run=run, task_id="others", places=975)
    assert limits.take("wide", asking(run.id, "a")) == {}
    assert LimitPlace.objects.get(task_id="a").places == 1
    LimitPlace.objects.all().delete()
    assert limits.take("wide", asking("run", "b")) == {}
    named_limits.set_limit(ADMIN, name="wide", given={"at_once": 0})
    limits.refresh()
    assert not limits.has_ahead("wide", asking("run", "c")[0])
    assert list(limits.take("wide", asking("run", "c")).values()) == [0.0]
    assert LimitPlace.objects.get().places == 1


def test_the_share_of_a_dead_process_is_given_back_and_that_of_a_living_one_is_not() -> None:
    here = leases.process_name()
    dead = f"{leases.this_host()}/999999/1.00"
    for owner in (here, dead, "elsewhere/1/1.00", "silent/1/1.00"):
        LimitPlace.objects.create(key="wide", run_id="", task_id=owner, places=5)
        leases.beat(process_id=owner, cluster_id="c")
    WorkerProcess.objects.filter(id="silent/1/1.00").update(beat_at=Now() - timedelta(hours=1))
    forget_shares(may_expire=lambda: False)
    owners = LimitPlace.objects.order_by("task_id").values_list("task_id", flat=True)
    assert set(owners) == {here, "elsewhere/1/1.00", "silent/1/1.00"}
    forget_shares(may_expire=lambda: True)
    assert set(owners.all()) == {here, "elsewhere/1/1.00"}


def test_a_task_of_a_share_that_waits_for_another_limit_keeps_its_place(limited: Limited) -> None:
    worker = limited(WIDE | ONE)
    run = start(*group("root", step("a"), step("b")))
    worker.work()
    assert waiting() == ["b"]
    assert list(LimitPlace.objects.filter(run_id=run.id).values_list("key", "task_id")) == [("wide", "b")]
    a_minute_passes(WIDE | ONE)
    worker.work()
    assert result_of(run).run.status == "completed"
    assert not LimitPlace.objects.filter(run_id=run.id).exists()


def test_a_wait_for_a_limit_that_was_deleted_meanwhile_ends(limited: Limited, settings: Settings) -> None:
    """A worker that does not know yet that the last limit is gone lets a task wait, when supervisors know of no limit at all."""
    worker = limited({"stop": {"match": {"executor": "scripted_executor"}, "at_once": 0}})
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, shared=None))
    is_over = threading.Event()
    supervisor = threading.Thread(target=serve_limits, args=[is_over])
    supervisor.start()
    try:
        run = start(step("a"))

        def is_completed() -> bool:
            worker.work()
            return bool(result_of(run).run.status == "completed")

        until(is_completed, seconds=60, what="the end of the wait")
    finally:
        is_over.set()
        supervisor.join()
    messages = [event["message"] for event in result_of(run).events if event["type"] == "log"]
    assert messages == ["waiting for limit stop, which lets nothing start (at_once: 0)"]


def test_ten_thousand_waits_of_one_user_delay_no_other_user(limited: Limited) -> None:
    shared = ONE | {"other": {"match": {"executor": "echo_executor"}, "requests_per_minute": 10**6}}
    worker = limited(shared)
    start(step("first"), caller=ALICE)
    worker.work()
    now = database_time()
    names = [f"w{number}" for number in range(10_000)]
    runs = [
        Run(id=name, root_id=name, target_id=name, user_id="alice", context_id=name, created_at=now) for name in names
    ]
    for run in runs:
        run.lease_owner = SUSPENDED
    Run.objects.bulk_create(runs, batch_size=500)
    waits = [
        Question(
            run_id=name, task_id=name, text="", kind="limit", event="one", user_id="alice", turn=turn, asked_at=now
        )
        for turn, name in enumerate(names, start=1)
    ]
    Question.objects.bulk_create(waits, batch_size=500)
    same, other = start(step("bobs"), caller=BOB), start({"id": "free", "name": "echo_executor"}, caller=BOB)
    worker.work()
    assert result_of(other).run.status == "completed"
    assert Question.objects.get(task_id="bobs").turn == 1
    for _ in range(2):  # the first of alice, and bob
        SharedLimit.objects.update(debts={})
        Question.objects.filter(user_id="alice", answered_at__isnull=False).update(closed_at=Now())
        SharedLimits(shared).serve()
    worker.work()
    assert result_of(same).run.status == "completed"
    with CaptureQueriesContext(connection) as captured:
        SharedLimits(shared).serve()
    assert len(captured) < 15
    assert Question.objects.filter(event="one", answered_at=None).count() == 10_000 - 1


@pytest.mark.parametrize("seed", range(6))
def test_processes_that_share_a_limit_never_have_more_at_work_than_it_allows(seed: int) -> None:
    """Tasks start and end at random in three processes, of which one dies now and then. The model counts those at work."""
    draw, now = Random(seed), 0.0
    most = draw.choice([3, 40, 100])
    given = {"wide": {"at_once": most}}
    run = start({"id": "r", "name": "echo_executor"})
    made = count()

    def process() -> SharedLimits:
        return SharedLimits(given, steady=lambda: now, process_id=f"host/{next(made)}/0")

    at_work = {process(): list[Asking]() for _ in range(3)}
    for number in range(400):
        limits = draw.choice(list(at_work))
        running, action = at_work[limits], draw.random()
        if action < 0.6:
            task = Asking("local", run.id, f"{number}", cost=draw.choice([1, 1, 2]))
            if limits.has_ahead("wide", task) or not limits.take("wide", [task]):
                running.append(task)
        elif action < 0.9 and running:
            task = running.pop(draw.randrange(len(running)))
            limits.leave("wide", task)
            LimitPlace.objects.filter(run_id=task.run_id, task_id=task.task_id).delete()
        elif action < 0.95:
            limits.give_back("wide", [None])
        elif action < 0.97:
            leave(limits._process_id)
            LimitPlace.objects.filter(task_id__in=[task.task_id for task in at_work.pop(limits)]).delete()
            at_work[process()] = []
        now += draw.choice([0.0, 0.1, 0.6])
        used = sum(task.cost for tasks in at_work.values() for task in tasks)
        stored = LimitPlace.objects.aggregate(places=Sum("places"))["places"] or 0
        assert used <= stored <= most, number
