"""The methods of the API as values: name, parameters and type of the reply. Both clients send them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, Literal, TypedDict, TypeVar, Unpack

import httpx

from .errors import Unreachable, error_of
from .types import (
    Answered,
    AuditEntries,
    CacheCleared,
    CachedResults,
    Cancellation,
    Counts,
    Deletion,
    Detail,
    Execution,
    FileDeleted,
    FileInfo,
    FileLink,
    Files,
    Generated,
    Home,
    HookDeleted,
    HookDeliveries,
    HookDelivery,
    InboundHook,
    InboundHooks,
    Json,
    LimitDeleted,
    LimitDetail,
    LLMKeyDeleted,
    LLMKeys,
    LLMKeyStored,
    NamedLimit,
    NamedLimits,
    Notification,
    NotificationDeleted,
    Notifications,
    NotificationTested,
    OpenQuestions,
    Page,
    Pause,
    RunningCount,
    RunWebhooks,
    SecretDeleted,
    SecretInfo,
    Secrets,
    SentEvent,
    Standing,
    StoredTree,
    Task,
    TreeNode,
    Usage,
    WebhookDeleted,
)

T = TypeVar("T")
Tasks = Sequence[Mapping[str, Any]] | Mapping[str, Any]
IdConflict = Literal["rename", "error"]
Scope = Literal["own", "shared"]
UsageGroup = Literal["day", "model", "executor", "flow", "user"]
CANCEL_SECONDS: Final = 10.0
"""Added to the timeout of `cancel`: the server waits for tasks to stop before it replies."""
GENERATE_SECONDS: Final = 180.0


class Changes(TypedDict, total=False):
    """The fields of a pending task that `update` changes."""

    name: str
    priority: int
    inputs: Json | None
    params: Json | None
    schemas: Json | None
    dependencies: list[str | Json]


class CopyOptions(TypedDict, total=False):
    """Options of `copy`.

    `copy_mode` chooses the task with its descendants and all their dependents (minimal), the whole
    tree (full), or `custom_task_ids` (custom). `children` adds dependencies (minimal) or
    descendants (custom).
    """

    children: bool
    copy_mode: Literal["minimal", "full", "custom"]
    custom_task_ids: list[str]
    reset_fields: list[str]


class Filters(TypedDict, total=False):
    """Filters and order of `list`. With `fields`, tasks have only these."""

    user_id: str
    status: str | list[str]
    run_status: str | list[str]
    tag: str
    text: str
    name: str
    since: str
    until: str
    root_only: bool
    summary: bool
    fields: Sequence[str]
    order: Literal["created_at", "-created_at"]
    page_size: int


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A method and its parameters. T is the type of its result."""

    method: str
    params: Mapping[str, Any]
    wait_seconds: float = 0
    """The seconds that the server may wait before it replies; added to the client's timeout."""
    headers: Mapping[str, str] | None = None
    path: str = "/tasks"
    read: Callable[[Any], Any] | None = None
    """A function that the result passes before it is returned."""

    def to_json(self) -> Json:
        return {"jsonrpc": "2.0", "id": 1, "method": self.method, "params": dict(self.params)}

    def result(self, response: httpx.Response) -> T:
        """Return the result in the response. Raises RpcError if it is an error or not JSON-RPC."""
        result: T = result_of(response) if self.read is None else self.read(result_of(response))
        return result


def result_of(response: httpx.Response) -> Any:
    """Return the result in a JSON-RPC response.

    Raises the RpcError for an error reply, or Unreachable if the response is not JSON-RPC.
    """
    try:
        reply = response.json()
    except ValueError:
        reply = None
    if not isinstance(reply, dict) or not reply.keys() & {"result", "error"}:
        raise Unreachable(
            f"{response.url} answered HTTP {response.status_code}, but not JSON-RPC. Check the URL of the server."
        )
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
    use_demo: bool = False,
    inputs: Json | None = None,
    run_inputs: Json | None = None,
    replace_inputs: bool = False,
    id_conflict: IdConflict | None = None,
    tags: Sequence[str] | None = None,
    idempotency_key: str | None = None,
    llm_key: str | None = None,
) -> Call[Execution]:
    """Run new tasks, or a stored task by its id.

    `inputs`, also called `run_inputs`, are the values for `{{run.inputs.topic}}` in the tree. A further run also has those of the run before
    it with other names, unless `replace_inputs` is set. `tags` are words by which `runs` finds the run. With `use_demo`,
    each executor returns its example result, and nothing is called. With `wait`, the server replies when the run has ended, or after `wait_timeout_seconds`.
    `llm_key` is a key, or `<provider>:<key>`, for this run only. A call with the same
    `idempotency_key` is executed once within 24 hours.
    """
    params = given(
        tasks=tasks,
        task_id=task_id,
        wait=wait,
        wait_timeout_seconds=wait_timeout_seconds if wait else None,
        copy_execution=copy_execution,
        copy_children=copy_children,
        use_demo=use_demo,
        run_inputs=inputs_of_run(inputs, run_inputs),
        replace_inputs=replace_inputs or None,
        tags=None if tags is None else list(tags),
        id_conflict=id_conflict,
    )
    return Call(
        "tasks.execute",
        params,
        wait_seconds=wait_timeout_seconds if wait else 0,
        headers=headers_of(idempotency_key, llm_key),
    )


