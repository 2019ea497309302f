"""Named secrets reach the service that they are for, and nothing that is stored, sent or logged."""

import base64
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.core import serializers
from pytest_django import Settings

from accounts.callers import LOCAL, Caller, Role
from llmkeys import named_secrets
from llmkeys.redact import Redaction
from llmkeys.secret import Secret
from tasks.models import Task
from tasks.rules.exceptions import InvalidParams
from tasks.services import trees
from tasks.services.trees.copies import copy_tree
from tasks.services.trees.editing import update_task
from tasks.services.upkeep.demo import as_demo
from tasks.services.waits import questions
from tests.servers import EXECUTORS
from tests.tasks.executors.conftest import Web, forget_registry
from tests.workers import Json, Ran, WorkerThread, result_of

pytestmark = [
    pytest.mark.both_engines_nightly,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("allow_loopback", "telling_executor"),
]
RunTree = Callable[[list[Json]], Ran]
VALUE = 'ghp_canary+/"7f3a9c\\52e1'
FORMS = (VALUE, json.dumps(VALUE)[1:-1], "ghp_canary%2B%2F%227f3a9c%5C52e1")


@pytest.fixture
def telling_executor(settings: Settings, test_executors: None) -> None:
    settings.APFLOW_EXECUTOR_MODULES = (EXECUTORS, "tests.secret_executors", "tests.functions_for_tests")
    forget_registry()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the processes of a server would log."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(Redaction())
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def keep(name: str = "token", value: str = VALUE, *, user: str = "local", **fields: Any) -> None:
    named_secrets.set_secret(user_id=user, name=name, value=Secret(value), **fields)


def telling(**fields: Any) -> Json:
    return {"id": "tell", "name": "telling_executor", "inputs": {"secret": "{{secret.token}}"}} | fields


def rest(web: Web, **inputs: Any) -> list[Json]:
    return [{"id": "call", "name": "rest_executor", "inputs": {"url": web.url} | inputs}]


def database() -> str:
    """All rows of all tables."""
    rows = [row for model in apps.get_models() for row in model._default_manager.all()]
    return str(serializers.serialize("json", rows))


def assert_unknown(*texts: str) -> None:
    for text in (*texts, database()):
        assert "canary" not in text, text[max(0, text.find("canary") - 500) :][:1000]
        assert base64.b64encode(b"canary+/")[1:-3].decode() not in text


def refused(tasks: Any, *, caller: Caller = LOCAL) -> list[tuple[str, str]]:
    with pytest.raises(InvalidParams) as refusal:
        trees.create_tree(caller=caller, tasks=tasks)
    assert not Task.objects.exists()
    return list(refusal.value.problems)


def test_the_service_gets_it_and_what_it_repeats_is_masked(run: RunTree, web: Web, log: io.StringIO) -> None:
    keep()
    web.answer(200, json.dumps({"you sent": VALUE, VALUE: 1}).encode(), Content_Type="application/json", X_Was="{{secret.token}}")  # fmt: skip
    ran = run(
        rest(
            web,
            method="POST",
            headers={"X-Token": "token {{secret.token}}"},
            params={"key": "{{secret.token}}"},
            json={"deep": [{"key": "{{secret.token}}"}]},
            auth={"basic": {"username": "ada", "password": "{{secret.token}}"}},
        )
    )
    (received,) = web.received
    assert received.headers["x-token"] == f"token {VALUE}"
    assert received.headers["authorization"] == f"Basic {base64.b64encode(f'ada:{VALUE}'.encode()).decode()}"
    assert json.loads(received.body) == {"deep": [{"key": VALUE}]}
    result = ran.tasks["call"].result
    assert result["json"] == {"you sent": "…", "…": 1}
    assert result["headers"]["x-was"] == "{{secret.token}}", "what comes back is not filled"
    assert result["url"].endswith("?key=…")
    assert ran.tasks["call"].inputs["headers"] == {"X-Token": "token {{secret.token}}"}
    assert "Used the secret token" in log.getvalue()
    assert_unknown(log.getvalue(), json.dumps(ran.events))


