"""What the conformance kit of the A2A project expects of an agent: it behaves as the beginning of a message's id says.

Nothing of it is in the product. `make conformance-server` starts a server with it; docs/reference/a2a.md says more.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Final

from aipartnerupflow.a2a import Ask, Decision, Incoming, Reject, Reply, RunTree
from aipartnerupflow.executors import Context, Executor, Json

FILE: Json = {"filename": "output.txt", "mediaType": "text/plain"}


class Answer(Executor):
    """Returns the `value` of its inputs, after `seconds`."""

    id = "conformance_executor"
    name = "Conformance"
    description = "Returns what it is told to, after a while."
    tags = ("test",)
    input_schema: ClassVar[Json] = {"type": "object", "properties": {"value": {}, "seconds": {"type": "number"}}}
    example: ClassVar[Json] = {"value": "hello"}

    async def execute(self, inputs: Json, context: Context) -> Any:
        await asyncio.sleep(inputs.get("seconds", 0))
        return inputs["value"]


def answering(value: Any, *, seconds: float = 0) -> Decision:
    """A task that comes to this."""
    inputs = {"value": value, "seconds": seconds}
    return RunTree(tasks=[{"name": "answer", "schemas": {"method": Answer.id}, "inputs": inputs}])


#: The beginning of a message's id → what the message means. The first one that fits counts.
MEANINGS: dict[str, Callable[[], Decision]] = {
    "tck-complete-task": lambda: answering("Hello from TCK"),
    "tck-artifact-text": lambda: answering("Generated text content"),
    "tck-artifact-file-url": lambda: answering({"parts": [FILE | {"url": "https://example.com/output.txt"}]}),
    "tck-artifact-file": lambda: answering({"parts": [FILE | {"raw": "R2VuZXJhdGVkIGZpbGU="}]}),
    "tck-artifact-data": lambda: answering({"key": "value", "count": 42}),
    "tck-message-response": lambda: Reply(parts=[{"text": "Direct message response"}]),
    "tck-input-required": lambda: Ask(text="What else?"),
    "tck-reject-task": lambda: Reject(text="Rejected, as it was told to."),
    "tck-stream-002": lambda: Reply(parts=[{"text": "Direct message response"}]),
    "tck-stream-artifact-file": lambda: answering({"parts": [FILE | {"raw": "R2VuZXJhdGVkIGZpbGU="}]}, seconds=0.2),
    "tck-stream": lambda: answering("Streamed text content", seconds=0.2),
    "test-resubscribe-message-id": lambda: answering("Hello again", seconds=6),
    "long-stream-message-id": lambda: answering("Hello again", seconds=600),
}


#: What the ids of the 1.0 kit begin with.
PREFIX: Final = "tck-"


def decide(incoming: Incoming) -> Decision:
    """What a message of the kit's means. Any other one of the 1.0 kit completes.

    Messages of the 0.3 kit, and follow-ups of theirs, ask for input: it continues, reads and cancels the tasks that it made.
    """
    message_id = incoming.message["messageId"]
    found = next((make for prefix, make in MEANINGS.items() if message_id.startswith(prefix)), None)
    if found is not None:
        return found()
    return answering("Hello from TCK") if message_id.startswith(PREFIX) else Ask(text="What else?")
