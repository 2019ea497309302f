"""Executors that do what their inputs say, and tell a file outside of the database what they really did."""

import asyncio
import ctypes
import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Parked, Spawn, Stopped

#: Results that no database could store, by the name that asks for them.
ODD_RESULTS: dict[str, Any] = {"nan": {"x": [math.nan]}, "nul": ["a\0b"], "set": {1, 2}, "huge": "x" * (2**20 + 1)}
SECRET = "sk-canary-1234567890"


class Scripted(Executor):
    """Waits until there is a file `gate`, then `seconds`, in `steps`, and ends as `then` says.

    Writes its start and its end to the file `effects`.
    """

    id = "scripted_executor"
    name = "Scripted"
    description = "Does what its inputs say."
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "seconds": {"type": "number"},
            "steps": {"type": "integer"},
            "then": {"type": "string"},
            "fails_until_attempt": {"type": "integer"},
            "effects": {"type": "string"},
            "gate": {"type": "string"},
            "how": {"type": "string"},
            "says": {"type": "string"},
            "spends": {"type": "object"},
            "saves": {"type": "string"},
        },
    }

    async def execute(self, inputs: Json, context: Context) -> Any:
        _note(inputs, "start", context)
        try:
            await _wait(inputs, context)
            _speak(inputs, context)
            if "saves" in inputs:
                await context.files.call("begin_file", {"name": "left", "media_type": None})  # and never ended
                await context.files.save(f"{context.attempt}.txt", f"{inputs['saves']} {context.attempt}")
        except asyncio.CancelledError:
            _note(inputs, "give-up" if context.is_given_up() else "cancel", context)
            raise
        result = _result(inputs, context)
        _note(inputs, "end", context)
        return result


class Fragile(Scripted):
    """The same, but not safe to repeat."""

    id = "fragile_executor"
    name = "Fragile"
    idempotent = False


class Steady(Scripted):
    """The same, and equal tasks have the same result."""

    id = "steady_executor"
    name = "Steady"
    cacheable = True


class Looking(Fragile):
    """The same, but it can find out that a repetition does no harm."""

    id = "looking_executor"
    name = "Looking"

    async def is_repeatable(self, inputs: Json, context: Context) -> bool:
        return True


class Writing(Executor):
    """Returns a document with a text of so many characters, and what looks like places."""

    id = "writing_executor"
    name = "Writing"
    description = "Writes a document."

    async def execute(self, inputs: Json, context: Context) -> Json:
        text = f"{inputs['number']:09}{{{{secret.none}}}}{{{{{{{{" + "x" * inputs["size"]
        return {"number": inputs["number"], "text": text, "pages": [{"n": inputs["number"]}]}


class Measuring(Executor):
    """Returns the length of a text, or of the text of each document in a list."""

    id = "measuring_executor"
    name = "Measuring"
    description = "Measures texts."

    async def execute(self, inputs: Json, context: Context) -> Any:
        value = inputs["value"]
        return len(value) if isinstance(value, str) else [len(each["text"]) for each in value]


class Spawning(Executor):
    """Adds the tasks in its inputs to the tree."""

    id = "spawning_executor"
    name = "Spawning"
    description = "Adds tasks."
    idempotent = False

    async def execute(self, inputs: Json, context: Context) -> Spawn:
        return Spawn(tasks=inputs["tasks"], join=inputs.get("join", True), result=inputs.get("result"))


class Stepping(Executor):
    """Takes the steps of its inputs, each with `tasks`, one after the other. Its result is what it got after each.

    Before a step, `then` lets it `fail`, as long as no attempt has the number `until`, or `ask`. A step with `again` false is its end.
    """

    id = "stepping_executor"
    name = "Stepping"
    description = "Adds tasks, step by step."

    async def execute(self, inputs: Json, context: Context) -> Any:
        reply = context.reply
        got: list[Any] = [*reply.memo, reply.answer] if reply else []
        if len(got) == len(inputs["steps"]):
            return {"got": got}
        step = inputs["steps"][len(got)]
        if step.get("then") == "fail" and context.attempt < step["until"]:
            raise ExecutorError("It failed between two steps.")
        if step.get("then") == "ask":
            raise Parked("Go on?", memo=got)
        again = step.get("again", True)
        return Spawn(tasks=step["tasks"], again=again, memo=got if again else None)


class Asking(Executor):
    """Asks until the answer is what `until` says, and counts how often it asked. `leaves` says how it takes a cancellation meanwhile."""

    id = "asking_executor"
    name = "Asking"
    description = "Asks again and again."

    async def execute(self, inputs: Json, context: Context) -> Json:
        times = context.reply.memo["times"] if context.reply else 0
        if spends := inputs.get("spends"):
            context.spent(spends)
        if context.reply is None or context.reply.answer != inputs["until"]:
            raise Parked("What do you say?", schema=inputs.get("schema"), memo={"times": times + 1})
        return {"said": context.reply.answer, "times": times}

    async def call_off(self, inputs: Json, context: Context, *, memo: Any) -> Any:
        match inputs.get("leaves"):
            case "in anger":
                raise ExecutorError("The door is shut.")
            case "in pieces":
                raise ZeroDivisionError
            case "never":
                await asyncio.Event().wait()
        return memo


