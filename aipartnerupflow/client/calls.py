"""Every method, described once: its name, its parameters, what it answers. Both clients send these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, Literal, TypeVar, Unpack

import httpx

from aipartnerupflow.client.errors import Unreachable, error_of
from aipartnerupflow.client.types import (
    Answered,
    Cancelled,
    Changes,
    CopyOptions,
    Counts,
    Created,
    Deleted,
    Detail,
    Execution,
    Generated,
    Json,
    KeyDeleted,
    Keys,
    KeyStored,
    Page,
    RunningCount,
    State,
    Task,
)

T = TypeVar("T")
Tasks = Sequence[Mapping[str, Any]] | Mapping[str, Any]
IdConflict = Literal["rename", "error"]
CANCEL_SECONDS: Final = 10.0
"""What is asked to stop gets a moment to do so before the answer comes."""
GENERATE_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A method and its parameters; T is what it answers."""

    method: str
    params: Mapping[str, Any]
    wait_seconds: float = 0
    """So long the server may wait by itself before it answers."""
    headers: Mapping[str, str] | None = None
    path: str = "/tasks"

    def to_json(self) -> Json:
        return {"jsonrpc": "2.0", "id": 1, "method": self.method, "params": dict(self.params)}

    def result(self, response: httpx.Response) -> T:
        """Raises RpcError."""
        result: T = result_of(response)
        return result


def result_of(response: httpx.Response) -> Any:
    """What the server answered. Raises RpcError: what it refused, or Unreachable where it was no such server."""
    try:
        reply = response.json()
    except ValueError:
        reply = None
    if not isinstance(reply, dict) or not reply.keys() & {"result", "error"}:
        told = f"answered HTTP {response.status_code}, and not JSON-RPC"
        raise Unreachable(f"{response.url} {told}. Is this the address of the server?")
    if "error" in reply:
        raise error_of(reply["error"])
    return reply["result"]


def execute(
    tasks: Tasks | None = None,
    *,
    task_id: str | None = None,
    wait: bool = False,
    wait_timeout_seconds: float = 30,
    copy_execution: bool = False,
    copy_children: bool = False,
    id_conflict: IdConflict | None = None,
    idempotency_key: str | None = None,
    llm_key: str | None = None,
) -> Call[Execution]:
    """Run new tasks, or a stored one by its id. With `wait` the reply comes when the run is over or time is up.

    `llm_key` is a key, or `<provider>:<key>`, that is good for this run only.
    """
    params = _given(
        tasks=tasks,
        task_id=task_id,
        wait=wait,
        wait_timeout_seconds=wait_timeout_seconds if wait else None,
        copy_execution=copy_execution,
        copy_children=copy_children,
        id_conflict=id_conflict,
    )
    return Call(
        "tasks.execute",
        params,
        wait_seconds=wait_timeout_seconds if wait else 0,
        headers=_headers(idempotency_key, llm_key),
    )


def create(
    tasks: Tasks,
    *,
    execute: bool = False,
    id_conflict: IdConflict | None = None,
    idempotency_key: str | None = None,
    llm_key: str | None = None,
) -> Call[Created]:
    """Store a tree; with `execute` also run it. `llm_key`, as in `execute`, is for its first run."""
    params = _given(tasks=tasks, execute=execute, id_conflict=id_conflict)
    return Call("tasks.create", params, headers=_headers(idempotency_key, llm_key))


def get(task_id: str) -> Call[Task]:
    """One task, without its children."""
    return Call("tasks.get", {"task_id": task_id})


def detail(task_id: str) -> Call[Detail]:
    """One task with its last events, the tasks around it, the inputs that its executor gets, and its times."""
    return Call("tasks.detail", {"task_id": task_id})


def tree(task_id: str) -> Call[Task]:
    """The root of the task's tree, with nested `children`."""
    return Call("tasks.tree", {"task_id": task_id})


def children(task_id: str) -> Call[list[Task]]:
    """The tasks right below a task."""
    return Call("tasks.children", {"task_id": task_id})


def count(*, user_id: str | None = None, root_only: bool = False) -> Call[Counts]:
    """How many tasks there are, by status."""
    return Call("tasks.count", _given(user_id=user_id, root_only=root_only))