def inputs_of_run(inputs: Json | None, run_inputs: Json | None) -> Json | None:
    """Return the inputs of a run, which have two names. Raises TypeError if both are given."""
    if inputs is not None and run_inputs is not None:
        raise TypeError("inputs and run_inputs are two names of the inputs of the run. Give one of them.")
    return run_inputs if inputs is None else inputs


def create(
    tasks: Tasks,
    *,
    execute: bool = False,
    id_conflict: IdConflict | None = None,
    tags: Sequence[str] | None = None,
    idempotency_key: str | None = None,
    llm_key: str | None = None,
) -> Call[StoredTree]:
    """Store a tree; with `execute`, also run it, with these `tags`.

    `llm_key`, as in `execute`, is used by its first run.
    """
    params = given(tasks=tasks, execute=execute, id_conflict=id_conflict, tags=None if tags is None else list(tags))
    return Call("tasks.create", params, headers=headers_of(idempotency_key, llm_key))


def get(task_id: str, *, expand: bool = True) -> Call[Task]:
    """One task, without its children. With `expand`, a large result is whole; else it is the value of its file."""
    return Call("tasks.get", {"task_id": task_id, "expand": expand})


def detail(task_id: str) -> Call[Detail]:
    """One task with its latest events, relatives, resolved inputs, timings and open question."""
    return Call("tasks.detail", {"task_id": task_id})


def tree(task_id: str) -> Call[TreeNode]:
    """Return the whole tree of the task: the root, with nested `children`."""
    return Call("tasks.tree", {"task_id": task_id}, read=_without_copies)


def _without_copies(root: Json) -> Json:
    """Remove `task`, in which each node repeats its fields for clients of the predecessor."""
    nodes = [root]
    while nodes:
        node = nodes.pop()
        node.pop("task", None)
        nodes.extend(node["children"])
    return root


def children(task_id: str) -> Call[list[Task]]:
    """Return the children of a task."""
    return Call("tasks.children", {"task_id": task_id})


def count(*, user_id: str | None = None, root_only: bool = False) -> Call[Counts]:
    """Return the number of tasks by status."""
    return Call("tasks.count", given(user_id=user_id, root_only=root_only))


def update(task_id: str, **changes: Unpack[Changes]) -> Call[Task]:
    """Change a pending task. Omitted fields keep their values."""
    return Call("tasks.update", {"task_id": task_id, **changes})


def delete(task_id: str, *, force: bool = False) -> Call[Deletion]:
    """Delete a task and its descendants if all are pending or, with `force`, finished."""
    return Call("tasks.delete", {"task_id": task_id, "force": force})


def answer(task_id: str, answer: Any, *, comment: str | None = None) -> Call[Answered]:
    """Answer the open question of a task.

    The answer is one of its options, an object that fits its form or, without both, any JSON value
    but null.
    """
    return Call("tasks.answer", given(task_id=task_id, answer=answer, comment=comment))


def questions(*, limit: int | None = None) -> Call[OpenQuestions]:
    """Return the open questions of your trees, and those that you may answer as an assignee, oldest first."""
    return Call("questions.list", given(limit=limit))


def send_event(event: str, payload: Any = None, *, event_id: str | None = None) -> Call[SentEvent]:
    """Send an event to your tasks that wait for it. With an id it may be sent again: it is one event."""
    return Call("events.send", {"event": event, "payload": payload, **given(id=event_id)})


def cancel(
    task_ids: str | Sequence[str], *, force: bool = False, error_message: str | None = None
) -> Call[list[Cancellation]]:
    """Cancel tasks and their descendants; with `force`, without time to clean up."""
    params = given(task_ids=_several(task_ids), force=force, error_message=error_message)
    return Call("tasks.cancel", params, wait_seconds=CANCEL_SECONDS)