class Blocking(Executor):
    """Blocks a thread of the shared pool."""

    id = "blocking_executor"
    name = "Blocking"
    description = "Sleeps on a thread."

    async def execute(self, inputs: Json, context: Context) -> Json:
        await asyncio.to_thread(time.sleep, inputs["seconds"])
        return {}


class Fetching(Executor):
    """Sends a request through its context."""

    id = "fetching_executor"
    name = "Fetching"
    description = "Gets a URL."

    async def execute(self, inputs: Json, context: Context) -> Json:
        response = await context.fetch("GET", inputs["url"], timeout_seconds=60)
        return {"status_code": response.status_code}


class Impatient(Executor):
    """Sends a request, and waits only a moment for the answer."""

    id = "impatient_executor"
    name = "Impatient"
    description = "Gets a URL that answers at once."

    async def execute(self, inputs: Json, context: Context) -> Json:
        try:
            async with asyncio.timeout(0.1):
                await context.fetch("GET", inputs["url"])
        except TimeoutError:
            raise ExecutorError("The page was not fetched within 0.1 s") from None
        return {}


class Confiding(Executor):
    """Says all that it knows. With `stays` it waits to be cancelled."""

    id = "confiding_executor"
    name = "Confiding"
    description = "Returns its context."

    async def execute(self, inputs: Json, context: Context) -> Json:
        context.report(0.5, "half")
        match inputs.get("odd"):
            case "usage":
                context.spent({"prompt_tokens": "many"})
            case "progress":
                context.report("much", "")  # type: ignore[arg-type]
            case "partial result":
                raise Stopped(result=object())
        if inputs.get("stays"):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise Stopped(result="so far") from None
        context.log("a line")
        context.log("a torn \ud800 one")
        context.spent({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost_usd": 0.5})
        return {
            "task_id": context.task_id,
            "user_id": context.user_id,
            "attempt": context.attempt,
            "params": dict(context.params),
            "dependency_results": dict(context.dependency_results),
            "config": dict(context.config),
            "inputs": inputs,
        }


class Spinning(Executor):
    """Blocks its own event loop until there is a file `gate`."""

    id = "spinning_executor"
    name = "Spinning"
    description = "Blocks."

    async def execute(self, inputs: Json, context: Context) -> Json:
        _block(Path(inputs["started"]), Path(inputs["gate"]))
        return {}


def _block(started: Path, gate: Path) -> None:
    started.touch()
    while not gate.exists():
        time.sleep(0.01)


class Lost(Executor):
    """Cannot say where it runs."""

    id = "lost_executor"
    name = "Lost"
    description = "Fails to choose a pool."
    pool = "process"

    def pool_for(self, inputs: Json) -> str:
        return str(inputs["where"])

    async def execute(self, inputs: Json, context: Context) -> Json:
        return inputs


async def _wait(inputs: Json, context: Context) -> None:
    while _is_shut_out(inputs):  # noqa: ASYNC110  (no event reports a file)
        await asyncio.sleep(0.01)
    steps = inputs.get("steps", 0)
    for done in range(1, steps + 1):
        await asyncio.sleep(inputs.get("seconds", 0) / steps)
        context.report(done / steps, f"step {done} of {steps}")
    if not steps:
        await asyncio.sleep(inputs.get("seconds", 0))


def _is_shut_out(inputs: Json) -> bool:
    return "gate" in inputs and not Path(inputs["gate"]).exists()


def _speak(inputs: Json, context: Context) -> None:
    """Say odd things in the place that `how` names; `says` is in hexadecimal, since no JSON may hold it."""
    if "spends" in inputs:
        context.spent(inputs["spends"])
    text = bytes.fromhex(inputs.get("says", "")).decode("utf-8", "surrogatepass")
    match inputs.get("how"):
        case "error":
            raise ExecutorError(text)
        case "report":
            context.report(0.5, text)
        case "log":
            context.log(text)
        case "nan":
            context.report(math.nan, "")


def _result(inputs: Json, context: Context) -> Any:
    ending = inputs.get("then", "ok")
    if context.attempt < inputs.get("fails_until_attempt", 0):
        raise ExecutorError(f"Attempt {context.attempt} failed, as it was told to.")
    if ending == "fail":
        raise ExecutorError("It failed, as it was told to.", permanent=True)
    if ending == "ask" and context.reply is None:
        raise Parked("Go on?")
    if ending == "raise":
        raise RuntimeError(f"the key is {SECRET}")
    if ending == "stop":
        raise Stopped(result="half")
    if ending == "cancel":
        raise asyncio.CancelledError
    if ending in HARM:
        HARM[ending]()
    return ODD_RESULTS.get(ending, {"inputs": inputs, "attempt": context.attempt})


def _loop() -> None:
    while True:
        pass


#: What hurts the whole process, by the name that asks for it.
HARM: dict[str, Callable[[], object]] = {
    "die": lambda: os._exit(1),
    "crash": lambda: ctypes.string_at(0),
    "loop": _loop,
    "hold the lock of the interpreter": lambda: re.match(r"(a|a)+$", "a" * 64 + "b"),  # as C code that never returns
}


def _note(inputs: Json, what: str, context: Context) -> None:
    """One line, in one write, on the disk before the work goes on."""
    if "effects" not in inputs:
        return
    file = os.open(Path(inputs["effects"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{what} {context.name}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