@pytest.mark.parametrize("pool", ["loop", "thread"])
@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("how", ["result", "error", "raise", "stop"])
def test_nothing_that_an_executor_says_tells_it(
    how: str, asks: bool, pool: str, run: RunTree, log: io.StringIO
) -> None:
    keep()
    given = {"name": "token"} if asks else {"secret": "{{secret.token}}"}
    ran = run([telling(inputs=given | {"how": how}, params={"pool": pool})])
    task = ran.tasks["tell"]
    if how == "result":
        assert task.result["…"] == ["…", "x…x", "…", len(VALUE)]
    elif how == "error":
        assert str(task.error).startswith("Refused: …")
    assert [event["message"] for event in ran.events if event["type"] == "log"] == ["The secret is …"]
    assert_unknown(log.getvalue(), json.dumps(ran.events))
    assert "The secret is …" in log.getvalue()


@pytest.mark.parametrize(("how", "given"), [("question", "…"), ("form", {"word": "…"})])
def test_a_question_does_not_tell_it(worker: WorkerThread, log: io.StringIO, how: str, given: Any) -> None:
    keep()
    execution = trees.execute_tree(caller=LOCAL, tasks=[telling(inputs={"secret": "{{secret.token}}", "how": how})])
    worker.work()
    assert_unknown(log.getvalue())
    questions.answer(caller=LOCAL, task_id="tell", answer=given)
    worker.work()
    ran = result_of(execution.run)
    assert ran.tasks["tell"].result["memo"] == {"secret": "…"}
    assert_unknown(log.getvalue(), json.dumps(ran.events))


def test_the_memo_of_a_step_does_not_keep_it(run: RunTree) -> None:
    keep()
    run([telling(inputs={"secret": "{{secret.token}}", "how": "step"})])
    assert (Task.objects.get(id="tell").steps or {})["memo"] == {"secret": "…"}


def test_a_number_of_a_secret_is_masked(run: RunTree) -> None:
    keep(value="4711081542")
    assert run([telling()]).tasks["tell"].result["number"] == "…"


def test_what_another_task_of_the_run_returns_is_masked(run: RunTree, web: Web) -> None:
    keep()
    web.answer(200, VALUE.encode(), Content_Type="text/plain")
    again = {"id": "again", "name": "rest_executor", "inputs": {"url": web.url}, "dependencies": ["call"], "parent_id": "call"}  # fmt: skip
    ran = run([*rest(web, headers={"X-Token": "{{secret.token}}"}), again])
    assert ran.tasks["again"].result["body"] == "…"


def test_no_secret_in_a_group_a_prompt_a_question_or_a_forbidden_input() -> None:
    keep()
    for executor, inputs, field in (
        (None, {"x": ["{{secret.token}}"]}, "x[0]"),
        ("llm_executor", {"prompt": "{{secret.token}}"}, "prompt"),
        ("llm_executor", {"prompt": "a", "tools": [{"x": "{{secret.token}}"}]}, "tools[0].x"),
        ("approval_executor", {"question": "{{secret.token}}?"}, "question"),
        ("a2a_executor", {"agent_url": "https://a.example", "message": "{{secret.token}}"}, "message"),
        ("templating_executor", {"prompt": "{{key}}", "key": "{{secret.token}}"}, "key"),
        ("generate_executor", {"requirement": "{{secret.token}}"}, "requirement"),
    ):
        schemas = {} if executor is None else {"method": executor}
        ((place, problem),) = refused({"name": "a", "inputs": inputs, "schemas": schemas})
        assert place == f"tasks[0].inputs.{field}"
        assert "result" in problem