def copy(task_id: str, **options: Unpack[CopyOptions]) -> Call[StoredTree]:
    """Copy a task into a new tree and store it."""
    return Call("tasks.copy", {"task_id": task_id, **options})


def preview_copy(task_id: str, **options: Unpack[CopyOptions]) -> Call[list[Json]]:
    """Return the tasks that `copy` would store, in the form that `create` accepts."""
    return Call("tasks.copy", {"task_id": task_id, **options, "save": False})


def generate(
    requirement: str,
    *,
    model: str | None = None,
    save: bool = False,
    run: bool = False,
    llm_key: str | None = None,
) -> Call[Generated]:
    """Generate a tree with a language model; with `save`, also store it, and with `run`, store and run it."""
    params = given(requirement=requirement, model=model, save=save, run=run or None)
    return Call("tasks.generate", params, wait_seconds=GENERATE_SECONDS, headers=headers_of(None, llm_key))


def running(*, user_id: str | None = None, limit: int | None = None) -> Call[list[Task]]:
    """Return the roots of the trees that are running or waiting for a worker, on all machines."""
    return Call("tasks.running.list", given(user_id=user_id, limit=limit))


def running_count(*, user_id: str | None = None) -> Call[RunningCount]:
    """Return the number of trees that are running or waiting for a worker."""
    return Call("tasks.running.count", given(user_id=user_id))


def status(task_ids: str | Sequence[str]) -> Call[list[Standing]]:
    """Return the status of each task, in request order; a root reports its latest run."""
    return Call("tasks.running.status", {"task_ids": _several(task_ids)})


def home(since: str | None = None) -> Call[Home]:
    """Return what failed since the last visit, by cause, and what is late, stuck or asked.

    `since`: `1h`, `24h`, `7d`, or a time in ISO 8601, instead of the last visit.
    """
    return Call("home.get", given(since=since))


def usage(
    *,
    since: str | None = None,
    until: str | None = None,
    by: UsageGroup | Sequence[UsageGroup] | None = None,
    model: str | None = None,
    executor: str | None = None,
    flow: str | None = None,
    user_id: str | None = None,
) -> Call[Usage]:
    """Return the tokens and the cost of model calls, by day unless `by` says otherwise.

    `since` and `until` are days in UTC, such as `2026-11-26`; by default the 30 days up to today.
    """
    by = by if by is None or isinstance(by, str) else list(by)
    chosen = given(since=since, until=until, by=by, model=model, executor=executor, flow=flow, user_id=user_id)
    return Call("usage.get", chosen)


def set_llm_key(provider: str, api_key: str, *, user_id: str | None = None) -> Call[LLMKeyStored]:
    """Store a key for an LLM provider. Runs of the user's tasks use it."""
    return Call("config.llm_key.set", given(provider=provider, api_key=api_key, user_id=user_id), path="/system")


def llm_keys(*, user_id: str | None = None) -> Call[LLMKeys]:
    """Return the providers for which a key is stored. Never the keys themselves."""
    return Call("config.llm_key.get", given(user_id=user_id), path="/system")


def delete_llm_key(provider: str, *, user_id: str | None = None) -> Call[LLMKeyDeleted]:
    """Delete the key for a provider."""
    return Call("config.llm_key.delete", given(provider=provider, user_id=user_id), path="/system")


def set_secret(
    name: str,
    value: str,
    *,
    allow_hosts: Sequence[str] | None = None,
    allow_in: Sequence[str] | None = None,
    scope: Scope | None = None,
    users: Sequence[str] | None = None,
) -> Call[SecretInfo]:
    """Store a named secret, which tasks use as `{{secret.NAME}}`.

    With `allow_hosts` it may only be sent there, in the inputs `allow_in` of tasks, by default `auth`
    and `headers`. A secret of the scope `shared` is for `users`, or
    for all; only administrators may store one. Without `allow_hosts`, `allow_in` and
    `users`, a secret that is replaced keeps its own; empty ones remove them.
    """
    params = given(
        name=name,
        value=value,
        allow_hosts=None if allow_hosts is None else list(allow_hosts),
        allow_in=None if allow_in is None else list(allow_in),
        scope=scope,
        users=None if users is None else list(users),
    )
    return Call("secrets.set", params, path="/system")


def secrets() -> Call[Secrets]:
    """Return the named secrets that the user may use. Never their values."""
    return Call("secrets.list", {}, path="/system")


def delete_secret(name: str, *, scope: Scope | None = None) -> Call[SecretDeleted]:
    """Delete a named secret."""
    return Call("secrets.delete", given(name=name, scope=scope), path="/system")


