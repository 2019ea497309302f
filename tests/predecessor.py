"""Calls as clients of the predecessor send them, and what becomes of each here: the rows of docs/how-to/upgrade.md."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.servers import Server, events_of, until

Json = dict[str, Any]
Check = Callable[[Server], None]
OWNER: Final = "user123"
TREE: Final[list[Json]] = [
    {
        "id": "root",
        "name": "Root Task",
        "user_id": OWNER,
        "schemas": {"method": "aggregate_results_executor"},
        "dependencies": [{"id": "child", "required": True, "type": "result"}],
        "inputs": {},
    },
    {
        "id": "child",
        "name": "Child Task",
        "user_id": OWNER,
        "parent_id": "root",
        "priority": 1,
        "schemas": {"method": "system_info_executor"},
        "inputs": {"resource": "cpu"},
        "params": {},
    },
]
HOOK: Final = {"url": "https://example.com/hook", "headers": {"Authorization": "Bearer x"}, "method": "POST"}
WORKS: Final[list[tuple[str, str, Any]]] = [
    ("/tasks", "tasks.create", TREE),
    ("/tasks", "tasks.create", {"tasks": TREE}),
    ("/tasks", "tasks.create", {"name": "One", "user_id": OWNER, "inputs": {"key": "value"}}),
    ("/tasks", "tasks.get", {"task_id": "root"}),
    ("/tasks", "tasks.get", {"id": "root"}),
    ("/tasks", "tasks.detail", {"task_id": "child"}),
    ("/tasks", "tasks.tree", {"task_id": "child"}),
    ("/tasks", "tasks.tree", {"root_id": "root"}),
    ("/tasks", "tasks.children", {"parent_id": "root"}),
    ("/tasks", "tasks.children", {"task_id": "root"}),
    ("/tasks", "tasks.list", {"user_id": OWNER, "status": "pending", "root_only": True, "limit": 50, "offset": 0}),
    ("/tasks", "tasks.count", {"user_id": OWNER, "root_only": True}),
    ("/tasks", "tasks.count", {"statuses": ["pending", "in_progress"]}),
    ("/tasks", "tasks.clone", {"task_id": "root", "origin_type": "copy"}),
    (
        "/tasks",
        "tasks.clone",
        {"task_id": "root", "recursive": True, "link_task_ids": None, "reset_fields": {}, "save": True},
    ),
    (
        "/tasks",
        "tasks.create",
        [{"name": "One", "user_id": None, "status": "pending", "progress": 0, "dependencies": None, "params": None}],
    ),
    (
        "/tasks",
        "tasks.update",
        {"task_id": "child", "name": "Another", "inputs": {"resource": "memory"}, "priority": 3},
    ),
    ("/tasks", "tasks.scheduled.list", {"enabled_only": True, "user_id": None, "limit": 100, "offset": 0}),
    ("/tasks", "tasks.scheduled.due", {"before": None, "user_id": OWNER, "limit": 100}),
    ("/tasks", "tasks.update", {"task_id": "root", "schedule_type": "weekly", "schedule_expression": "1,5 09:00"}),
    ("/tasks", "tasks.scheduled.init", {"task_id": "root"}),
    (
        "/tasks",
        "tasks.scheduled.complete",
        {"task_id": "root", "success": True, "result": None, "error": None, "calculate_next_run": True},
    ),
    ("/tasks", "tasks.scheduled.export-ical", {"user_id": OWNER, "calendar_name": "APFlow Tasks"}),
    ("/tasks", "tasks.webhook.trigger", {"task_id": "root", "async_execution": False}),
    ("/tasks", "tasks.update", {"task_id": "root", "schedule_type": "", "schedule_expression": ""}),
    ("/tasks", "tasks.running.status", {"task_ids": ["root", "child"]}),
    ("/tasks", "tasks.running.status", {"context_ids": "root,child"}),
    ("/tasks", "tasks.execute", {"task_id": "root", "use_streaming": False, "use_demo": False}),
    ("/tasks", "tasks.execute", {"tasks": TREE, "use_demo": True}),
    ("/tasks", "tasks.execute", {"id": "root", "copy_execution": True, "copy_children": True}),
    ("/tasks", "tasks.execute", {"tasks": TREE, "webhook_config": HOOK}),
    ("/", "tasks.execute", {"tasks": TREE}),
    ("/", "execute_task_tree", {"tasks": TREE}),
    ("/tasks", "tasks.running.list", {"user_id": OWNER, "limit": 50}),
    ("/tasks", "tasks.running.count", {"user_id": OWNER}),
    ("/tasks", "tasks.cancel", {"task_ids": ["root"], "force": False, "error_message": "Enough"}),
    ("/tasks", "tasks.running.cancel", {"context_ids": ["root"], "force": True}),
    (
        "/tasks",
        "tasks.copy",
        {"task_id": "root", "children": True, "copy_mode": "full", "reset_fields": ["status", "result"]},
    ),
    (
        "/tasks",
        "tasks.copy",
        {"task_id": "root", "copy_mode": "custom", "custom_task_ids": ["root"], "custom_include_children": True},
    ),
    ("/tasks", "tasks.clone", {"task_id": "root", "save": False}),
    ("/tasks", "tasks.generate", {"requirement": "Look at the CPU", "llm_model": "demo/demo", "save": False}),
    ("/tasks", "tasks.create", {"id": "alone", "name": "Alone", "user_id": OWNER}),
    ("/tasks", "tasks.delete", {"task_id": "alone"}),
    ("/system", "system.health", {}),
    ("/system", "system.executors", {}),
    ("/system", "config.llm_key.set", {"user_id": OWNER, "provider": "openai", "api_key": "sk-1234567890abcdef"}),
    ("/system", "config.llm_key.get", {"user_id": OWNER, "provider": "openai"}),
    ("/system", "config.llm_key.delete", {"user_id": OWNER, "provider": "openai"}),
    ("/system", "examples.init", {"force": False}),
]


# --- what may become of a call ---


def refused(method: str, params: Any, told: str, *, path: str = "/tasks") -> Check:
    """`told` is a field that the error names, or its code."""

    def check(server: Server) -> None:
        error = server.call(method, params, path=path)["error"]
        fields = [problem["field"] for problem in error["data"]] if error["code"] == -32602 else []
        assert told in (*fields, str(error["code"])), error

    return check


def answers(method: str, params: Any, *, path: str = "/tasks", **shown: Any) -> Check:
    """`shown` is a part of the result."""

    def check(server: Server) -> None:
        result = server.rpc(method, params, path=path)
        assert all(result[name] == value for name, value in shown.items()), result

    return check


def ran(executor: str, inputs: Json, *, status: str = "completed", says: str = "", **task: Any) -> Check:
    """How a task of one executor ends. `says` is a part of its result or of its error."""

    def check(server: Server) -> None:
        one = {"name": "One", "schemas": {"method": executor}, "inputs": inputs} | task
        root = server.rpc("tasks.execute", {"tasks": one, "wait": True})["task"]
        assert root["status"] == status, root
        assert says in f"{root['error']} {json.dumps(root['result'])}", root

    return check


def misfit(executor: str, inputs: Json, says: str) -> Check:
    """Inputs that can never fit are refused. `says` is a part of the reason."""

    def check(server: Server) -> None:
        task = {"name": "One", "schemas": {"method": executor}, "inputs": inputs}
        error = server.call("tasks.create", task)["error"]
        assert error["code"] == -32602
        assert f"do not fit the schema of {says}" in error["message"], error

    return check


def passed_over(**members: Any) -> Check:
    """A call on `/` is answered as if these members were not beside its params."""

    def check(server: Server) -> None:
        call = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": {"tasks": TREE}, **members}
        answer = server.http.post("/", json=call)
        assert answer.headers["Content-Type"] == "application/json"
        assert "webhook" not in answer.json()["result"]["metadata"]

    return check


def module_refused(name: str) -> Check:
    def check(server: Server) -> None:
        response = server.http.post(f"/modules/apflow.{name}", json={"task_id": "root"})
        assert response.status_code == 404
        assert "is not available: this server" in response.json()["error"]["message"]

    return check


def a_missing_task_is_an_error(server: Server) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tasks.get", "params": {"task_id": "nothing"}}
    answer = server.http.post("/tasks", json=call)
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, -32001)


def the_last_event_has_a_type(server: Server) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": {"tasks": TREE, "use_streaming": True}}
    *_, final, end = events_of(iter(server.http.post("/tasks", json=call).text.splitlines()))
    assert (final["type"], end["type"], "final" in final) == ("final", "stream_end", False)


def a_copy_can_be_changed(server: Server) -> None:
    task_id = server.rpc("tasks.execute", {"tasks": {"name": "One"}, "wait": True})["task_id"]
    refused("tasks.update", {"task_id": task_id, "name": "Two"}, "-32006")(server)
    copy = server.rpc("tasks.copy", {"task_id": task_id, "reset_fields": ["inputs"]})
    answers("tasks.update", {"task_id": copy["id"], "name": "Two"}, name="Two")(server)


def what_completed_keeps_its_result(server: Server) -> None:
    root, child = TREE
    tree = [root | {"schemas": {"method": "rest_executor"}, "inputs": {"url": "http://127.0.0.1/"}}, child]
    first = server.rpc("tasks.execute", {"tasks": tree, "wait": True})
    again = server.rpc("tasks.execute", {"task_id": first["task_id"], "wait": True})
    assert (first["status"], again["status"]) == ("failed", "failed")
    assert first["task"]["children"] == again["task"]["children"]


def nothing_is_due_for_long(server: Server) -> None:
    soon = {"schedule_type": "interval", "schedule_expression": "1", "schedule_enabled": True, "max_runs": 1}
    task_id = server.rpc("tasks.create", {"name": "echo_executor", **soon})["id"]
    until(lambda: server.rpc("tasks.get", {"task_id": task_id})["run_count"] == 1, seconds=60, what="its run")
    assert server.rpc("tasks.scheduled.due", {}) == []


def executors_are_a_list(server: Server) -> None:
    assert all("input_schema" in each for each in server.rpc("system.executors", {}, path="/system"))


def a_preview_is_a_list(server: Server) -> None:
    task_id = server.rpc("tasks.create", {"tasks": TREE})["id"]
    assert len(server.rpc("tasks.copy", {"task_id": task_id, "save": False})) == len(TREE)


def methods_are_discovered(server: Server) -> None:
    assert server.http.get("/tasks/methods").status_code == 404
    assert server.rpc("rpc.discover", {})["openrpc"]


def a_group_is_warned_of(server: Server) -> None:
    reply = server.rpc("tasks.execute", {"tasks": {"name": "One", "schemas": {"type": "stdio"}}, "wait": True})
    assert reply["warnings"][0].startswith("Task 'One' names no executor")


def figures_stand_under_their_resource(server: Server) -> None:
    one = {"name": "One", "schemas": {"method": "system_info_executor"}, "inputs": {"resource": "cpu"}}
    assert list(server.rpc("tasks.execute", {"tasks": one, "wait": True})["task"]["result"]) == ["cpu"]


def other_statuses_fail(server: Server) -> None:
    here = {"url": at_localhost(server, "/nothing")}
    ran("rest_executor", here, status="failed", says="answered 404")(server)
    ran("rest_executor", here | {"expected_status": 404}, says='"status_code": 404')(server)


def redirects_are_not_followed(server: Server) -> None:
    here = {"url": at_localhost(server, "/admin/")}
    ran("rest_executor", here, status="failed", says="Redirects are not followed")(server)


def at_localhost(server: Server, path: str) -> str:
    """The server by the one name of a private address that its executors may call."""
    return f"{server.url.replace('127.0.0.1', 'localhost')}{path}"


def another_server_is_waited_for(server: Server) -> None:
    inputs = {"base_url": at_localhost(server, ""), "method": "tasks.execute", "params": {"tasks": {"name": "One"}}}
    ran("apflow_api_executor", inputs | {"use_streaming": True, "poll_interval": 9}, says='"status": "completed"')(
        server
    )


# --- the rows of the page ---

COPY: Final = {"task_id": "root"}
NINE: Final = {"schedule_type": "daily", "schedule_expression": "09:00"}
LOOPBACK: Final = {"url": "http://127.0.0.1/"}
AGENT: Final = {"agent_url": "https://agent.example.com", "message": "Hello"}
CALLS: Final[Mapping[str, list[Check]]] = {
    "HTTP 400 or 500 for an invalid request": [a_missing_task_is_an_error],
    "fields that the server sets, in `tasks.create`": [
        *(
            refused("tasks.create", [{"name": "One", field: 1}], f"tasks[0].{field}")
            for field in ("status", "progress", "has_children", "result")
        ),
        answers("tasks.create", {"name": "One", "status": "pending", "progress": 0, "result": None}, status="pending"),
    ],
    "other fields, such as `tags`": [
        refused("tasks.create", {"name": "One", "tags": []}, "tasks[0].tags"),
        answers("tasks.create", {"name": "One", "inputs": {"tags": []}}),
        refused("tasks.create", {"name": "One", "params": {"tags": []}}, "tasks[0].params.tags"),
    ],
    "the default `priority` is 1": [answers("tasks.create", {"name": "One"}, priority=2)],
    "`webhook_config` with `timeout` or `max_retries`": [
        refused("tasks.execute", {"tasks": TREE, "webhook_config": HOOK | {field: 3}}, f"webhook_config.{field}")
        for field in ("timeout", "max_retries")
    ],
    "`webhook_config` with a header `Content-Type`": [
        refused(
            "tasks.execute",
            {"tasks": TREE, "webhook_config": HOOK | {"headers": {"Content-Type": "application/json"}}},
            "webhook_config.headers.Content-Type",
        )
    ],
    "`metadata.stream` beside `params`": [passed_over(metadata={"stream": True})],
    "`configuration.push_notification_config` beside `params`": [
        passed_over(configuration={"push_notification_config": HOOK})
    ],
    "`cancel` on `/`": [
        refused("cancel", {"task_id": "root"}, "-32601", path="/"),
        answers("tasks.cancel", {"task_id": "root"}, path="/"),
    ],
    "`tasks.update` with `status`, `progress` or `result`": [
        refused("tasks.update", {"task_id": "root", field: 1}, field) for field in ("status", "progress", "result")
    ],
    "`tasks.update` of a task that has run": [a_copy_can_be_changed],
    "`tasks.clone` with `origin_type`, `recursive` or `link_task_ids`": [
        *(
            refused("tasks.clone", COPY | {field: "link"}, field)
            for field in ("origin_type", "recursive", "link_task_ids")
        ),
        answers("tasks.clone", COPY | {"origin_type": "copy"}, origin_type="copy", has_children=True),
    ],
    "`reset_fields` as an object": [
        refused("tasks.copy", COPY | {"reset_fields": {"priority": 1}}, "reset_fields"),
        answers("tasks.copy", COPY | {"reset_fields": ["priority"]}, priority=2),
    ],
    "`save: false` returns `{tasks, saved}`": [a_preview_is_a_list],
    "`tasks.generate` with `llm_provider`, `temperature`, `max_tokens` or `user_id`": [
        *(
            refused("tasks.generate", {"requirement": "Look", field: "x"}, field)
            for field in ("llm_provider", "temperature", "max_tokens", "user_id")
        ),
        answers("tasks.generate", {"requirement": "Look at the CPU", "model": "demo/demo"}),
    ],
    "`tasks.running.count` with `status`": [
        refused("tasks.running.count", {"status": "in_progress"}, "status"),
        answers("tasks.count", {"user_id": "nobody"}, in_progress=0),
    ],
    "an LLM key without a `provider`": [
        answers("config.llm_key.set", {"api_key": "sk-ant-1234567890abcdef"}, path="/system", provider="anthropic"),
        refused("config.llm_key.set", {"api_key": "1234567890abcdef"}, "provider", path="/system"),
        refused("config.llm_key.delete", {}, "provider", path="/system"),
    ],
    "`system.executors` returns `{executors, count}`": [executors_are_a_list],
    "`system.health` returns `healthy`": [answers("system.health", {}, path="/system", status="ok")],
    "`examples.status`": [
        refused("examples.status", {}, "-32601", path="/system"),
        answers("examples.init", {}, path="/system", count=0),
    ],
    "a scheduler that polls `tasks.scheduled.due`": [nothing_is_due_for_long],
    "a schedule of a task that has a parent": [
        refused("tasks.update", {"task_id": "child"} | NINE, "schedule_type"),
        answers("tasks.update", {"task_id": "root"} | NINE, **NINE),
    ],
    "the modules `task.link`, `task.archive` and `task.clone_mixed`": [
        module_refused(name) for name in ("task.link", "task.archive", "task.clone_mixed")
    ],
    "`GET /tasks/methods`": [methods_are_discovered],
    "`final: true` in the last event": [the_last_event_has_a_type],
    "executing a failed tree again repeats its dependencies": [what_completed_keeps_its_result],
}
EXECUTORS: Final[Mapping[str, list[Check]]] = {
    "`system_info_executor` returns the figures": [figures_stand_under_their_resource],
    "`command_executor` with `command`, in a shell": [
        refused("tasks.create", {"name": "One", "schemas": {"method": "command_executor"}}, "-32003")
    ],
    '`rest_executor` with `auth: {"type": "bearer", "token": …}`': [
        misfit("rest_executor", LOOPBACK | {"auth": {"type": "bearer", "token": "x"}}, "rest_executor: auth"),
        ran("rest_executor", LOOPBACK | {"auth": {"bearer": "x"}}, status="failed", says="is not public"),
        ran("rest_executor", LOOPBACK | {"auth": {"apikey": {"value": "x"}}}, status="failed", says="is not public"),
    ],
    "`timeout` of `rest_executor`": [
        ran("rest_executor", LOOPBACK | {"timeout": "soon"}, status="failed", says="is not public"),
        misfit("rest_executor", LOOPBACK | {"timeout_seconds": "soon"}, "rest_executor: timeout_seconds"),
    ],
    "`rest_executor` accepts any status as a result": [other_statuses_fail],
    "`rest_executor` follows redirects, and reaches every address": [
        redirects_are_not_followed,
        ran("rest_executor", LOOPBACK, status="failed", says="is not public"),
    ],
    "`result_count` of `aggregate_results_executor`": [ran("aggregate_results_executor", {}, says='"count": 0')],
    "`api_key` among the inputs of `llm_executor`": [
        ran("llm_executor", {"prompt": "Hello", "model": "demo/demo", "api_key": "sk-1"}, says="demo model")
    ],
    "`temperature`, `max_tokens` among the params of `llm_executor`": [
        ran(
            "llm_executor", {"prompt": "Hello"}, params={"model": "demo/demo", "temperature": "hot"}, says="demo model"
        ),
        misfit("llm_executor", {"prompt": "Hello", "temperature": "hot"}, "llm_executor: temperature"),
    ],
    "`schemas.type` without `schemas.method`": [a_group_is_warned_of],
    "`docker_executor` with `volumes`, `resources`, and any image": [
        refused("tasks.create", {"name": "One", "schemas": {"method": "docker_executor"}}, "-32003")
    ],
    "`websocket_executor` returns `success: false` after a failure": [
        ran("websocket_executor", {"url": "ws://127.0.0.1/", "message": "x"}, status="failed", says="is not public")
    ],
    "`send_email_executor` with `from_email`, `smtp_host`, `api_key` and the like": [
        refused("tasks.create", {"name": "One", "schemas": {"method": "send_email_executor"}}, "-32003")
    ],
    "`mcp_executor`": [
        refused("tasks.create", {"name": "One", "schemas": {"method": "mcp_executor"}}, "tasks[0].inputs")
    ],
    '`scrape_executor` returns `{"result": …}`, one text with title and description': [
        ran("scrape_executor", LOOPBACK, status="failed", says="is not public")
    ],
    "`ssh_executor` with `username`, `password`, `key_file`, `port`, `env`": [
        refused("tasks.create", {"name": "One", "schemas": {"method": "ssh_executor"}}, "-32003")
    ],
    "`grpc_executor` with `proto_file`, and without encryption": [
        ran(
            "grpc_executor",
            {"server": "127.0.0.1", "service": "a.B", "method": "C"},
            status="failed",
            says="not public",
        )
    ],
    "`wait_for_completion` of `apflow_api_executor` is false by default; `use_streaming`, `poll_interval`": [
        another_server_is_waited_for
    ],
}