@pytest.mark.parametrize("name", ["nothing", "bobs", "for_bob", "a-b", "a.b", "x" * 65])
def test_what_one_may_not_use_is_refused_by_name_as_what_does_not_exist(name: str) -> None:
    keep("bobs", user="bob")
    keep("for_bob", scope="shared", users=["bob"])
    alice = Caller(user_id="alice", role=Role.OPERATOR)
    ((place, problem),) = refused(telling(inputs={"secret": f"a {{{{secret.{name}}}}}"}), caller=alice)
    assert place == "tasks[0].inputs.secret"
    if name.isidentifier() and len(name) < 65:
        ((_, other),) = refused(telling(inputs={"secret": "{{secret.other}}"}), caller=alice)
        assert problem.replace(name, "other") == other


def test_own_secrets_come_before_shared_ones_and_those_of_the_owner_count(worker: WorkerThread, web: Web) -> None:
    keep("token", "of-all-of-us", scope="shared")
    keep("token", "of-alice-alone", user="alice")
    keep("token", "of-the-admin-alone")
    for owner in ("alice", "bob"):
        tasks = [{"id": owner, "name": "rest_executor", "user_id": owner, "inputs": {"url": web.url, "headers": {"x": "{{secret.token}}"}}}]  # fmt: skip
        trees.execute_tree(caller=LOCAL, tasks=tasks)
        worker.work()
    assert [received.headers["x"] for received in web.received] == ["of-alice-alone", "of-all-of-us"]


def test_a_deleted_secret_fails_its_task_alone(worker: WorkerThread) -> None:
    keep()
    tree = [{"id": "root", "name": "all"}, telling(parent_id="root"), {"id": "b", "name": "echo_executor", "parent_id": "root"}]  # fmt: skip
    execution = trees.execute_tree(caller=LOCAL, tasks=tree)
    named_secrets.delete_secret(user_id="local", name="token")
    worker.work()
    ran = result_of(execution.run)
    assert ran.statuses() == {"root": "completed", "tell": "failed", "b": "completed"}
    assert str(ran.tasks["tell"].error).startswith("There is no secret 'token' that the owner of this task may use.")


def test_a_changed_tree_is_checked_again() -> None:
    trees.create_tree(caller=LOCAL, tasks=telling(inputs={"secret": "none"}))
    with pytest.raises(InvalidParams, match="There is no secret 'token'"):
        update_task(caller=LOCAL, task_id="tell", changes={"inputs": {"secret": "{{secret.token}}"}})
    keep()
    update_task(caller=LOCAL, task_id="tell", changes={"inputs": {"secret": "{{secret.token}}"}})


def test_a_bound_secret_goes_to_its_hosts_only(run: RunTree, web: Web, worker: WorkerThread) -> None:
    keep(allow_hosts=["127.0.0.1"])
    header = {"headers": {"x": "{{secret.token}}"}}
    run(rest(web, **header))
    assert web.received[0].headers["x"] == VALUE
    for url in ("https://evil.example/127.0.0.1", "https://127.0.0.1.evil.example", "https://localhost", "not a url"):
        ((place, problem),) = _refused_only(rest(web, url=url, **header))
        assert (place, "may only be sent to 127.0.0.1" in problem) == ("tasks[0].inputs.headers.x", True)
    found = {"id": "find", "name": "echo_executor", "inputs": {"url": "http://localhost"}, "parent_id": "send"}
    send = {"id": "send", "name": "rest_executor", "inputs": {"url": "{{find.url}}"} | header, "dependencies": ["find"]}
    ran = run([send, found])
    assert "this task sends it to another host" in str(ran.tasks["send"].error)
    assert len(web.received) == 1


def _refused_only(tasks: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidParams) as refusal:
        trees.create_tree(caller=LOCAL, tasks=tasks)
    return list(refusal.value.problems)


