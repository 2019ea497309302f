"""Waits for a time or an event: parked without a worker, ended once, and nothing is taken twice, even if workers die in between."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import F
from pytest_django import Settings

from a2a.methods import queries
from a2a.methods.params import Get
from accounts.callers import LOCAL, Caller, Role
from tasks.models import Question, Run, SentEvent
from tasks.queue import leases, suspension
from tasks.queue.leases import SUSPENDED
from tasks.rules.exceptions import InvalidParams, StatusConflict, TooManyWaits
from tasks.services import trees, waits
from tasks.services.runs import cancels
from tasks.services.upkeep.demo import as_demo
from tasks.services.waits import event_waits, sent_events
from tasks.services.waits.questions import answer, open_questions
from tasks.status import WaitKind
from tasks.storage.bulk import db_time
from tasks.worker import wait_room
from tasks.worker.changes import QuestionAsked
from tasks.worker.commit import commit
from tests.sections import replace
from tests.tasks.services.trees.test_idempotency import together
from tests.tasks.trees import ADMIN, ALICE, BOB
from tests.workers import Json, Ran, WorkerThread, group, result_of, step

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]

HOUR = 3600.0


def until(name: str = "wait", **inputs: Any) -> Json:
    return {"id": name, "name": name, "schemas": {"method": "wait_executor"}, "inputs": inputs or {"seconds": HOUR}}


def awaits(name: str = "wait", event: str = "paid", *, params: Json | None = None, **inputs: Any) -> Json:
    task = {"id": name, "name": name, "schemas": {"method": "event_executor"}, "inputs": {"event": event, **inputs}}
    return task if params is None else task | {"params": params}


def start(*tasks: Json, caller: Caller = LOCAL) -> Run:
    return trees.execute_tree(caller=caller, tasks=list(tasks)).run


def parked(worker: WorkerThread, *tasks: Json, caller: Caller = LOCAL) -> Run:
    run = start(*tasks, caller=caller)
    worker.work()
    run.refresh_from_db()
    assert (run.lease_owner, run.finished_at) == (SUSPENDED, None)
    return run


def send(event: str = "paid", payload: Any = None, *, event_id: str | None = None, caller: Caller = LOCAL) -> SentEvent:
    return asyncio.run(sent_events.send(caller=caller, event=event, payload=payload, event_id=event_id))


def time_passes(seconds: float = HOUR) -> None:
    """For all that waits."""
    open_ones = Question.objects.filter(closed_at=None)
    open_ones.update(
        asked_at=F("asked_at") - timedelta(seconds=seconds), expires_at=F("expires_at") - timedelta(seconds=seconds)
    )
    suspension.resume_due()


def finished(worker: WorkerThread, run: Run) -> Ran:
    worker.work()
    return result_of(run)


def test_a_user_has_room_for_so_many_waits(
    worker: WorkerThread, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, waits_per_user=2))
    monkeypatch.setattr(wait_room, "FULL_SECONDS", 0.0)
    run = parked(worker, *group("root", until("a"), awaits("b")), caller=ALICE)
    (third,) = finished(worker, start(until("c"), caller=ALICE)).tasks.values()
    assert third.error == (
        "Cannot wait: user 'alice' has 2 open questions and waits already (limits.waits_per_user). "
        "Answer or cancel some of them, and execute this task again."
    )
    parked(worker, until("of bob"), caller=BOB)
    cancels.ask(caller=ALICE, task_ids=["b"], force=False, message="No longer")
    finished(worker, run)
    parked(worker, until("d"), caller=ALICE)


@pytest.mark.both_engines
def test_waits_that_begin_in_two_workers_at_once_do_not_pass_the_limit(settings: Settings) -> None:
    """Each thread writes as the writer of a worker process does."""
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, waits_per_user=20))
    runs = [start(until(f"w{number}"), caller=ALICE) for number in range(50)]
    claims = iter(leases.claim(owner="worker/1/1", limit=50))
    begun = itertools.count()

    def begin() -> BaseException | None:
        claim = next(claims)
        number = next(begun)
        asked = QuestionAsked(
            run_id=claim.run_id,
            epoch=claim.epoch,
            token=claim.token,
            task_id=f"w{number}",
            question_id=f"q{number}",
            text="for a while",
            options=None,
            schema=None,
            assignees=None,
            alarms=None,
            alarm_at=None,
            memo="null",
            at=db_time(datetime.now(UTC)),
            expires_at=None,
            kind=WaitKind.TIME,
            limited_user="alice",
        )
        (error,) = commit([asked])
        return error

    errors = together(50, begin)
    assert [type(error) for error in errors if error is not None] == [TooManyWaits] * 30
    assert Question.objects.filter(closed_at=None).count() == 20
    Question.objects.filter(id__in=Question.objects.values("id")[:5]).update(closed_at=datetime.now(UTC))
    assert waits.take_places("alice", 10) == 5
    assert len(runs) == 50


# --- times ---


@pytest.mark.both_engines
def test_a_wait_parks_the_run_until_its_time(worker: WorkerThread) -> None:
    run = parked(worker, *group("root", until(), step("after", dependencies=["wait"])))
    assert suspension.resume_due() == 0
    left = suspension.seconds_until_due()
    assert left is not None and HOUR - 60 < left <= HOUR
    assert open_questions(LOCAL) == []
    time_passes()
    ran = finished(worker, run)
    assert ran.statuses() == {"root": "completed", "wait": "completed", "after": "completed"}
    assert ran.tasks["wait"].result["seconds"] == HOUR
    assert ran.tasks["wait"].attempt == 1
    assert [event["message"] for event in ran.events if event["type"] == "log"] == ["waiting for 3600 s"]
    assert all(event["result"] is None for event in ran.events if event["type"] == "log")


@pytest.mark.both_engines
def test_a_wait_until_a_time_ends_at_that_time(worker: WorkerThread) -> None:
    moment = datetime.now(UTC) + timedelta(hours=1)
    run = parked(worker, until(until=moment.astimezone().isoformat()))
    assert Question.objects.get().expires_at == moment
    time_passes()
    assert finished(worker, run).run.status == "completed"


def test_a_short_wait_and_one_that_is_past_need_no_alarm(worker: WorkerThread) -> None:
    run = start(
        *group("root", until("a", seconds=0.05), until("b", until="2020-01-01T00:00:00Z"), until("c", seconds=0))
    )
    ran = finished(worker, run)
    assert set(ran.statuses().values()) == {"completed"}
    assert ran.tasks["b"].result["waited_until"] == "2020-01-01T00:00:00+00:00"


@pytest.mark.parametrize("bad", ["tomorrow", "2030-01-01T00:00:00", "9999-12-31T00:00:00Z", ""])
def test_a_time_that_is_none_is_refused_with_the_tree(bad: str) -> None:
    with pytest.raises(InvalidParams, match="until"):
        start(until(until=bad))


def test_exactly_one_of_the_two(worker: WorkerThread) -> None:
    for inputs in ({"seconds": 1, "until": "2030-01-01T00:00:00Z"}, {"seconds": -1}, {"seconds": 367 * 86_400}):
        with pytest.raises(InvalidParams):
            start(until(**inputs))


def test_a_place_fills_the_time(worker: WorkerThread) -> None:
    first = step("first", inputs={"result": {"at": "2020-01-01T00:00:00Z"}})
    wait = until(until="{{first.inputs.result.at}}") | {"dependencies": ["first"]}
    ran = finished(worker, start(*group("root", first, wait)))
    assert ran.tasks["wait"].status == "completed", ran.tasks["wait"].error


def test_the_timeout_of_the_task_ends_a_longer_wait(worker: WorkerThread) -> None:
    run = parked(worker, until() | {"params": {"timeout_seconds": 600}})
    time_passes(601)
    assert finished(worker, run).tasks["wait"].error == "Timed out while waiting for 3600 s."


@pytest.mark.both_engines
def test_a_waiting_task_can_be_cancelled(worker: WorkerThread) -> None:
    run = parked(worker, *group("root", until(), awaits("event")))
    cancels.ask(caller=LOCAL, task_ids=["wait", "event"], force=False, message="Never mind")
    ran = finished(worker, run)
    assert [ran.tasks[name].status for name in ("wait", "event")] == ["cancelled", "cancelled"]
    assert send().woken == 0
    assert not Question.objects.filter(closed_at=None).exists()


@pytest.mark.both_engines
def test_waits_are_no_questions(worker: WorkerThread) -> None:
    run = parked(worker, *group("root", until(), awaits("event")))
    assert open_questions(LOCAL) == []
    for name in ("wait", "event"):
        with pytest.raises(StatusConflict):
            answer(caller=LOCAL, task_id=name, answer={})
    assert [wait.task_id for wait in waits.open_waits(LOCAL, run_id=run.id, limit=10)] == ["wait", "event"]


@pytest.mark.both_engines
def test_waits_come_back_in_the_order_of_their_ends(worker: WorkerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [parked(worker, until(f"w{number}", seconds=HOUR - 600 * number)) for number in range(5)]
    resumed = list[str]()
    monkeypatch.setattr(leases, "wake", resumed.extend)
    time_passes()
    assert resumed == [run.id for run in reversed(runs)]


# --- events ---


@pytest.mark.both_engines
def test_an_event_ends_the_wait_and_is_its_result(worker: WorkerThread) -> None:
    run = parked(worker, *group("root", awaits(match={"/order_id": "42"}), step("after", dependencies=["wait"])))
    assert send(payload={"order_id": "43"}).woken == 0
    assert send("other", {"order_id": "42"}).woken == 0
    sent = send(payload={"order_id": "42", "amount": 5}, event_id="evt_1")
    assert sent.woken == 1
    ran = finished(worker, run)
    result = ran.tasks["wait"].result
    assert result | {"received_at": ""} == {
        "event": "paid",
        "payload": {"order_id": "42", "amount": 5},
        "id": "evt_1",
        "received_at": "",
    }
    assert datetime.fromisoformat(result["received_at"]) == sent.received_at
    assert ran.tasks["after"].result["inputs"]["wait"]["id"] == "evt_1"
    assert Question.objects.get().closed_at is not None


@pytest.mark.both_engines
def test_the_same_id_is_one_event(worker: WorkerThread) -> None:
    run = parked(worker, awaits())
    assert send(payload=1, event_id="e").woken == 1
    assert finished(worker, run).run.status == "completed"
    run = parked(worker, awaits("again"))
    assert send(payload=1, event_id="e").woken == 1
    with pytest.raises(InvalidParams, match="was used for another event"):
        send(payload=2, event_id="e")
    run.refresh_from_db()
    assert run.lease_owner == SUSPENDED
    assert SentEvent.objects.count() == 1


@pytest.mark.both_engines
def test_one_event_wakes_all_waits_that_it_fits(worker: WorkerThread) -> None:
    runs = [
        parked(worker, awaits("a")),
        parked(worker, awaits("b", match={"/n": 1.0})),
        parked(worker, awaits("c", match={"": {"n": 1, "m": [True]}})),
        parked(worker, awaits("d", match={"/n": True})),
        parked(worker, awaits("e", match={"/n": 1, "/m/0": True})),
        parked(worker, awaits("f", match={"/n": 1, "/x": None})),
    ]
    assert send(payload={"m": [True], "n": 1}).woken == 4
    worker.work()
    assert [result_of(run).run.status for run in runs] == [
        "completed",
        "completed",
        "completed",
        "in_progress",
        "completed",
        "in_progress",
    ]


@pytest.mark.both_engines
def test_an_event_wakes_only_the_senders_own_waits(worker: WorkerThread) -> None:
    run = parked(worker, awaits(), caller=ALICE)
    assert send(caller=BOB).woken == 0
    assert send(caller=ADMIN).woken == 0
    assert send(caller=ALICE).woken == 1
    assert finished(worker, run).run.status == "completed"


@pytest.mark.both_engines
def test_more_waits_than_one_transaction_wakes(worker: WorkerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_events, "MOST_AT_ONCE", 2)
    run = parked(worker, *group("root", *(awaits(f"w{number}", match={"/a": 1}) for number in range(5))))
    assert send(payload={"a": 1}).woken == 5
    assert finished(worker, run).run.status == "completed"


@pytest.mark.parametrize(
    ("earlier", "inputs", "is_taken"),
    [
        pytest.param("since the run", {}, True, marks=pytest.mark.both_engines),
        ("since the run", {"match": {"/a": 2}}, False),
        ("before the run", {}, False),
        pytest.param("before the run", {"retain_seconds": 600}, True, marks=pytest.mark.both_engines),
        ("before the run", {"retain_seconds": 0}, False),
        pytest.param("long before the run", {"retain_seconds": 600}, False, marks=pytest.mark.both_engines),
    ],
)
def test_an_event_that_came_before_the_wait(worker: WorkerThread, earlier: str, inputs: Json, is_taken: bool) -> None:
    run = start(awaits(**inputs))
    assert send(payload={"a": 1}).woken == 0
    minutes = {"since the run": 0, "before the run": 5, "long before the run": 15}[earlier]
    SentEvent.objects.update(received_at=F("received_at") - timedelta(minutes=minutes))
    assert finished(worker, run).run.status == ("completed" if is_taken else "in_progress")


@pytest.mark.both_engines
def test_an_event_is_never_older_than_a_run_that_was_created_before_it() -> None:
    """Even if both are of the same millisecond: a wait takes no event that is older than its run."""
    for number in range(50):
        created_at = datetime.now(UTC)  # as that of a run
        assert send(payload=number).received_at >= created_at


@pytest.mark.both_engines
def test_the_first_of_the_earlier_events_is_taken_and_by_one_wait_of_a_run(worker: WorkerThread) -> None:
    run = start(*group("root", awaits("first"), awaits("second") | {"dependencies": ["first"]}))
    send(payload=1)
    send(payload=2)
    ran = finished(worker, run)
    assert [ran.tasks[name].result["payload"] for name in ("first", "second")] == [1, 2]


@pytest.mark.both_engines
def test_an_event_that_comes_while_a_wait_looks_back_is_taken(worker: WorkerThread) -> None:
    run = parked(worker, awaits())
    Question.objects.update(shape=None, digest=None)  # it has yet to look
    wait = Question.objects.get()
    looks = event_waits.look_back(LOCAL.user_id, [wait.id])
    assert send(payload=1).woken == 0
    (found,) = event_waits.take_or_open(LOCAL.user_id, list(looks.values())).values()
    assert found.reply is not None
    suspension.sweep()
    assert finished(worker, run).tasks["wait"].result["payload"] == 1


@pytest.mark.parametrize(
    "is_sent",
    [
        pytest.param("before", marks=pytest.mark.both_engines),
        pytest.param("while they look back", marks=pytest.mark.both_engines),
        "never",
    ],
)
def test_waits_that_begin_together_take_as_many_queries_as_one(
    worker: WorkerThread, django_assert_max_num_queries: Any, is_sent: str
) -> None:
    run = parked(worker, *group("root", *(awaits(f"w{number}", match={"/n": number % 3}) for number in range(30))))
    Question.objects.update(shape=None, digest=None)  # they have yet to look
    wait_ids = list(Question.objects.order_by("id").values_list("id", flat=True))
    if is_sent == "before":
        send(payload={"n": 1})
    with django_assert_max_num_queries(3):
        looks = event_waits.look_back(LOCAL.user_id, wait_ids)
    if is_sent == "while they look back":
        send(payload={"n": 1})
    with django_assert_max_num_queries(10):
        found = event_waits.take_or_open(LOCAL.user_id, [looks[wait_id] for wait_id in wait_ids])
    taken = {look.wait_id for look, question in found.items() if question.reply is not None}
    expected = Question.objects.filter(run=run, task_id__in=[f"w{number}" for number in range(1, 30, 3)])
    assert taken == (set() if is_sent == "never" else set(expected.values_list("id", flat=True)))
    assert {question.is_listening for look, question in found.items() if look.wait_id not in taken} == {True}


@pytest.mark.both_engines
def test_an_event_that_a_wait_took_stays_its_event(worker: WorkerThread) -> None:
    parked(worker, awaits())
    first, second = send(payload=1, event_id="1"), send(payload=2, event_id="2")
    wait = Question.objects.get()
    look = event_waits.Look(wait.id, second.id, second.id)
    ended = [event_waits.take_or_open(LOCAL.user_id, [look])[look], waits.end([wait.id])[wait.id]]
    assert [found.reply and found.reply.answer["id"] for found in ended] == ["1", "1"]
    assert Question.objects.get().taken_id == first.id


@pytest.mark.parametrize("on_timeout", ["fail", pytest.param("complete", marks=pytest.mark.both_engines)])
def test_a_wait_times_out(worker: WorkerThread, on_timeout: str) -> None:
    run = parked(worker, awaits(timeout_seconds=600, on_timeout=on_timeout))
    time_passes(601)
    assert send().woken == 0
    task = finished(worker, run).tasks["wait"]
    if on_timeout == "fail":
        assert (task.status, task.error) == ("failed", "Timed out while waiting for the event 'paid'.")
    else:
        assert (task.status, task.result) == ("completed", dict.fromkeys(("event", "payload", "id", "received_at")))


def test_an_event_in_time_counts_however_late_it_is_read(worker: WorkerThread) -> None:
    run = parked(worker, awaits(timeout_seconds=600, on_timeout="complete"))
    assert send(payload=1).woken == 1
    time_passes(601)
    assert finished(worker, run).tasks["wait"].result["payload"] == 1


@pytest.mark.both_engines
def test_a_wait_for_an_event_is_over_once_that_is_a_row(worker: WorkerThread) -> None:
    run = parked(worker, awaits(timeout_seconds=600, on_timeout="complete"))
    Question.objects.update(answered_at=datetime.now(UTC))  # as a worker that died then left it
    assert send().woken == 0
    suspension.sweep()
    assert finished(worker, run).tasks["wait"].result["event"] is None


@pytest.mark.both_engines
def test_an_event_whose_sender_died_wakes_its_waits_all_the_same(worker: WorkerThread) -> None:
    run = parked(worker, awaits())
    sent_events.store("local", "paid", 1, "e")
    sent_events.wake_forgotten()
    assert SentEvent.objects.get().woken is None  # it may still be at it
    SentEvent.objects.update(received_at=datetime.now(UTC) - timedelta(minutes=1))
    sent_events.wake_forgotten()
    assert SentEvent.objects.get().woken == 1
    assert finished(worker, run).tasks["wait"].result["payload"] == 1


@pytest.mark.both_engines
def test_an_event_that_nobody_was_told_of_is_found_by_the_next_sweep(worker: WorkerThread) -> None:
    run = parked(worker, awaits())
    sent = sent_events.store("local", "paid", 1, "e")
    Question.objects.update(taken_id=sent.id, answered_at=datetime.now(UTC))
    suspension.sweep()
    assert finished(worker, run).tasks["wait"].result["id"] == "e"


# --- the address of a wait ---


@pytest.mark.both_engines
def test_the_address_of_a_wait_ends_it_once(worker: WorkerThread) -> None:
    run = parked(worker, awaits(match={"/order_id": "42"}))
    other = parked(worker, awaits("other"))
    wait = waits.open_wait(LOCAL, task_id="wait")
    assert wait is not None
    token = str(event_waits.hook_url(wait)).removeprefix("/hooks/")
    assert event_waits.wait_of(token) == wait
    assert sent_events.take(wait, {"paid": True})
    assert not sent_events.take(wait, {"paid": False})
    assert event_waits.wait_of(token) is None
    result = finished(worker, run).tasks["wait"].result
    assert (result["event"], result["payload"]) == ("paid", {"paid": True})
    other.refresh_from_db()
    assert other.lease_owner == SUSPENDED
    assert SentEvent.objects.count() == 1


def test_a_token_of_something_else_opens_nothing(worker: WorkerThread) -> None:
    parked(worker, *group("root", until(), awaits("event")))
    for wait in Question.objects.all():
        real = event_waits._signer().sign(wait.id)
        for token in (wait.id, f"{real}x", real.swapcase(), f"x{real}", ".", ""):
            assert event_waits.wait_of(token) is None
    time = Question.objects.get(task_id="wait")
    assert event_waits.hook_url(time) is None
    assert event_waits.wait_of(event_waits._signer().sign(time.id)) is None


@pytest.mark.both_engines
def test_a_viewer_sees_the_wait_but_not_its_address(worker: WorkerThread) -> None:
    parked(worker, awaits())

    def wait_for(role: Role) -> Any:
        caller = Caller(user_id="local", role=role)
        return queries.detail(caller, Get(task_id="wait")).native["wait"]

    assert wait_for(Role.VIEWER)["hook_url"] is None
    assert wait_for(Role.OPERATOR)["hook_url"].startswith("/hooks/")
    assert wait_for(Role.VIEWER)["event"] == "paid"


# --- copies, demos, maps ---


def test_a_copy_waits_anew_and_a_finished_tree_runs_again(worker: WorkerThread) -> None:
    run = parked(worker, *group("root", awaits(), step("after", dependencies=["wait"])))
    send(payload=1, event_id="first")
    assert finished(worker, run).run.status == "completed"
    again = trees.execute_task(caller=LOCAL, task_id="root", copy_execution=True, copy_children=True).run
    worker.work()
    again.refresh_from_db()
    assert again.lease_owner == SUSPENDED  # the old event is older than this run
    assert send(payload=2, event_id="second").woken == 1
    ran = finished(worker, again)
    assert [task.result["id"] for task in ran.tasks.values() if task.name == "wait"] == ["second"]


def test_a_demo_waits_for_nothing(worker: WorkerThread) -> None:
    run = as_demo(trees.execute_tree, caller=LOCAL, tasks=group("root", until(), awaits("event"))).run
    ran = finished(worker, run)
    assert set(ran.statuses().values()) == {"completed"}
    assert ran.tasks["event"].result["id"] == "evt_1"


# --- what is kept ---


@pytest.mark.both_engines
def test_old_events_go_but_those_that_a_task_has_yet_to_read(worker: WorkerThread, settings: Any) -> None:
    parked(worker, awaits())
    kept = send(payload=1)
    gone = send("other")
    SentEvent.objects.update(received_at=datetime.now(UTC) - timedelta(days=31))
    assert list(sent_events.old_events()) == [gone]
    assert kept.woken == 1


@pytest.mark.both_engines
def test_a_user_has_so_many_events_and_the_oldest_go(settings: Any) -> None:
    most = settings.APFLOW.limits.events_per_user
    SentEvent.objects.bulk_create(
        SentEvent(user_id="local", event_id=str(number), event="e", received_at=datetime.now(UTC), woken=0)
        for number in range(most)
    )
    send(event_id="new")
    assert SentEvent.objects.count() == most
    assert not SentEvent.objects.filter(event_id="0").exists()
