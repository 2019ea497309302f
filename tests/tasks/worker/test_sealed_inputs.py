"""What a schema marks `writeOnly` is encrypted wherever inputs are stored, and executors get it as it was sent."""

from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings

from accounts.callers import Caller, Role
from llmkeys.cipher import CannotUnseal
from llmkeys.sealed_texts import is_sealed, opened
from tasks.models import FlowVersion, Run, Task
from tasks.services import flows, schedules, trees
from tasks.services.history import comparisons
from tasks.services.secrets.resealing import reseal
from tasks.services.trees import copies, editing, forks
from tests.workers import Json, Ran, WorkerThread, group, result_of

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
ADA = Caller(user_id="ada", role=Role.OPERATOR)
BOB = Caller(user_id="bob", role=Role.OPERATOR)
CANARY = "open sesame"
SCHEMA: Json = {"properties": {"token": {"type": "string", "writeOnly": True, "maxLength": 20}}}
TEXTS = (
    ("tasks_task", "inputs"),
    ("tasks_runinputs", "inputs"),
    ("tasks_flowversion", "definition"),
    ("tasks_schedule", "tasks"),
    ("tasks_schedule", "inputs"),
    ("tasks_question", "tree"),
)


def login(name: str = "login", *, token: str = CANARY, **fields: Any) -> Json:
    """A task whose result is its inputs."""
    schemas = {"method": "echo_executor", "input_schema": SCHEMA}
    return {"id": name, "name": name, "schemas": schemas, "inputs": {"token": token, "user": "ada"}, **fields}


def stored() -> str:
    """Everything that is stored of inputs."""
    with connection.cursor() as cursor:
        texts = []
        for table, column in TEXTS:
            cursor.execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")
            texts += [str(row[0]) for row in cursor.fetchall()]
    return "\n".join(texts)


def ran(worker: WorkerThread, execution: trees.Execution) -> Ran:
    worker.work()
    return result_of(execution.run)


def tokens(end: Ran) -> list[str]:
    """What the executors got."""
    return [task.result["token"] for task in end.tasks.values() if task.executor_id == "echo_executor"]


def execute(worker: WorkerThread, tasks: Any, *, caller: Caller = ADA) -> Ran:
    return ran(worker, trees.execute_tree(caller=caller, tasks=tasks))


def test_it_is_encrypted_and_the_executor_gets_it(worker: WorkerThread) -> None:
    end = execute(worker, login())
    assert (end.run.status, tokens(end)) == ("completed", [CANARY])
    assert CANARY not in stored()
    inputs = Task.objects.get(id="login").inputs
    assert (is_sealed(inputs["token"]), inputs["user"]) == (True, "ada")
    assert opened(inputs, owner="ada") == {"token": CANARY, "user": "ada"}


def test_copies_forks_and_further_runs_have_it(worker: WorkerThread) -> None:
    execute(worker, login())
    again = ran(worker, trees.execute_task(caller=ADA, task_id="login", copy_execution=True))
    forked = ran(worker, forks.fork(caller=ADA, task_id="login", start=["login"], inputs={}))
    other = ran(worker, forks.fork(caller=ADA, task_id="login", start=(), inputs={"login": {"token": "another"}}))
    assert [tokens(end) for end in (again, forked, other)] == [[CANARY], [CANARY], ["another"]]
    sent = copies.copy_tree(caller=ADA, task_id="login", save=False).requests
    assert tokens(execute(worker, sent)) == [CANARY]  # a client sends back what it got
    texts = stored()
    assert (CANARY in texts, '"another"' in texts) == (False, False)


def test_an_update_encrypts_what_it_brings_and_keeps_the_rest(worker: WorkerThread) -> None:
    trees.create_tree(caller=ADA, tasks=login())
    before = Task.objects.get(id="login").inputs
    editing.update_task(caller=ADA, task_id="login", changes={"inputs": before | {"user": "eve"}})
    assert Task.objects.get(id="login").inputs == before | {"user": "eve"}
    editing.update_task(caller=ADA, task_id="login", changes={"inputs": {"token": "another"}})
    assert tokens(ran(worker, trees.execute_task(caller=ADA, task_id="login"))) == ["another"]
    assert '"another"' not in stored()