def test_a_bound_secret_is_used_in_credentials_only(run: RunTree, web: Web) -> None:
    """A server may return the rest of a request in any form, in which nobody recognizes the secret."""
    keep(allow_hosts=["127.0.0.1"])
    for inputs in ({"json": {"a": ["{{secret.token}}"]}}, {"params": {"key": "{{secret.token}}"}}):
        ((place, problem),) = _refused_only(rest(web, method="POST", **inputs))
        assert place.startswith("tasks[0].inputs.")
        assert "may only be used in auth, headers (allow_in)" in problem
    ((_, problem),) = _refused_only(rest(web, url=web.url + "{{secret.token}}"))
    assert "uses it in 'url'" in problem
    assert run(rest(web, auth={"bearer": "{{secret.token}}"})).run.status == "completed"
    keep(allow_hosts=["127.0.0.1"], allow_in=["json"])
    assert run(rest(web, method="POST", json={"key": "{{secret.token}}"})).run.status == "completed"
    ((_, problem),) = _refused_only(rest(web, auth={"bearer": "{{secret.token}}"}))
    assert "may only be used in json (allow_in)" in problem
    keep(allow_in=[])
    assert run(rest(web, params={"key": "{{secret.token}}"})).run.status == "completed"


def test_a_bound_secret_is_checked_again_when_its_task_runs(worker: WorkerThread, web: Web) -> None:
    keep()
    execution = trees.execute_tree(caller=LOCAL, tasks=rest(web, params={"key": "{{secret.token}}"}))
    keep(allow_hosts=["127.0.0.1"])
    worker.work()
    assert "may only be used in auth, headers (allow_in)" in str(result_of(execution.run).tasks["call"].error)
    assert web.received == []


@pytest.mark.parametrize(
    ("url", "hosts", "is_sent"),
    [
        ("https://api.example.com/x", ["api.example.com"], True),
        ("http://api.example.com/x", ["api.example.com"], False),
        ("http://api.example.com/x", ["http://api.example.com"], True),
        ("https://api.example.com/x", ["http://api.example.com"], True),
        ("http://10.0.0.7/x", ["10.0.0.7"], False),
        ("http://10.0.0.7/x", ["http://10.0.0.7"], True),
        ("http://127.0.0.1:5000/x", ["127.0.0.1"], True),
        ("http://[::1]:5000/x", ["::1"], True),
        ("http://localhost/x", ["localhost"], True),
    ],
)
def test_a_bound_secret_is_sent_over_https_unless_plain_http_is_allowed(
    url: str, hosts: list[str], is_sent: bool
) -> None:
    keep(allow_hosts=hosts)
    task = {"name": "rest_executor", "inputs": {"url": url, "headers": {"x": "{{secret.token}}"}}}
    if is_sent:
        trees.create_tree(caller=LOCAL, tasks=task)
    else:
        ((_, problem),) = refused(task)
        assert "over HTTPS" in problem


def test_a_redirect_carries_no_secret_away(run: RunTree, web: Web) -> None:
    keep(allow_hosts=["127.0.0.1"])
    web.answer(302, Location=f"http://localhost:{web.port}/stolen")
    ran = run(rest(web, headers={"x": "{{secret.token}}"}, expected_status=302))
    assert (ran.run.status, [received.path for received in web.received]) == ("completed", ["/"])


def test_a_bound_secret_is_refused_where_no_host_is_known() -> None:
    keep(allow_hosts=["api.example.com"])
    ((_, problem),) = refused(telling())
    assert problem.startswith("The secret 'token' may only be sent to api.example.com (allow_hosts), and telling_executor cannot")  # fmt: skip


@pytest.mark.parametrize(("host", "ends"), [(None, "failed"), ("evil.example", "failed"), ("API.example.com", "completed")])  # fmt: skip
def test_an_executor_says_where_a_bound_secret_goes(host: str | None, ends: str, run: RunTree) -> None:
    keep(allow_hosts=["api.example.com"])
    inputs = {"name": "token"} | ({} if host is None else {"host": host})
    assert run([telling(inputs=inputs)]).run.status == ends