def limits(*, user_id: str | None = None) -> Call[NamedLimits]:
    """Return the named limits and what is paused, and how many tasks wait for each since when."""
    return Call("limits.list", given(user_id=user_id))


def limit(name: str, *, user_id: str | None = None) -> Call[LimitDetail]:
    """Return a named limit, and the tasks that wait for it."""
    return Call("limits.get", given(name=name, user_id=user_id))


def set_limit(name: str, limit: Mapping[str, Any], *, user_id: str | None = None) -> Call[NamedLimit]:
    """Set a named limit, as in the configuration: administrators for all users, others for their own tasks."""
    return Call("limits.set", given(name=name, user_id=user_id) | {"limit": dict(limit)})


def delete_limit(name: str, *, user_id: str | None = None) -> Call[LimitDeleted]:
    """Delete a named limit that was set."""
    return Call("limits.delete", given(name=name, user_id=user_id))


def pause_flow(name: str, *, user_id: str | None = None) -> Call[Pause]:
    """Let no task of a flow start until it is resumed."""
    return Call("flows.pause", given(name=name, user_id=user_id))


def resume_flow(name: str, *, user_id: str | None = None) -> Call[Pause]:
    """Let the tasks of a paused flow start."""
    return Call("flows.resume", given(name=name, user_id=user_id))


def pause_executor(executor_id: str) -> Call[Pause]:
    """Let no task of an executor start until it is resumed. Administrators only."""
    return Call("executors.pause", {"executor_id": executor_id})


def resume_executor(executor_id: str) -> Call[Pause]:
    """Let the tasks of a paused executor start. Administrators only."""
    return Call("executors.resume", {"executor_id": executor_id})


def pause_provider(provider: str) -> Call[Pause]:
    """Let no call of a provider's models begin until it is resumed. Administrators only."""
    return Call("providers.pause", {"provider": provider})


def resume_provider(provider: str) -> Call[Pause]:
    """Let the calls of a paused provider begin. Administrators only."""
    return Call("providers.resume", {"provider": provider})


def pause_user(user_id: str) -> Call[Pause]:
    """Let no task of a user start until they are resumed. Administrators only."""
    return Call("users.pause", {"user_id": user_id})


def resume_user(user_id: str) -> Call[Pause]:
    """Let the tasks of a paused user start. Administrators only."""
    return Call("users.resume", {"user_id": user_id})


def cached() -> Call[CachedResults]:
    """Count the results in the cache, by executor."""
    return Call("cache.list", {})


def clear_cache(*, executor: str | None = None, flow: str | None = None) -> Call[CacheCleared]:
    """Remove results from the cache: of an executor, of a flow, or all."""
    return Call("cache.clear", given(executor=executor, flow=flow))


def create_file(name: str, size: int, *, media_type: str | None = None, sha256: str | None = None) -> Call[FileInfo]:
    """Announce a file of so many bytes, which follow with PUT at its `url`. `upload` does both."""
    given = {"name": name, "bytes": size, "media_type": media_type, "sha256": sha256}
    return Call("files.create", {name: value for name, value in given.items() if value is not None})


def file(file_id: str) -> Call[FileInfo]:
    """Return a file: its name, type, size and hash."""
    return Call("files.get", {"file_id": file_id})


def files(*, limit: int = 100, cursor: str | None = None, run_id: str | None = None) -> Call[Files]:
    """Return a page of the files, or of those that the tree of a run names, the newest first."""
    given = {"limit": limit, "cursor": cursor, "run_id": run_id}
    return Call("files.list", {name: value for name, value in given.items() if value is not None})


def delete_file(file_id: str) -> Call[FileDeleted]:
    """Delete a file that no tree and no flow names."""
    return Call("files.delete", {"file_id": file_id})


def link_file(file_id: str, *, minutes: int | None = None) -> Call[FileLink]:
    """Return a link with which a browser may read the file for some minutes without a login."""
    return Call("files.link", {"file_id": file_id} | ({} if minutes is None else {"minutes": minutes}))


def page(*, page_size: int = 100, **filters: Any) -> Call[Page]:
    """Return the first page of a list; `next_page` returns the call for the next one."""
    if "fields" in filters:
        filters["fields"] = list(filters["fields"])
    return Call("tasks.list", filters | {"limit": page_size, "cursor": ""})


def next_page(call: Call[Page], answered: Page) -> Call[Page] | None:
    cursor = answered["next_cursor"]
    return None if cursor is None else replace(call, params={**call.params, "cursor": cursor})


def given(**params: Any) -> Json:
    """Return the parameters that are not None."""
    return {name: value for name, value in params.items() if value is not None}