def update(task_id: str, **changes: Unpack[Changes]) -> Call[Task]:
    """Change a task that is pending. What is not given stays as it is."""
    return Call("tasks.update", {"task_id": task_id, **changes})


def delete(task_id: str, *, force: bool = False) -> Call[Deleted]:
    """Delete a task and what is below it, if all of it is pending; with `force` also if it has finished."""
    return Call("tasks.delete", {"task_id": task_id, "force": force})


def answer(task_id: str, answer: Any, *, comment: str | None = None) -> Call[Answered]:
    """Answer what a task asks: one of its options, or, where it offers none, any JSON value."""
    return Call("tasks.answer", _given(task_id=task_id, answer=answer, comment=comment))


def cancel(
    task_ids: str | Sequence[str], *, force: bool = False, error_message: str | None = None
) -> Call[list[Cancelled]]:
    """Stop tasks and all below them; with `force` without asking them first."""
    params = _given(task_ids=_several(task_ids), force=force, error_message=error_message)
    return Call("tasks.cancel", params, wait_seconds=CANCEL_SECONDS)


def copy(task_id: str, **options: Unpack[CopyOptions]) -> Call[Created]:
    """Store a new tree that is made from an old one."""
    return Call("tasks.copy", {"task_id": task_id, **options})


def preview_copy(task_id: str, **options: Unpack[CopyOptions]) -> Call[list[Json]]:
    """The tasks that `copy` would store, as `create` takes them."""
    return Call("tasks.copy", {"task_id": task_id, **options, "save": False})


def generate(
    requirement: str, *, model: str | None = None, save: bool = False, llm_key: str | None = None
) -> Call[Generated]:
    """Let a language model write the tree for what is wanted; with `save` store it. It is never run."""
    params = _given(requirement=requirement, model=model, save=save)
    return Call("tasks.generate", params, wait_seconds=GENERATE_SECONDS, headers=_headers(None, llm_key))


def running(*, user_id: str | None = None, limit: int | None = None) -> Call[list[Task]]:
    """The roots of the trees that run now, on any machine."""
    return Call("tasks.running.list", _given(user_id=user_id, limit=limit))


def running_count(*, user_id: str | None = None) -> Call[RunningCount]:
    """How many trees run now."""
    return Call("tasks.running.count", _given(user_id=user_id))


def status(task_ids: str | Sequence[str]) -> Call[list[State]]:
    """How each of the tasks stands, in the order asked for; a root stands for its tree."""
    return Call("tasks.running.status", {"task_ids": _several(task_ids)})


def set_llm_key(provider: str, api_key: str, *, user_id: str | None = None) -> Call[KeyStored]:
    """Keep a key for a provider of language models. Runs of one's own tasks use it."""
    return Call("config.llm_key.set", _given(provider=provider, api_key=api_key, user_id=user_id), path="/system")


def llm_keys(*, user_id: str | None = None) -> Call[Keys]:
    """Which providers there is a key for; never the keys."""
    return Call("config.llm_key.get", _given(user_id=user_id), path="/system")


def delete_llm_key(provider: str, *, user_id: str | None = None) -> Call[KeyDeleted]:
    """Forget the key for a provider."""
    return Call("config.llm_key.delete", _given(provider=provider, user_id=user_id), path="/system")


def page(*, page_size: int = 100, **filters: Any) -> Call[Page]:
    """The first page of a list; `next_page` is what follows it."""
    return Call("tasks.list", filters | {"limit": page_size, "cursor": ""})


def next_page(call: Call[Page], answered: Page) -> Call[Page] | None:
    cursor = answered["next_cursor"]
    return None if cursor is None else replace(call, params={**call.params, "cursor": cursor})


def _given(**params: Any) -> Json:
    return {name: value for name, value in params.items() if value is not None}


def _several(task_ids: str | Sequence[str]) -> list[str]:
    return [task_ids] if isinstance(task_ids, str) else list(task_ids)


def _headers(idempotency_key: str | None, llm_key: str | None) -> Mapping[str, str] | None:
    """With an idempotency key the same call may be sent again for a day: it is carried out once."""
    return _given(**{"Idempotency-Key": idempotency_key, "X-LLM-API-KEY": llm_key}) or None