def test_a_flow_and_its_inputs_have_it(worker: WorkerThread) -> None:
    filled = login("filled", token="{{run.inputs.token}}", dependencies=["login"], parent_id="login")
    flow: Json = {"caller": ADA, "name": "logs-in", "tasks": [login(), filled], "inputs_schema": SCHEMA}
    assert flows.save_flow(**flow).is_new
    assert not flows.save_flow(**flow).is_new  # the same flow, although each encryption of a text differs
    flow["tasks"] = [login(token="another"), filled]
    assert flows.save_flow(**flow).is_new
    end = ran(worker, flows.run_flow(caller=ADA, name="logs-in", inputs={"token": "of the run"}))
    assert sorted(tokens(end)) == ["another", "of the run"]
    schedules.create_schedule(
        caller=ADA, fields={"every_seconds": 3600, "flow": "logs-in", "inputs": {"token": "of the run"}}
    )
    schedules.create_schedule(caller=ADA, fields={"every_seconds": 3600, "tasks": login()})
    assert FlowVersion.objects.count() == 2
    for text in (CANARY, '"another"', "of the run"):
        assert text not in stored()


def test_parts_of_maps_and_trees_inside_have_it(worker: WorkerThread) -> None:
    each = {"for_each": {"items": [{"token": CANARY}, {"token": "another"}]}}
    inner = login("inner", parent_id="each", token="{{item.token}}")
    nested = {"id": "nested", "name": "nested", "schemas": {"method": "run_tree_executor"}}
    nested["inputs"] = {"tasks": [login("below", token="nested one")]}
    end = execute(worker, group("root", {"id": "each", "name": "each", "params": each}, inner, nested))
    worker.work()
    end = result_of(end.run)
    assert end.run.status == "completed", {name: task.error for name, task in end.tasks.items()}
    results = [end.tasks[name].result["token"] for name in ("each[0]", "each[1]", "nested") if name in end.tasks]
    assert "nested one" in results
    rows = Task.objects.filter(spawned_by="each").order_by("position")
    assert [opened(row.inputs["token"], owner="ada") for row in rows] == [CANARY, "another"]
    assert "nested one" not in stored()


def test_for_another_owner_it_means_nothing(worker: WorkerThread) -> None:
    execute(worker, login())
    sealed = Task.objects.get(id="login").inputs["token"]
    end = execute(worker, login("stolen", token=sealed), caller=BOB)
    assert end.run.status == "failed"
    assert "cannot be decrypted: It was encrypted for another purpose or owner" in str(end.tasks["stolen"].error)


def test_what_a_result_adds_may_not_have_it(worker: WorkerThread) -> None:
    execute(worker, login())
    sealed = Task.objects.get(id="login").inputs["token"]
    spawner = {
        "id": "spawner",
        "name": "spawner",
        "schemas": {"method": "echo_executor"},
        "params": {"spawn": {"path": "/found"}},
        "inputs": {"found": [login("spawned", token=sealed)]},
    }
    end = execute(worker, spawner)
    assert end.run.status == "failed"
    assert "has an encrypted input" in str(end.tasks["spawner"].error)


def test_two_runs_with_the_same_are_equal(worker: WorkerThread) -> None:
    first, second, third = (execute(worker, login(f"login-{token}-{n}", token=token)) for n, token in enumerate("aab"))

    def changed(a: Ran, b: Ran) -> list[str]:
        (pair,) = comparisons.compare(caller=ADA, a=a.run.id, b=b.run.id).pairs
        return pair.changed

    Task.objects.update(label="login")
    assert "inputs" not in changed(first, second)
    assert "inputs" in changed(first, third)


def test_clear_rows_of_earlier_versions_are_used_and_encrypted_by_a_rotation(
    worker: WorkerThread, settings: Settings
) -> None:
    trees.create_tree(caller=ADA, tasks=login())
    Task.objects.update(inputs={"token": CANARY, "user": "ada"})
    assert tokens(ran(worker, trees.execute_task(caller=ADA, task_id="login"))) == [CANARY]
    flows.save_flow(caller=ADA, name="logs-in", tasks=login(), inputs_schema=SCHEMA)
    FlowVersion.objects.update(definition=[login()])
    flows.run_flow(caller=ADA, name="logs-in", inputs={"token": "of the run"})
    worker.work()
    assert CANARY in stored()
    assert (reseal(), reseal()) == (2, 0)
    assert CANARY not in stored()
    old = settings.APFLOW_ENCRYPTION_KEYS
    settings.APFLOW_ENCRYPTION_KEYS = ("a newer key of at least 32 characters", *old)
    assert reseal() == 4  # two tasks, a flow, and the inputs of a run
    settings.APFLOW_ENCRYPTION_KEYS = ("a newer key of at least 32 characters",)
    assert reseal() == 0
    root = Run.objects.order_by("-created_at").values_list("root_id", flat=True).first()
    assert opened(Task.objects.get(id=root).inputs, owner="ada")["token"] == CANARY
    settings.APFLOW_ENCRYPTION_KEYS = ("an unknown key of at least 32 characters",)
    with pytest.raises(CannotUnseal):
        opened(Task.objects.get(id=root).inputs, owner="ada")