def _several(task_ids: str | Sequence[str]) -> list[str]:
    return [task_ids] if isinstance(task_ids, str) else list(task_ids)


def headers_of(idempotency_key: str | None, llm_key: str | None) -> Mapping[str, str] | None:
    """Headers of a call, or None.

    With an idempotency key, repeating the call within 24 hours is safe.
    """
    return given(**{"Idempotency-Key": idempotency_key, "X-LLM-API-KEY": llm_key}) or None


def audit(
    *,
    since: str | None = None,
    until: str | None = None,
    user_id: str | None = None,
    action: str | None = None,
    limit: int = 100,
    cursor: str = "",
) -> Call[AuditEntries]:
    """Return a page of the audit log, the newest entry first: what the user did or, for administrators, what all did.

    `action` is one, such as `login.failed`, or the first part of several, such as `user`.
    """
    wanted = given(since=since, until=until, user_id=user_id, action=action)
    return Call("audit.list", wanted | {"limit": limit, "cursor": cursor})


def set_notification(
    name: str,
    *,
    about: Sequence[Literal["failures", "questions"]] | None = None,
    flow: str | None = None,
    url: str | None = None,
    email: str | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    format: Literal["json", "slack"] | None = None,
) -> Call[Notification]:
    """Let a message be sent to `url` or `email` when a run of the flow fails; without `flow`, when any run does.

    `about`: `failures` (the default), `questions` of its tasks, or both. `format`: `json` (the default), or `slack` for an incoming
    webhook of Slack.
    """
    params = given(
        name=name,
        about=about and list(about),
        flow=flow,
        url=url,
        email=email,
        token=token,
        headers=headers and dict(headers),
        format=format,
    )
    return Call("notifications.set", params)


def notifications() -> Call[Notifications]:
    """Return the notifications of the user, by name."""
    return Call("notifications.list", {})


def delete_notification(name: str) -> Call[NotificationDeleted]:
    """Delete a notification."""
    return Call("notifications.delete", {"name": name})


def test_notification(name: str) -> Call[NotificationTested]:
    """Send a test message of a notification now, once."""
    return Call("notifications.test", {"name": name})


def set_hook(
    name: str,
    *,
    verifier: Literal["github", "stripe", "slack", "standard", "hmac"],
    secrets: Sequence[str],
    hmac: Mapping[str, Any] | None = None,
    tolerance_seconds: int | None = None,
    filter: Mapping[str, Any] | None = None,
    flow: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    event: str | None = None,
    payload: Mapping[str, Any] | None = None,
    answers: bool | None = None,
) -> Call[InboundHook]:
    """Let signed requests to an address start a flow, send an event or, with `answers`, answer questions from Slack.

    `secrets` are the names of one or two stored secrets; `url` of the reply is the address.
    """
    params = given(
        name=name,
        verifier=verifier,
        secrets=list(secrets),
        hmac=hmac and dict(hmac),
        tolerance_seconds=tolerance_seconds,
        filter=filter and dict(filter),
        flow=flow,
        inputs=None if inputs is None else dict(inputs),
        event=event,
        payload=None if payload is None else dict(payload),
        answers=answers,
    )
    return Call("hooks.set", params)


def hook(name: str) -> Call[InboundHook]:
    """Return an inbound hook with its address."""
    return Call("hooks.get", {"name": name})


def hooks() -> Call[InboundHooks]:
    """Return the inbound hooks of the user, by name."""
    return Call("hooks.list", {})


def delete_hook(name: str) -> Call[HookDeleted]:
    """Delete an inbound hook with its deliveries."""
    return Call("hooks.delete", {"name": name})


def hook_deliveries(
    name: str, *, limit: int = 100, before: int | None = None, with_body: bool = False
) -> Call[HookDeliveries]:
    """Return what was delivered to an inbound hook, the newest first."""
    return Call("hooks.deliveries", given(name=name, before=before) | {"limit": limit, "with_body": with_body})


def replay_delivery(name: str, delivery: int) -> Call[HookDelivery]:
    """Do again what a delivery did, with the hook as it is now."""
    return Call("hooks.replay", {"name": name, "delivery": delivery})


def webhooks(run_id: str) -> Call[RunWebhooks]:
    """Return the webhooks of a run, in the order in which they were added."""
    return Call("webhooks.list", {"run_id": run_id})


def delete_webhook(webhook_id: str) -> Call[WebhookDeleted]:
    """Delete a webhook: nothing more is sent to it."""
    return Call("webhooks.delete", {"webhook_id": webhook_id})
