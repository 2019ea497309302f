# mypy: ignore-errors
"""A workflow as a skill, with the official client of A2A 1.x; started in an environment of its own. Prints what it saw as JSON.

Arguments: the agent's address.
"""

import asyncio
import json
import sys

import httpx
from a2a.client import ClientConfig
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client_factory import ClientFactory
from a2a.helpers.proto_helpers import new_data_part, new_message, new_text_part
from a2a.types.a2a_pb2 import Role, SendMessageRequest, TaskState
from google.protobuf.json_format import MessageToDict


async def main(url: str) -> dict[str, object]:
    http = httpx.AsyncClient(timeout=240)
    card = await A2ACardResolver(http, url).get_agent_card()
    client = ClientFactory(ClientConfig(httpx_client=http, streaming=False)).create(card)
    seen = {"skills": [[skill.name, skill.description] for skill in card.skills if skill.id == "workflow:research"]}
    for name, part in {
        "data": new_data_part({"skill": "workflow:research", "inputs": {"topic": "rivers", "depth": 1}}),
        "text": new_text_part("research: rivers"),
    }.items():
        request = SendMessageRequest(message=new_message([part], role=Role.ROLE_USER))
        (response,) = [response async for response in client.send_message(request)]
        found = [
            MessageToDict(part.data)
            for artifact in response.task.artifacts
            for part in artifact.parts
            if part.HasField("data")
        ]
        seen[name] = [TaskState.Name(response.task.status.state), found]
    return seen


sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1]))))