def test_a_dependency_called_secret_keeps_its_meaning(run: RunTree) -> None:
    keep()
    secret = {"id": "secret", "name": "echo_executor", "inputs": {"token": "no secret"}, "parent_id": "show"}
    show = {"id": "show", "name": "echo_executor", "inputs": {"x": "{{secret.token}}"}, "dependencies": ["secret"]}
    assert run([show, secret]).tasks["show"].result["x"] == "no secret"
    ((_, problem),) = _refused_only(
        [show | {"id": "a", "dependencies": []}, secret | {"id": "secret", "parent_id": "a"}]
    )
    assert "'secret', which is no dependency of this task" in problem


def test_what_is_filled_in_is_not_filled_again(run: RunTree) -> None:
    keep()
    find = {"id": "find", "name": "echo_executor", "inputs": {"x": "{{{{secret.token}}"}, "parent_id": "all"}
    show = {"id": "show", "name": "echo_executor", "inputs": {"y": "{{find.x}}", "z": "{{{{secret.token}}", "s": "{{secret}}"}, "dependencies": ["find"], "parent_id": "all"}  # fmt: skip
    ran = run([{"id": "all", "name": "all"}, show, find])
    assert {name: ran.tasks["show"].result[name] for name in "yzs"} == {
        "y": "{{secret.token}}",
        "z": "{{secret.token}}",
        "s": "{{secret}}",
    }
    copy = copy_tree(caller=LOCAL, task_id=ran.tasks["show"].id)
    assert copy.root.inputs["y"] == "{{{{secret.token}}"


def test_a_copy_keeps_the_place(run: RunTree, worker: WorkerThread) -> None:
    keep()
    first = {"id": "first", "name": "echo_executor", "inputs": {"x": 1}, "parent_id": "all"}
    inputs = {"secret": "{{secret.token}}", "n": "{{first.x}}"}
    ran = run([{"id": "all", "name": "all"}, telling(inputs=inputs, dependencies=["first"], parent_id="all"), first])
    copy = copy_tree(caller=LOCAL, task_id=ran.tasks["tell"].id)
    assert copy.root.inputs["secret"] == "{{secret.token}}"
    assert copy.root.inputs["n"] == 1
    trees.execute_task(caller=LOCAL, task_id=copy.root.id)
    worker.work()
    assert Task.objects.get(id=copy.root.id).result["…"][0] == "…"
    assert_unknown()


def test_a_demo_reads_no_secret(worker: WorkerThread) -> None:
    keep()
    execution = as_demo(trees.execute_tree, caller=LOCAL, tasks=[telling()])
    worker.work()
    ran = result_of(execution.run)
    assert ran.run.status == "completed"
    assert named_secrets.list_secrets(user_id="local")[0].used_at is None


def test_a_secret_in_a_command_and_its_output(run: RunTree, settings: Settings) -> None:
    settings.APFLOW_COMMAND = settings.APFLOW_COMMAND.model_copy(update={"allow": ("/bin/sh",)})
    keep()
    argv = ["/bin/sh", "-c", 'printf "%s" "$1"; printf "%s" "$TOKEN" >&2; cat; exit 3', "sh", "{{secret.token}}"]
    ran = run([{"id": "a", "name": "command_executor", "inputs": {"argv": argv, "env": {"TOKEN": "{{secret.token}}"}, "stdin": "{{secret.token}}"}}])  # fmt: skip
    assert "ends with: …" in str(ran.tasks["a"].error)
    assert_unknown(json.dumps(ran.events))


def test_a_later_worker_masks_what_an_earlier_one_used(worker: WorkerThread, web: Web) -> None:
    keep()
    fetch = {"id": "fetch", "name": "rest_executor", "inputs": {"url": web.url}, "dependencies": ["tell"]}
    execution = trees.execute_tree(caller=LOCAL, tasks=[fetch, telling(parent_id="fetch")])
    Task.objects.filter(id="tell").update(status="completed", result={})
    web.answer(200, VALUE.encode(), Content_Type="text/plain")
    worker.work()
    assert result_of(execution.run).tasks["fetch"].result["body"] == "…"
