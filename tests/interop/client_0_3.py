# mypy: ignore-errors
"""A run through the agent with the official client of A2A 0.3; started in an environment of its own. Prints what it saw as JSON.

Arguments: the agent's address, the binding, where push notifications shall go, and the skills whose examples it runs.
"""

import asyncio
import json
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from a2a.client import ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.errors import A2AClientError
from a2a.types import (
    DataPart,
    FilePart,
    FileWithBytes,
    GetTaskPushNotificationConfigParams,
    Message,
    Part,
    PushNotificationAuthenticationInfo,
    PushNotificationConfig,
    Role,
    Task,
    TaskIdParams,
    TaskPushNotificationConfig,
    TaskQueryParams,
    TextPart,
)

FOLDER = tempfile.TemporaryDirectory()
BRIEF = {"skill": "sleep_executor", "inputs": {"seconds": 0.6, "steps": 3}}
ECHO = {"skill": "echo_executor", "inputs": {"say": "hello"}}
WITH_FILE = {"skill": "echo_executor", "inputs": {"file": "{{run.inputs.files.0}}"}}


def message_of(part: TextPart | DataPart, task_id: str | None = None) -> Message:
    return Message(message_id=str(uuid4()), role=Role.user, parts=[Part(root=part)], task_id=task_id)


async def run(url: str, binding: str, push_url: str, skills: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    async with httpx.AsyncClient(timeout=240) as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        seen["card"] = {"name": card.name, "skills": len(card.skills), "streaming": card.capabilities.streaming}
        common = {"httpx_client": http, "supported_transports": [binding], "use_client_preference": True}
        streaming = ClientFactory(ClientConfig(**common)).create(card)
        plain = ClientFactory(ClientConfig(**common, streaming=False)).create(card)
        polling = ClientFactory(ClientConfig(**common, streaming=False, polling=True)).create(card)

        async def send(client: Any, message: Message) -> Task:
            (event,) = [event async for event in client.send_message(message)]
            task, _ = event
            return task

        done = await send(plain, message_of(DataPart(data=ECHO)))
        seen["send"] = {
            "state": done.status.state.value,
            "artifacts": [each.artifact_id == "result" for each in done.artifacts],
        }
        events = [event async for event in streaming.send_message(message_of(DataPart(data=BRIEF)))]
        seen["stream"] = {
            "kinds": [update.kind if update else "task" for _, update in events],
            "last": events[-1][0].status.state.value,
        }
        asking = await send(plain, message_of(TextPart(text="hello")))
        seen["ask"] = {
            "state": asking.status.state.value,
            "says": asking.status.message.parts[0].root.text,
        }
        seen["skills"] = await outcomes(card, partial(send, plain), skills)
        answered = await send(plain, message_of(DataPart(data=ECHO), task_id=asking.id))
        seen["answer"] = answered.status.state.value
        seen["get"] = (await plain.get_task(TaskQueryParams(id=done.id, history_length=1))).status.state.value

        report = FileWithBytes(bytes=b64encode(b"%PDF of 0.3").decode(), name="report.pdf", mime_type="application/pdf")
        both = message_of(DataPart(data=WITH_FILE))
        both.parts.append(Part(root=FilePart(file=report)))
        found = [part.root.file for part in (await send(plain, both)).artifacts[-1].parts if part.root.kind == "file"]
        seen["files"] = [[file.name, file.mime_type, (await http.get(file.uri)).text] for file in found]

        held, go_on = held_run()
        started = await send(polling, message_of(DataPart(data=held)))
        again = await followed(streaming.resubscribe(TaskIdParams(id=started.id)), go_on)
        seen["resubscribe"] = {
            "first": again[0][1].kind if again[0][1] else "task",
            "last": again[-1][0].status.state.value,
        }
        endless = {"skill": "sleep_executor", "inputs": {"seconds": 60, "steps": 600}}
        doomed = await send(polling, message_of(DataPart(data=endless)))
        seen["cancel"] = (await plain.cancel_task(TaskIdParams(id=doomed.id))).status.state.value

        held, go_on = held_run()
        pushed = await send(polling, message_of(DataPart(data=held)))
        authentication = PushNotificationAuthenticationInfo(schemes=["Bearer"], credentials="a-credential")
        config = PushNotificationConfig(id="mine", url=push_url, token="a-token", authentication=authentication)
        created = await plain.set_task_callback(
            TaskPushNotificationConfig(task_id=pushed.id, push_notification_config=config)
        )
        got = await plain.get_task_callback(
            GetTaskPushNotificationConfigParams(id=pushed.id, push_notification_config_id="mine")
        )
        seen["push"] = {
            "id": created.push_notification_config.id,
            "url": got.push_notification_config.url == push_url,
            "task": pushed.id,
        }
        await followed(streaming.resubscribe(TaskIdParams(id=pushed.id)), go_on)
        seen["errors"] = [
            await refused(plain.get_task(TaskQueryParams(id="nowhere"))),
            await refused(plain.cancel_task(TaskIdParams(id=done.id))),
            await refused(send(plain, message_of(DataPart(data={"skill": "nothing"})))),
            await refused(everything(streaming.send_message(message_of(DataPart(data={"skill": "nothing"}))))),
            await refused(everything(streaming.resubscribe(TaskIdParams(id=done.id)))),
        ]
    return seen


async def outcomes(card: Any, send: Any, skills: str) -> dict[str, str]:
    """Skill → the text of the result of its example on the card. A question is answered with yes."""
    known = {skill.id: skill.examples[0] for skill in card.skills if skill.examples}
    return {skill: await outcome(known[skill], send) for skill in (known if skills == "all" else skills.split(","))}


async def outcome(example: str, send: Any) -> str:
    task = await send(message_of(TextPart(text=example)))
    if task.status.state.value == "input-required":
        task = await send(message_of(TextPart(text="yes"), task_id=task.id))
    state = task.status.state.value
    said = task.status.message.parts[0].root.text if state == "failed" else ""
    return f"{state} {said}".strip()


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
    except A2AClientError as error:
        return [type(error).__name__, str(error)]
    return ["nothing", ""]


sys.stdout.write(json.dumps(asyncio.run(run(*sys.argv[1:]))))
