"""What Mallory does to other users with small requests that make the server read, write or encode much: many of them at once."""

import gzip
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

import grpc  # type: ignore[import-untyped]
import httpx
import orjson
from websockets.exceptions import ConnectionClosed

from tests.a2a.protocol.test_grpc import Stub
from tests.a2a.sockets import socket as web_socket
from tests.acceptance.attacks import MEGABYTE, Json, Mallory, Row, as_user, below, ended, task
from tests.admin.conftest import create_people, session_of
from tests.servers import environment_of, until

TASKS: Final = 4_000
WORKED: Final = 4_000
"""Tasks that an attack of many runs completes before the others are cancelled."""
BUSY: Final = 429
LIMIT_REACHED: Final = -32029
TOO_MANY_MESSAGES: Final = 4429
UNLIMITED: Final = ("grpc.max_receive_message_length", -1)
Send = Callable[[httpx.Client], httpx.Response]


def rpc(method: str, *, path: str = "/tasks", **params: object) -> Send:
    return post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, path=path)


def post(body: object, *, path: str = "/tasks", **headers: str) -> Send:
    """A request that is encoded once: this process also measures how long the other user waits."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    sent = {"Content-Type": "application/json", **headers}
    return lambda http: http.post(path, content=content, headers=sent)


def fetch(path: str, **headers: str) -> Send:
    return lambda http: http.get(path, headers=headers)


def replies_to(mallory: Mallory, sends: Sequence[Send], *, at_once: int = 60) -> list[httpx.Response]:
    """The replies to all, each sent on a connection of its own."""
    with (
        httpx.Client(
            base_url=mallory.server.url,
            headers=as_user("mallory"),
            timeout=300,
            limits=httpx.Limits(max_connections=None),
        ) as http,
        ThreadPoolExecutor(min(len(sends), at_once)) as threads,
    ):
        return list(threads.map(lambda send: send(http), sends))


def all_at_once(mallory: Mallory, sends: Sequence[Send]) -> None:
    """Send all. Each is carried out, or refused as one too many."""
    for reply in replies_to(mallory, sends):
        begins = reply.content[:100].decode(errors="replace")
        is_one_too_many = reply.status_code == BUSY or f'"code":{LIMIT_REACHED}' in begins
        assert is_one_too_many or (reply.is_success and '"error":{"code"' not in begins), reply.text[:1000]


def all_refused(mallory: Mallory, sends: Sequence[Send], *, status: int, code: int | None = None) -> None:
    """Send all. Each is refused with this status and code, or as one too many."""
    for reply in replies_to(mallory, sends):
        is_expected = reply.status_code == status and (code is None or f'"code":{code}' in reply.text)
        assert is_expected or reply.status_code == BUSY, f"{reply.status_code} {reply.text[:1000]}"


def large_tree(tasks: int = TASKS) -> list[Json]:
    return below(*(task(f"t{n}", "echo_executor", inputs={"number": n}) for n in range(tasks - 1)))


def stored(mallory: Mallory, *, tasks: int = TASKS) -> str:
    """The id of a stored tree."""
    root: Json = mallory.server.rpc("tasks.create", large_tree(tasks), **as_user("mallory"))
    return str(root[0]["id"] if isinstance(root, list) else root["id"])


def run_of(mallory: Mallory) -> tuple[str, str]:
    """The ids of a tree that has run, and of its run."""
    root_id = stored(mallory)
    mallory.server.rpc("tasks.execute", {"task_id": root_id}, **as_user("mallory"))
    until(lambda: ended(mallory.server, root_id), seconds=120, what="the end of the large tree")
    ((run_id,),) = mallory.server.query("SELECT id FROM tasks_run WHERE root_id = %s", root_id)
    return root_id, str(run_id)


def then(attack: Callable[[Mallory], None]) -> Callable[[Mallory], Json]:
    """The attack, the end of what it began, and then the reply to a small request, which is served as any other."""

    def whole(mallory: Mallory) -> Json:
        attack(mallory)
        begun = mallory.server.query(
            "SELECT id, root_id FROM tasks_run WHERE finished_at IS NULL AND user_id = %s", "mallory"
        )
        all_at_once(mallory, [rpc("tasks.cancel", task_id=root_id) for _, root_id in begun] or [fetch("/health")])
        ids = tuple(run_id for run_id, _ in begun)
        marks = ", ".join(["%s"] * len(ids))
        open_ = f"SELECT count(*) FROM tasks_run WHERE id IN ({marks}) AND finished_at IS NULL"
        until(lambda: not ids or mallory.server.query(open_, *ids) == [(0,)], seconds=120, what="the end of its runs")
        return mallory.execute([task("last", "echo_executor")])

    whole.__name__ = attack.__name__
    return whole


def completed(mallory: Mallory) -> int:
    """How many tasks of the first user have completed."""
    ((count,),) = mallory.server.query(
        "SELECT count(*) FROM tasks_task WHERE status = 'completed' AND user_id = 'mallory'"
    )
    return int(count)


def run_at_once(mallory: Mallory, sends: Sequence[Send]) -> None:
    """Send all, which begin runs, and wait until some of their tasks have completed."""
    before = completed(mallory)
    all_at_once(mallory, sends)
    until(lambda: completed(mallory) >= before + WORKED, seconds=120, what="some work of these runs", pause_seconds=0.2)


def stored_trees(mallory: Mallory, count: int) -> list[str]:
    """The ids of so many trees that have not run: those that are stored already, and new ones."""
    found = mallory.server.query(
        "SELECT id FROM tasks_task WHERE parent_id IS NULL AND status = 'pending' AND user_id = 'mallory' AND EXISTS "
        "(SELECT 1 FROM tasks_task other WHERE other.root_id = tasks_task.id AND other.name = %s) LIMIT %s",
        f"t{TASKS - 2}",
        count,
    )
    return [str(root_id) for (root_id,) in found] + [stored(mallory) for _ in range(count - len(found))]


@then
def forks_of_a_large_tree(mallory: Mallory) -> None:
    root_id = stored(mallory)
    all_at_once(mallory, [rpc("tasks.fork", task_id=root_id)] * 16)


@then
def copies_of_a_large_tree(mallory: Mallory) -> None:
    root_id = stored(mallory)
    all_at_once(mallory, [rpc("tasks.copy", task_id=root_id, children=True)] * 12)


@then
def large_trees_at_once(mallory: Mallory) -> None:
    all_at_once(mallory, [post({"jsonrpc": "2.0", "id": 1, "method": "tasks.create", "params": large_tree()})] * 12)


@then
def reads_of_a_large_history(mallory: Mallory) -> None:
    root_id, run_id = run_of(mallory)
    reads = [
        rpc("runs.compare", a=run_id, b=run_id),
        rpc("runs.export", run_id=run_id),
        rpc("tasks.tree", task_id=root_id),
    ]
    all_at_once(mallory, reads * 8)


@then
def mcp_reads_of_a_large_tree(mallory: Mallory) -> None:
    _, run_id = run_of(mallory)
    read = rpc("resources/read", path="/mcp", uri=f"task://{run_id}/tree")
    all_at_once(mallory, [read] * 48)


@then
def a2a_lists_with_history(mallory: Mallory) -> None:
    run_of(mallory)
    asked = fetch("/tasks?includeArtifacts=true&historyLength=100&pageSize=100")
    all_at_once(mallory, [asked] * 36)


@then
def text_searches(mallory: Mallory) -> None:
    run_of(mallory)
    all_at_once(mallory, [rpc("tasks.list", text="no such text", root_only=False, limit=100)] * 48)


@then
def batches_of_large_trees(mallory: Mallory) -> None:
    root_id, _ = run_of(mallory)
    tree = {"jsonrpc": "2.0", "method": "tasks.tree", "params": {"task_id": root_id}}
    all_at_once(mallory, [post([tree | {"id": number} for number in range(20)])] * 4)


@then
def objects_of_a2a_for_a_large_tree(mallory: Mallory) -> None:
    root_id, run_id = run_of(mallory)
    reads = [fetch(f"/v1/tasks/{run_id}"), rpc("tasks.tree", path="/", task_id=root_id)]
    all_at_once(mallory, reads * 12)


@then
def previews_of_copies(mallory: Mallory) -> None:
    root_id = stored(mallory)
    all_at_once(mallory, [rpc("tasks.copy", task_id=root_id, children=True, save=False)] * 12)


@then
def deletions_of_large_trees(mallory: Mallory) -> None:
    roots = [stored(mallory) for _ in range(8)]
    all_at_once(mallory, [rpc("tasks.delete", task_id=root_id, force=True) for root_id in roots])


@then
def runs_of_large_flows(mallory: Mallory) -> None:
    flow = {"name": "heavy", "tasks": large_tree(1_000)}
    mallory.server.rpc("flows.save", flow, **as_user("mallory"))
    run_at_once(mallory, [rpc("flows.run", name="heavy")] * 60)


@then
def runs_of_large_trees(mallory: Mallory) -> None:
    run_at_once(mallory, [rpc("tasks.execute", task_id=root_id) for root_id in stored_trees(mallory, 16)])


@then
def runs_of_copies_of_a_large_tree(mallory: Mallory) -> None:
    (root_id,) = stored_trees(mallory, 1)
    run_at_once(mallory, [rpc("tasks.execute", task_id=root_id, copy_execution=True, copy_children=True)] * 12)


@then
def triggers_of_a_schedule(mallory: Mallory) -> None:
    due = {"tasks": large_tree(), "at": "2999-01-01T00:00", "overlap": "allow"}
    schedule = mallory.server.rpc("schedules.create", due, **as_user("mallory"))
    run_at_once(mallory, [rpc("schedules.trigger", schedule_id=schedule["id"], overlap="allow")] * 30)


@then
def messages_with_large_trees(mallory: Mallory) -> None:
    sent = {"messageId": "m", "role": "ROLE_USER", "parts": [{"data": {"tasks": large_tree()}}]}
    params = {"message": sent, "configuration": {"returnImmediately": True}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
    run_at_once(mallory, [post(body, path="/", **{"A2A-Version": "1.0"})] * 16)


@then
def large_trees_of_an_mcp_tool(mallory: Mallory) -> None:
    call = rpc("tools/call", path="/mcp", name="run_tree", arguments={"tasks": large_tree()})
    run_at_once(mallory, [call] * 16)


@then
def large_trees_of_a_front_end(mallory: Mallory) -> None:
    """Each takes the first events of its stream and leaves."""

    def begin(number: int) -> Send:
        body = {
            "threadId": f"t{number}",
            "runId": f"r{number}",
            "messages": [],
            "forwardedProps": {"tasks": large_tree()},
        }
        content = orjson.dumps(body)
        return lambda http: first_of(
            http, "POST", "/ag-ui", content=content, headers={"Content-Type": "application/json"}
        )

    run_at_once(mallory, [begin(number) for number in range(16)])


def first_of(http: httpx.Client, method: str, path: str, *, most: int = 1, **options: object) -> httpx.Response:
    """The response, of whose body only so many bytes are read."""
    taken = b""
    with http.stream(method, path, **options) as response:  # type: ignore[arg-type]
        for part in response.iter_raw():
            taken += part
            if len(taken) >= most:
                break
    return httpx.Response(response.status_code, content=taken)


@then
def streams_of_a_large_finished_run(mallory: Mallory) -> None:
    """More than are allowed; each takes its part of the replay and leaves."""
    root_id, _ = run_of(mallory)
    all_at_once(mallory, [lambda http: first_of(http, "GET", f"/tasks/{root_id}/events", most=MEGABYTE)] * 100)


@then
def updates_of_a2a_of_a_large_finished_run(mallory: Mallory) -> None:
    """Each takes its part of the replay, which begins with the whole Task, and leaves."""
    _, run_id = run_of(mallory)
    asked = {"jsonrpc": "2.0", "id": 1, "method": "SubscribeToTask", "params": {"id": run_id, "after": 0}}
    content, headers = orjson.dumps(asked), {"Content-Type": "application/json", "A2A-Version": "1.0"}

    def follow(http: httpx.Client) -> httpx.Response:
        return first_of(http, "POST", "/", most=5 * MEGABYTE, content=content, headers=headers)

    all_at_once(mallory, [follow] * 60)


@then
def web_sockets_on_a_large_finished_run(mallory: Mallory) -> None:
    """Each gets all events of the run."""
    _, run_id = run_of(mallory)

    def follow(_: int) -> None:
        path = f"/ws?run_id={run_id}&after=0"
        with web_socket(mallory.server.url, path=path, additional_headers=as_user("mallory")) as client:
            client.until("final")

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(follow, range(20)))


@then
def grpc_reads_of_a_large_tree(mallory: Mallory) -> None:
    _, run_id = run_of(mallory)
    reads = [("GetTask", {"id": run_id}), ("ListTasks", {"includeArtifacts": True, "pageSize": 100})]
    with grpc.insecure_channel(f"127.0.0.1:{mallory.grpc_port}", options=[UNLIMITED]) as channel:
        stub = Stub(channel, authorization=as_user("mallory")["Authorization"])
        with ThreadPoolExecutor(24) as threads:
            list(threads.map(lambda asked: stub.received(*asked), reads * 12))


@then
def pages_of_a_large_tree(mallory: Mallory) -> None:
    """As many as several browsers ask for that show the tree and its run."""
    root_id, run_id = run_of(mallory)
    create_people({"mallory": "operator"}, env=environment_of(mallory.server.database_url, mallory.server.data_dir))
    shown = [f"/ui/tasks/{root_id}", f"/ui/growth/{root_id}", f"/ui/panel/{root_id}", f"/ui/logs/{root_id}"]
    shown += [f"/ui/runs/{run_id}/", "/ui/runs/", "/ui/", f"/ui/runs/{run_id}/download/"]
    with session_of("mallory", mallory.server) as browser:
        cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
    all_at_once(mallory, [fetch(path, **cookies) for path in shown * 8])


@then
def updates_of_a_large_tree(mallory: Mallory) -> None:
    root_id = stored(mallory)
    ids = mallory.server.query("SELECT id FROM tasks_task WHERE parent_id = %s ORDER BY name LIMIT 201", root_id)
    (first,), *others = ids
    all_at_once(mallory, [rpc("tasks.update", task_id=each, dependencies=[first]) for (each,) in others])


@then
def cancellations_of_a_large_tree(mallory: Mallory) -> None:
    tree = below(*(task(f"t{n}", "sleep_executor", inputs={"seconds": 600}) for n in range(TASKS)))
    root_id = mallory.execute(tree)["result"]["root_task_id"]
    at_work = "SELECT count(*) FROM tasks_task WHERE root_id = %s AND status = 'in_progress'"
    until(lambda: mallory.server.query(at_work, root_id)[0][0] > 100, seconds=60, what="a hundred tasks at work")
    all_at_once(mallory, [rpc("tasks.cancel", task_id=root_id)] * 50)


@then
def searches_and_sums(mallory: Mallory) -> None:
    asked = [rpc("runs.list", text="no such text"), rpc("usage.get", by=["day", "model", "executor", "flow"])]
    all_at_once(mallory, asked * 24)


@then
def secrets_of_the_largest_size(mallory: Mallory) -> None:
    """Four values for each of as many as a user may have."""
    value = "x" * 16_000
    all_at_once(mallory, [rpc("secrets.set", path="/system", name=f"large{n % 90}", value=value) for n in range(400)])
    all_at_once(mallory, [rpc("secrets.delete", path="/system", name=f"large{n}") for n in range(90)])


@then
def notifications_of_failures(mallory: Mallory) -> None:
    """A hundred runs fail, and ninety addresses are told of each."""
    mallory.web.answer(200)
    hooks = [
        rpc("notifications.set", name=f"n{n}", url=f"{mallory.web.url}/{n}", about=["failures"]) for n in range(90)
    ]
    all_at_once(mallory, hooks)
    failing = rpc("tasks.execute", tasks=[task("t", "rest_executor", inputs={"url": "no address"})])
    told = len(mallory.web.received)
    all_at_once(mallory, [failing] * 100)
    until(lambda: len(mallory.web.received) >= told + 1_000, seconds=120, what="a thousand messages")
    all_at_once(mallory, [rpc("notifications.delete", name=f"n{n}") for n in range(90)])


@then
def bodies_that_are_no_json(mallory: Mallory) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tasks.create","params":[' + b'{"name":"a"},' * 750_000 + b"!]}"
    all_refused(mallory, [post(body)] * 12, status=400, code=-32700)


@then
def bodies_that_are_refused(mallory: Mallory) -> None:
    """Valid JSON of as many parts as are read: more tasks than a tree may have, and a field that there is not."""
    tasks = (
        b'{"jsonrpc":"2.0","id":1,"method":"tasks.create","params":['
        + b'{"name":"aaaaaaaa"},' * 480_000
        + b'{"name":"a"}]}'
    )
    nested = (
        b'{"jsonrpc":"2.0","id":1,"method":"tasks.list","params":{"no_such":['
        + b'["aaaaaaaaaaaaaa"],' * 480_000
        + b"[]]}}"
    )
    for body in (tasks, nested):
        all_refused(mallory, [post(body)] * 6, status=200)


@then
def compressed_bodies(mallory: Mallory) -> None:
    """They are refused, so nothing of them is unpacked."""
    body = gzip.compress(b" " * 100 * MEGABYTE, compresslevel=1)
    all_refused(mallory, [post(body, **{"Content-Encoding": "gzip"})] * 48, status=415)


@then
def bodies_that_drip(mallory: Mallory) -> None:
    """Each connection sends a little of its body after every small request of the same user."""
    head = (
        f"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {MEGABYTE}\r\n"
    )
    head += f"Authorization: {as_user('mallory')['Authorization']}\r\n\r\n"
    address = ("127.0.0.1", int(mallory.server.url.rpartition(":")[2]))
    with ExitStack() as closing:
        dripping = [closing.enter_context(socket.create_connection(address)) for _ in range(150)]
        for each in dripping:
            each.sendall(head.encode())
        for _ in range(100):
            for each in dripping:
                each.sendall(b" " * 100)
            mallory.server.rpc("tasks.list", {"limit": 1}, **as_user("mallory"))


@then
def guesses_of_passwords(mallory: Mallory) -> None:
    guess = [post({"username": f"user{n}", "password": f"wrong {n}"}, path="/auth/login") for n in range(200)]
    all_refused(mallory, guess, status=401)


@then
def pings_of_web_sockets(mallory: Mallory) -> None:
    """Sixty thousand over fifty connections; one that sends too many at once is closed, and opened again."""

    def flood(_: int) -> None:
        left = 1_200
        while left > 0:
            try:
                with web_socket(mallory.server.url, additional_headers=as_user("mallory")) as client:
                    while left > 0:
                        client.send(action="ping")
                        left -= 1
            except ConnectionClosed as error:
                assert error.rcvd is None or error.rcvd.code == TOO_MANY_MESSAGES, error

    with ThreadPoolExecutor(50) as threads:
        list(threads.map(flood, range(50)))


HEAVY_ROWS: Final = tuple(
    Row(attack=attack, ends="completed")
    for attack in (
        forks_of_a_large_tree,
        copies_of_a_large_tree,
        large_trees_at_once,
        reads_of_a_large_history,
        mcp_reads_of_a_large_tree,
        a2a_lists_with_history,
        text_searches,
        batches_of_large_trees,
        objects_of_a2a_for_a_large_tree,
        previews_of_copies,
        searches_and_sums,
        streams_of_a_large_finished_run,
        updates_of_a2a_of_a_large_finished_run,
        web_sockets_on_a_large_finished_run,
        grpc_reads_of_a_large_tree,
        pages_of_a_large_tree,
        updates_of_a_large_tree,
        deletions_of_large_trees,
        secrets_of_the_largest_size,
        notifications_of_failures,
        bodies_that_are_no_json,
        bodies_that_are_refused,
        compressed_bodies,
        bodies_that_drip,
        guesses_of_passwords,
        pings_of_web_sockets,
    )
)
"""Of requests that are over once they are answered."""
RUN_ROWS: Final = tuple(
    Row(attack=attack, ends="completed")
    for attack in (
        cancellations_of_a_large_tree,
        runs_of_large_flows,
        runs_of_large_trees,
        runs_of_copies_of_a_large_tree,
        triggers_of_a_schedule,
        messages_with_large_trees,
        large_trees_of_an_mcp_tool,
        large_trees_of_a_front_end,
    )
)
"""Of requests that begin runs."""
