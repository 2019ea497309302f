"""What Mallory does to other users: each function makes one request, and returns its reply."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson

from tests.a2a.a2a_client import token_of
from tests.executors_for_tests import HARM
from tests.llm_formats import Says
from tests.llm_server import LlmServer
from tests.servers import Server, until
from tests.sizes import size
from tests.tasks.executors.conftest import Web

Json = dict[str, Any]
MEGABYTE: Final = 2**20
RESPONSE_BYTES: Final = 34 * MEGABYTE
"""The default limit of stored data, and the text between."""
WAITS: Final = 1_000
"""How many tasks of a user may wait at once."""


def as_user(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(name)}"}


def task(name: str, executor: str, **fields: Any) -> Json:
    return {"id": name, "name": name, "schemas": {"method": executor}, **fields}


def below(*tasks: Json) -> list[Json]:
    return [{"id": "root", "name": "root"}, *({"parent_id": "root", **each} for each in tasks)]


def ended(server: Server, root_id: str) -> str | None:
    rows = server.query("SELECT status FROM tasks_run WHERE root_id = %s AND finished_at IS NOT NULL", root_id)
    return str(rows[0][0]) if rows else None


@dataclass(frozen=True, kw_only=True)
class Mallory:
    server: Server
    web: Web
    llm: LlmServer
    grpc_port: int = 0

    def execute(self, tasks: list[Json], **headers: str) -> Json:
        reply: Json = self.server.call("tasks.execute", {"tasks": tasks}, **as_user("mallory"), **headers)
        return reply


def schema_of_doubled_references(mallory: Mallory) -> Json:
    """It is refused: otherwise its validation would never end."""
    parts = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(50)} | {"a50": {}}
    schema = {"$ref": "#/$defs/a0", "$defs": parts}
    return mallory.execute([task("t", "echo_executor") | {"schemas": {"input_schema": schema}}])


def schemas_for_large_inputs(mallory: Mallory) -> Json:
    """Each is within the limits, and would take seconds for these inputs."""
    schema = {"properties": {"all": {"items": {"anyOf": [{"const": number} for number in range(3000)]}}}}
    inputs = {"all": [2999] * 100_000}
    schemas = {"method": "echo_executor", "input_schema": schema}
    return mallory.execute(
        below(*(task(f"t{n}", "echo_executor", inputs=inputs) | {"schemas": schemas} for n in range(size(1, full=2))))
    )


def prompt_without_a_value(mallory: Mallory) -> Json:
    """The error repeats the name of the value, a run of lower-case letters."""
    prompt = "{{" + "x" * 200_000 + "}}"
    return mallory.execute([task("t", "llm_executor", inputs={"prompt": prompt, "model": "demo/demo"})])


def template_with_a_thousand_places(mallory: Mallory) -> Json:
    inputs = {"prompt": "{{x}}" * 1000, "x": "y" * MEGABYTE, "model": "demo/demo"}
    return mallory.execute([task("t", "llm_executor", inputs=inputs)])


def fan_out_of_a_large_result(mallory: Mallory) -> Json:
    source = task("source", "echo_executor", inputs={"text": "x" * 900_000})
    return mallory.execute(
        below(source, *(task(f"t{n}", "echo_executor", dependencies=["source"]) for n in range(300)))
    )


def places_for_a_large_result(mallory: Mallory) -> Json:
    source = task("source", "echo_executor", inputs={"text": "x" * 900_000})
    inputs = {"texts": ["{{source.text}}"] * 5_000}
    takers = [task(f"t{n}", "echo_executor", inputs=inputs, dependencies=["source"]) for n in range(50)]
    return mallory.execute(below(source, *takers))


def secrets_in_large_results(mallory: Mallory) -> Json:
    """As many secrets as a run may use, in every form, are looked for in a hundred thousand texts."""
    for number in range(100):
        secret = {"name": f"s{number}", "value": f'"{number} & é% of mallory'}
        mallory.server.call("secrets.set", secret, path="/system", **as_user("mallory"))
    source = task("source", "echo_executor", inputs={"texts": ["%41 x"] * 15_000})
    inputs = {"all": [f"{{{{secret.s{number}}}}}" for number in range(100)], "texts": "{{source.texts}}"}
    takers = [task(f"t{n}", "echo_executor", inputs=inputs, dependencies=["source"]) for n in range(8)]
    return mallory.execute(below(source, *takers))


def expressions_that_grow(mallory: Mallory) -> Json:
    select = "x | " + " | ".join(["[@, @][]"] * 500)
    inputs = {"select": select, "x": list(range(1_000))}
    return mallory.execute(below(*(task(f"t{n}", "transform_executor", inputs=inputs) for n in range(20))))


def conditions_about_a_large_result(mallory: Mallory) -> Json:
    source = task("source", "echo_executor", inputs={"numbers": list(range(90_000))})
    asked = {"task": "source", "path": "/numbers", "op": "contains", "value": -1}
    params = {"when": {"any": [asked] * 99}}
    takers = [task(f"t{n}", "echo_executor", params=params, dependencies=["source"]) for n in range(300)]
    return mallory.execute(below(source, *takers))


def map_of_large_items(mallory: Mallory) -> Json:
    """The tasks for its items would have 100 MB of inputs."""
    params = {"for_each": {"items": ["x" * 10_000] * 100}}
    part = task("part", "echo_executor", inputs={"texts": ["{{item}}"] * 100}, parent_id="root")
    return mallory.execute([{"id": "root", "name": "root", "params": params}, part])


def map_of_10_000_items(mallory: Mallory) -> Json:
    params = {"for_each": {"items": list(range(9_990)), "max_items": 10_000, "max_parallel": 10_000}}
    part = task("part", "echo_executor", inputs={"item": "{{item}}"}, parent_id="root")
    return mallory.execute([{"id": "root", "name": "root", "params": params}, part])


def experiment_of_10_000_cases(mallory: Mallory) -> Json:
    """Ten thousand rows, each of which a flow runs as a tree of its own and an evaluator scores."""

    def ask(method: str, **params: Any) -> Json:
        answer: Json = mallory.server.rpc(method, params, **as_user("mallory"))
        return answer

    ask("flows.save", name="greet", tasks=[task("a", "echo_executor", inputs={"text": "{{run.inputs.who}}"})])
    rows = [{"inputs": {"who": f"n{number}"}, "expected": f"n{number}"} for number in range(10_000)]
    ask("datasets.save", name="people", rows=rows, flow="greet")
    exact = {"name": "exact", "with": {"exact": {"path": "/text"}}}
    return {"result": ask("evals.run", dataset="people", evaluators=[exact], at_once=500)}


def loop_of_a_thousand_rounds(mallory: Mallory) -> Json:
    params = {"repeat": {"until": {"path": "/n", "op": "eq", "value": 1_000}, "max": 1_000}}
    return mallory.execute([task("root", "echo_executor", inputs={"n": "{{round}}"}, params=params)])


def results_that_double(mallory: Mallory) -> Json:
    layers = [[task(f"0-{n}", "echo_executor", inputs={"text": "x" * 1000}) for n in range(100)]]
    for layer in range(1, 12):
        above = [each["id"] for each in layers[-1]]
        layers.append(
            [
                task(f"{layer}-{n}", "echo_executor", dependencies=[above[n], above[(n + 1) % len(above)]])
                for n in range(100)
            ]
        )
    return mallory.execute(below(*(each for layer in layers for each in layer)))


def flood_of_log_lines(mallory: Mallory) -> Json:
    said = {"how": "log", "says": ("x" * 50_000).encode().hex()}
    return mallory.execute(below(*(task(f"t{n}", "scripted_executor", inputs=said) for n in range(100))))


def tree_of_thousands(mallory: Mallory) -> Json:
    return mallory.execute(below(*(task(f"t{n}", "echo_executor") for n in range(3000))))


def requests_for_large_trees(mallory: Mallory) -> Json:
    """A batch of 50 trees of 16 MB each; lists of all of their tasks; their pages."""
    large = below(*(task(f"t{n}", "echo_executor", inputs={"text": "x" * 900_000}) for n in range(9)))
    reply = mallory.execute(large)
    asked = {"task_id": reply["result"]["root_task_id"]}
    until(lambda: ended(mallory.server, asked["task_id"]), seconds=60, what="the end of the large tree")
    trees = [{"jsonrpc": "2.0", "id": number, "method": "tasks.tree", "params": asked} for number in range(50)]
    everything = {"root_only": False, "limit": 1000}
    lists = [trees[0] | {"method": "tasks.list", "params": everything | cursor} for cursor in ({}, {"cursor": ""})]
    with httpx.Client(base_url=mallory.server.url, timeout=300, headers=as_user("mallory")) as http:
        for body in (trees, *lists) * 2:
            assert len(http.post("/tasks", json=body).content) < RESPONSE_BYTES
            assert len(http.get("/tasks", params={"includeArtifacts": "true"}).content) < RESPONSE_BYTES
    return reply


def charset_of_a_web_page(mallory: Mallory) -> Json:
    """Python has decoders that take hours."""
    mallory.web.answer(200, b"a" * 500_000, Content_Type="text/plain; charset=punycode")
    return mallory.execute([task("t", "rest_executor", inputs={"url": mallory.web.url})])


def messages_of_an_mcp_server(mallory: Mallory) -> Json:
    """More than are read, and log lines as long as a stream may be."""
    notice = b'data: {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "%s"}}\n\n'
    mallory.web.answer(200, Content_Type="text/event-stream")
    mallory.web.chunks = [notice % (b"x" * 2**20)] * 30 + [notice % b"x" * 500] * 30
    call = {"server": mallory.web.url, "tool": "t"}
    return mallory.execute(below(*(task(f"t{n}", "mcp_executor", inputs=call) for n in range(20))))


def flood_of_events(mallory: Mallory) -> Json:
    """Long ones that fit none of a thousand waits, addresses that are none, and then one that ends all waits."""
    waits = {"inputs": {"event": "go", "match": {"/n": 1}}}
    reply = mallory.execute(below(*(task(f"t{n}", "event_executor", **waits) for n in range(1_000))))
    sent = {"event": "go", "payload": {"n": 2, "text": "x" * 60_000}}
    for number in range(200):
        mallory.server.rpc("events.send", sent, **as_user("mallory"))
        assert mallory.server.http.post(f"/hooks/{number}", content=b"x" * 60_000).status_code == 404
    parked = "SELECT count(*) FROM tasks_question WHERE event = 'go' AND closed_at IS NULL AND digest IS NOT NULL"
    until(lambda: mallory.server.query(parked) == [(1_000,)], seconds=120, what="a thousand waits")
    woken = mallory.server.rpc("events.send", {"event": "go", "payload": {"n": 1}}, **as_user("mallory"))["woken"]
    assert woken == 1_000
    return reply


def storm_of_cancellations(mallory: Mallory) -> Json:
    reply = mallory.execute(below(*(task(f"t{n}", "sleep_executor", inputs={"seconds": 600}) for n in range(300))))
    for _ in range(30):
        mallory.server.call("tasks.cancel", {"task_id": reply["result"]["root_task_id"]}, **as_user("mallory"))
    return reply


def sockets_that_say_nothing(mallory: Mallory) -> Json:
    address = ("127.0.0.1", int(mallory.server.url.rpartition(":")[2]))
    idle = [socket.create_connection(address) for _ in range(50)]
    try:
        return mallory.execute([task("t", "sleep_executor", inputs={"seconds": 2})])
    finally:
        for each in idle:
            each.close()


def front_ends_that_read_nothing(mallory: Mallory) -> Json:
    """Each repeats a request for the events of a large tree, and takes none of them."""
    tasks = below(*(task(f"t{n}", "echo_executor", inputs={"text": "x" * 1_000}) for n in range(2_000)))
    body = orjson.dumps({"threadId": "silent", "runId": "1", "messages": [], "forwardedProps": {"tasks": tasks}})
    head = (
        f"POST /ag-ui HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    head += f"Authorization: {as_user('mallory')['Authorization']}\r\n\r\n"
    address = ("127.0.0.1", int(mallory.server.url.rpartition(":")[2]))
    silent = [socket.create_connection(address) for _ in range(30)]
    try:
        for each in silent:
            each.sendall(head.encode() + body)
        runs = "SELECT root_id FROM tasks_run WHERE context_id = 'silent'"
        ((root_id,),) = until(lambda: mallory.server.query(runs), seconds=120, what="one run")
        until(lambda: ended(mallory.server, root_id), seconds=300, what="the end of the run")
        assert len(mallory.server.query(runs)) == 1
        return {"result": {"root_task_id": root_id}}
    finally:
        for each in silent:
            each.close()


def trees_that_run_trees(mallory: Mallory) -> Json:
    """Forty trees of a hundred tasks each, which their tasks submit and wait for."""
    inner = below(*(task(f"t{n}", "echo_executor") for n in range(99)))
    return mallory.execute(below(*(task(f"r{n}", "run_tree_executor", inputs={"tasks": inner}) for n in range(40))))


def schedules_of_every_second(mallory: Mallory) -> Json:
    """Two hundred of them, ten times each."""
    due = {"tasks": task("t", "echo_executor"), "every_seconds": 1, "max_runs": 10, "overlap": "allow"}
    for _ in range(200):
        mallory.server.rpc("schedules.create", due, **as_user("mallory"))
    left = "SELECT count(*) FROM tasks_schedule WHERE next_run_at IS NOT NULL"
    until(lambda: mallory.server.query(left) == [(0,)], seconds=120, what="all scheduled runs")
    return mallory.execute([task("last", "echo_executor")])


def runs_of_a_large_flow(mallory: Mallory) -> Json:
    tree = below(*(task(f"t{n}", "echo_executor", inputs={"text": "x" * 800}) for n in range(1_000)))
    mallory.server.rpc("flows.save", {"name": "large", "tasks": tree}, **as_user("mallory"))
    for _ in range(9):
        mallory.server.rpc("flows.run", {"name": "large"}, **as_user("mallory"))
    last: Json = mallory.server.call("flows.run", {"name": "large"}, **as_user("mallory"))
    return last


def questions_for_another_user(mallory: Mallory) -> Json:
    """Long ones, all to be answered by Bob, whose inbox is read meanwhile; then they are withdrawn."""
    asked = {"question": "x" * 9_000, "options": ["yes", "no"], "assignees": ["bob"]}
    reply = mallory.execute(below(*(task(f"t{n}", "approval_executor", inputs=asked) for n in range(500))))
    opened = "SELECT count(*) FROM tasks_question WHERE closed_at IS NULL"
    until(lambda: mallory.server.query(opened)[0][0] >= 500, seconds=120, what="all questions")
    inbox = mallory.server.http.get("/api/questions/", headers=as_user("bob"))
    assert (inbox.status_code, len(inbox.content) < RESPONSE_BYTES) == (200, True)
    mallory.server.rpc("tasks.cancel", {"task_id": reply["result"]["root_task_id"]}, **as_user("mallory"))
    return reply


def more_waits_than_allowed(mallory: Mallory) -> Json:
    """More and more of them, until they are counted again and fail; then all are withdrawn."""
    replies = [mallory.execute(waiting(WAITS))]
    refused = "SELECT count(*) FROM tasks_task WHERE error LIKE %s"

    def is_refused() -> bool:
        replies.append(mallory.execute(waiting(100)))
        until(lambda: not _are_begun(mallory, replies[-1]), seconds=60, what="the end or the wait of each")
        return bool(mallory.server.query(refused, "Cannot wait: %")[0][0] >= 100)

    until(is_refused, seconds=60, what="the refused waits", pause_seconds=1)
    for reply in replies[:-1]:
        mallory.server.rpc("tasks.cancel", {"task_id": reply["result"]["root_task_id"]}, **as_user("mallory"))
    return replies[-1]


def _are_begun(mallory: Mallory, reply: Json) -> bool:
    """Whether a task of the tree neither waits nor has ended."""
    root_id = reply["result"]["root_task_id"]
    open_ = "SELECT count(*) FROM tasks_task WHERE root_id = %s AND parent_id IS NOT NULL AND completed_at IS NULL"
    waits = "SELECT count(*) FROM tasks_question WHERE closed_at IS NULL AND task_id IN (SELECT id FROM tasks_task WHERE root_id = %s)"
    return bool(mallory.server.query(open_, root_id) != mallory.server.query(waits, root_id))


def waiting(count: int) -> list[Json]:
    return below(*(task(f"t{n}", "event_executor", inputs={"event": "never"}) for n in range(count)))


def workflow(name: str) -> Callable[[Mallory], Json]:
    def attack(mallory: Mallory) -> Json:
        return mallory.execute([{"name": name, "schemas": {"method": f"workflow:{name}"}}])

    attack.__name__ = f"workflow_{name}"
    return attack


def threads_that_block(mallory: Mallory) -> Json:
    return mallory.execute(below(*(task(f"t{n}", "blocking_executor", inputs={"seconds": 5}) for n in range(200))))


def answer_of_16_000_chunks(mallory: Mallory) -> Json:
    mallory.llm.will(Says(text="w " * 16_000))
    asked = task("t", "llm_executor", inputs={"prompt": "Speak.", "model": "openai/gpt-4"})
    return mallory.execute([asked], **{"X-LLM-API-KEY": "openai:sk-mallory-0123456789"})


def tree_of_10_000(mallory: Mallory) -> Json:
    return mallory.execute(below(*(task(f"t{n}", "echo_executor") for n in range(9_999))))


def harm(how: str, **params: Any) -> Callable[[Mallory], Json]:
    def attack(mallory: Mallory) -> Json:
        return mallory.execute([task("t", "scripted_executor", inputs={"then": how}, params=params)])

    attack.__name__ = "_".join([*how.split(), *map(str, params.values())])
    return attack


def functions(*called: str) -> Callable[[Mallory], Json]:
    """Functions that end or fill the process in which they run."""

    def attack(mallory: Mallory) -> Json:
        inputs = {"exit_at_once": {"code": 1}}
        calls = [{"function": each, "arguments": inputs.get(each, {})} for each in called * size(5, full=20)]
        return mallory.execute(below(*(task(f"t{n}", "python_executor", inputs=call) for n, call in enumerate(calls))))

    attack.__name__ = "functions_that_" + "_and_".join(called)
    return attack


@dataclass(frozen=True, kw_only=True)
class Row:
    """An attack, and how its run ends; None: the request is refused with -32602. `kills`: the worker process is replaced."""

    attack: Callable[[Mallory], Json]
    ends: str | None
    kills: bool = False


ROWS: Final = (
    Row(attack=schema_of_doubled_references, ends=None),
    Row(attack=schemas_for_large_inputs, ends="failed"),
    Row(attack=prompt_without_a_value, ends="failed"),
    Row(attack=template_with_a_thousand_places, ends="failed"),
    Row(attack=fan_out_of_a_large_result, ends="completed"),
    Row(attack=expressions_that_grow, ends="failed"),
    Row(attack=map_of_large_items, ends="failed"),
    Row(attack=charset_of_a_web_page, ends="completed"),
    Row(attack=storm_of_cancellations, ends="cancelled"),
    Row(attack=sockets_that_say_nothing, ends="completed"),
    Row(attack=functions("crash", "exit_at_once"), ends="failed"),
    Row(attack=functions("ask_for_memory"), ends="failed"),
)
LARGE_ROWS: Final = (
    Row(attack=results_that_double, ends="failed"),
    Row(attack=places_for_a_large_result, ends="failed"),
    Row(attack=secrets_in_large_results, ends="completed"),
    Row(attack=conditions_about_a_large_result, ends="failed"),
    Row(attack=requests_for_large_trees, ends="completed"),
    Row(attack=messages_of_an_mcp_server, ends="failed"),
    Row(attack=flood_of_log_lines, ends="completed"),
    Row(attack=flood_of_events, ends="completed"),
    Row(attack=front_ends_that_read_nothing, ends="completed"),
    Row(attack=loop_of_a_thousand_rounds, ends="completed"),
    Row(attack=fan_out_of_a_large_result, ends="completed"),
    Row(attack=functions("eat_memory"), ends="failed"),
)
LONG_ROWS: Final = (
    Row(attack=trees_that_run_trees, ends="completed"),
    Row(attack=schedules_of_every_second, ends="completed"),
    Row(attack=runs_of_a_large_flow, ends="completed"),
    Row(attack=questions_for_another_user, ends="cancelled"),
    Row(attack=more_waits_than_allowed, ends="failed"),
    Row(attack=threads_that_block, ends="completed"),
    Row(attack=answer_of_16_000_chunks, ends="completed"),
    Row(attack=tree_of_thousands, ends="completed"),
    Row(attack=tree_of_10_000, ends="completed"),
    Row(attack=map_of_10_000_items, ends="completed"),
    Row(attack=harm("die"), ends="failed", kills=True),
    Row(attack=harm("crash"), ends="failed", kills=True),
    Row(attack=harm("loop"), ends="failed", kills=True),
    Row(attack=harm("hold the lock of the interpreter"), ends="failed", kills=True),
    Row(attack=harm("die", pool="thread"), ends="failed", kills=True),
    Row(attack=workflow("endless"), ends="failed"),
    Row(attack=workflow("spin"), ends="failed"),
    *(Row(attack=harm(how, pool="process", timeout_seconds=3), ends="failed") for how in HARM),
)
"""Both are nightly: they take many seconds of processor time, or replace processes."""
EXPERIMENT_ROWS: Final = (Row(attack=experiment_of_10_000_cases, ends="completed"),)
"""It needs more bytes than the other rows may have."""
