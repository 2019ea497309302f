# mypy: ignore-errors
"""A run through the agent with the official client of A2A 1.x; started in an environment of its own. Prints what it saw as JSON.

Arguments: the agent's address, the binding, where push notifications shall go, and the skills whose examples it runs.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import httpx
from a2a.client import ClientConfig
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client_factory import ClientFactory
from a2a.client.errors import A2AClientError
from a2a.helpers.proto_helpers import new_data_part, new_message, new_text_part
from a2a.types.a2a_pb2 import (
    AuthenticationInfo,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a.utils.errors import A2AError

FOLDER = tempfile.TemporaryDirectory()
BRIEF = {"skill": "sleep_executor", "inputs": {"seconds": 0.6, "steps": 3}}
TREE = {
    "tasks": [{"name": "echo_executor", "priority": 1, "params": {"retry": {"max_attempts": 2}}, "inputs": {"n": 7}}]
}
ECHO = {"skill": "echo_executor", "inputs": {"say": "hello"}}
WITH_FILE = {"skill": "echo_executor", "inputs": {"file": "{{run.inputs.files.0}}"}}


def request_of(part: Any, **configuration: Any) -> SendMessageRequest:
    message = new_message([part], role=Role.ROLE_USER)
    return SendMessageRequest(message=message, configuration=SendMessageConfiguration(**configuration))


def state_of(task: Task) -> str:
    return str(TaskState.Name(task.status.state))


async def run(url: str, binding: str, push_url: str, skills: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    http = httpx.AsyncClient(timeout=240)
    card = await A2ACardResolver(http, url).get_agent_card()
    seen["card"] = {"name": card.name, "skills": len(card.skills), "streaming": card.capabilities.streaming}
    common = {"supported_protocol_bindings": [binding], "grpc_channel_factory": grpc.aio.insecure_channel}
    streaming = ClientFactory(ClientConfig(**common, httpx_client=http)).create(card)
    plain = ClientFactory(ClientConfig(**common, httpx_client=http, streaming=False)).create(card)

    async def send(request: SendMessageRequest) -> Task:
        (response,) = [response async for response in plain.send_message(request)]
        return response.task

    done = await send(request_of(new_data_part(ECHO)))
    seen["send"] = {"state": state_of(done), "artifacts": [each.artifact_id == "result" for each in done.artifacts]}
    seen["tree"] = state_of(await send(request_of(new_data_part(TREE))))
    updates = [update async for update in streaming.send_message(request_of(new_data_part(BRIEF)))]
    seen["stream"] = {
        "kinds": [update.WhichOneof("payload") for update in updates],
        "last": TaskState.Name(updates[-1].status_update.status.state),
    }
    asking = await send(request_of(new_text_part("hello")))
    seen["ask"] = {"state": state_of(asking), "says": asking.status.message.parts[0].text}
    seen["skills"] = await outcomes(card, send, skills)
    answer = request_of(new_data_part(ECHO))
    answer.message.task_id = asking.id
    seen["answer"] = state_of(await send(answer))
    seen["get"] = state_of(await plain.get_task(GetTaskRequest(id=done.id, history_length=1)))
    page = await plain.list_tasks(ListTasksRequest(context_id=done.context_id))
    seen["list"] = {"ids": [task.id for task in page.tasks] == [done.id], "total": page.total_size}

    report = Part(raw=b"%PDF of 1.0", filename="report.pdf", media_type="application/pdf")
    both = SendMessageRequest(message=new_message([new_data_part(WITH_FILE), report], role=Role.ROLE_USER))
    returned = [part for part in (await send(both)).artifacts[-1].parts if part.WhichOneof("content") == "url"]
    seen["files"] = [[part.filename, part.media_type, (await http.get(part.url)).text] for part in returned]

    held, go_on = held_run()
    started = await send(request_of(new_data_part(held), return_immediately=True))
    again = await followed(streaming.subscribe(SubscribeToTaskRequest(id=started.id)), go_on)
    seen["resubscribe"] = {
        "first": again[0].WhichOneof("payload"),
        "last": TaskState.Name(again[-1].status_update.status.state),
    }
    endless = {"skill": "sleep_executor", "inputs": {"seconds": 60, "steps": 600}}
    doomed = await send(request_of(new_data_part(endless), return_immediately=True))
    seen["cancel"] = state_of(await plain.cancel_task(CancelTaskRequest(id=doomed.id)))

    held, go_on = held_run()
    pushed = await send(request_of(new_data_part(held), return_immediately=True))
    config = TaskPushNotificationConfig(
        task_id=pushed.id,
        id="mine",
        url=push_url,
        token="a-token",
        authentication=AuthenticationInfo(scheme="Bearer", credentials="a-credential"),
    )
    created = await plain.create_task_push_notification_config(config)
    named = {"task_id": pushed.id, "id": created.id}
    got = await plain.get_task_push_notification_config(GetTaskPushNotificationConfigRequest(**named))
    listed = await plain.list_task_push_notification_configs(ListTaskPushNotificationConfigsRequest(task_id=pushed.id))
    seen["push"] = {"id": created.id, "url": got.url == push_url, "listed": len(listed.configs), "task": pushed.id}
    await followed(streaming.subscribe(SubscribeToTaskRequest(id=pushed.id)), go_on)
    seen["errors"] = [
        await refused(plain.get_task(GetTaskRequest(id="nowhere"))),
        await refused(plain.cancel_task(CancelTaskRequest(id=done.id))),
        await refused(send(request_of(new_data_part({"skill": "nothing"})))),
        await refused(everything(streaming.send_message(request_of(new_data_part({"skill": "nothing"}))))),
        await refused(everything(streaming.subscribe(SubscribeToTaskRequest(id=done.id)))),
    ]
    other = await plain.create_task_push_notification_config(
        TaskPushNotificationConfig(task_id=done.id, id="gone", url=push_url)
    )
    for _ in range(2):
        await plain.delete_task_push_notification_config(
            DeleteTaskPushNotificationConfigRequest(task_id=done.id, id=other.id)
        )
    await streaming.close()
    await plain.close()
    return seen


async def outcomes(card: Any, send: Any, skills: str) -> dict[str, str]:
    """Skill → the text of the result of its example on the card. A question is answered with yes."""
    known = {skill.id: skill.examples[0] for skill in card.skills if skill.examples}
    return {skill: await outcome(known[skill], send) for skill in (known if skills == "all" else skills.split(","))}


async def outcome(example: str, send: Any) -> str:
    task = await send(request_of(new_text_part(example)))
    if state_of(task) == "TASK_STATE_INPUT_REQUIRED":
        answer = request_of(new_text_part("yes"))
        answer.message.task_id = task.id
        task = await send(answer)
    said = task.status.message.parts[0].text if state_of(task) == "TASK_STATE_FAILED" else ""
    return f"{state_of(task)} {said}".strip()


def held_run() -> tuple[dict[str, Any], Callable[[], None]]:
    """The data of a message whose run waits, and what ends the wait."""
    gate = Path(FOLDER.name, str(uuid4()))
    return {"skill": "scripted_executor", "inputs": {"gate": str(gate), "seconds": 1, "steps": 5}}, gate.touch


async def followed(stream: Any, go_on: Callable[[], None]) -> list[Any]:
    """All of a stream of a held run, which continues when the stream has begun."""
    seen = []
    async for each in stream:
        go_on()
        seen.append(each)
    return seen


async def everything(stream: Any) -> list[Any]:
    return [each async for each in stream]


async def refused(call: Any) -> list[str]:
    try:
        await call
    except (A2AError, A2AClientError) as error:
        return [type(error).__name__, str(error)]
    return ["nothing", ""]


sys.stdout.write(json.dumps(asyncio.run(run(*sys.argv[1:]))))
