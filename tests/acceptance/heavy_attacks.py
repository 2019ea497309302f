"""What Mallory does to other users with small requests that make the server read, write or encode much: many of them at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpx

from tests.acceptance.attacks import Json, Mallory, Row, as_user, below, ended, task
from tests.servers import until

TASKS: Final = 4_000
BUSY: Final = 429
LIMIT_REACHED: Final = -32029
Send = Callable[[httpx.Client], httpx.Response]


def rpc(method: str, *, path: str = "/tasks", **params: object) -> Send:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return lambda http: http.post(path, json=body)


def fetch(path: str) -> Send:
    return lambda http: http.get(path)


def all_at_once(mallory: Mallory, sends: Sequence[Send]) -> None:
    """Send all, each on a connection of its own. Each is carried out, or refused as one too many."""
    with (
        httpx.Client(
            base_url=mallory.server.url,
            headers=as_user("mallory"),
            timeout=300,
            limits=httpx.Limits(max_connections=None),
        ) as http,
        ThreadPoolExecutor(len(sends)) as threads,
    ):
        for reply in threads.map(lambda send: send(http), sends):
            body = reply.text
            is_one_too_many = reply.status_code == BUSY or f'"code":{LIMIT_REACHED}' in body[:100]
            assert is_one_too_many or (reply.is_success and '"error":{"code"' not in body[:100]), body[:1000]


def stored(mallory: Mallory, *, tasks: int = TASKS) -> str:
    """The id of a stored tree."""
    tree = below(*(task(f"t{n}", "echo_executor", inputs={"number": n}) for n in range(tasks - 1)))
    root: Json = mallory.server.rpc("tasks.create", tree, **as_user("mallory"))
    return str(root[0]["id"] if isinstance(root, list) else root["id"])


def run_of(mallory: Mallory) -> tuple[str, str]:
    """The ids of a tree that has run, and of its run."""
    root_id = stored(mallory)
    mallory.server.rpc("tasks.execute", {"task_id": root_id}, **as_user("mallory"))
    until(lambda: ended(mallory.server, root_id), seconds=120, what="the end of the large tree")
    ((run_id,),) = mallory.server.query("SELECT id FROM tasks_run WHERE root_id = %s", root_id)
    return root_id, str(run_id)


def then(attack: Callable[[Mallory], None]) -> Callable[[Mallory], Json]:
    """The attack, and after it the reply to a small request, which is served as any other."""

    def whole(mallory: Mallory) -> Json:
        attack(mallory)
        return mallory.execute([task("last", "echo_executor")])

    whole.__name__ = attack.__name__
    return whole


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
    tree = below(*(task(f"t{n}", "echo_executor", inputs={"number": n}) for n in range(TASKS - 1)))
    body = {"jsonrpc": "2.0", "id": 1, "method": "tasks.create", "params": tree}
    all_at_once(mallory, [lambda http: http.post("/tasks", json=body)] * 12)


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
    body = [tree | {"id": number} for number in range(20)]
    all_at_once(mallory, [lambda http: http.post("/tasks", json=body)] * 4)


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
        deletions_of_large_trees,
    )
)
