"""A workflow in this process, without a server: `await research("rivers")`. Steps run beside each other, and nothing is stored."""

import asyncio
import inspect
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

from aipartnerupflow.executors import ExecutorError, Json
from aipartnerupflow.workflows.drive import ROOT, SLEEP, Call, Cancel, Command, Drive, End
from aipartnerupflow.workflows.functions import Workflow
from aipartnerupflow.workflows.values import decoded, with_secrets

R = TypeVar("R")


async def run_here(workflow: Workflow[..., R], call: Call) -> R:
    """Run a workflow, and return its result. Raises what its code raises."""
    inputs: Json = _with_secrets(call, {})
    while True:
        drive = workflow.drive(inputs, seed=uuid4().hex, at=datetime.now(UTC))
        try:
            await _run_to_its_end(drive)
        finally:
            drive.close()
        if drive.outcome is None or drive.outcome.status != "again":
            return result_of(workflow, drive)
        inputs = drive.outcome.result


def result_of(workflow: Workflow[..., R], drive: Drive) -> R:
    """Return the result of a workflow that has ended, or raise what its code raised."""
    if drive.exception is not None:
        raise drive.exception
    result: R = decoded(drive.outcome and drive.outcome.result, workflow.hints.get("return", Any))
    return result


async def _run_to_its_end(drive: Drive) -> None:
    works: dict[str, asyncio.Task[End]] = {}

    def take(commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Cancel):
                works.pop(command.path).cancel()
            else:
                works[command.path] = asyncio.create_task(_performed(command))

    try:
        take(drive.begin())
        while drive.outcome is None:
            try:
                await asyncio.wait(works.values(), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                take(drive.deliver(ROOT, End(status="cancelled", at=datetime.now(UTC))))
            for path in [path for path, work in works.items() if work.done()]:
                if path in works:  # another end may have let the code cancel it
                    take(drive.deliver(path, works.pop(path).result()))
    finally:
        for work in works.values():
            work.cancel()


async def _performed(call: Call) -> End:
    if call.kind == "step":
        return await performed(call, at=datetime.now(UTC), secrets={})
    if call.kind == "workflow":
        try:
            result = await run_here(call.function, call)
        except Exception as error:  # noqa: BLE001  (the code of a workflow may raise anything)
            return failed(error, at=datetime.now(UTC))
        return End(status="completed", at=datetime.now(UTC), result=call.function.stored(result))
    if call.kind == SLEEP:
        until = call.inputs.get("until")
        seconds = (
            (datetime.fromisoformat(until) - datetime.now(UTC)).total_seconds() if until else call.inputs["seconds"]
        )
        await asyncio.sleep(max(0.0, seconds))
        return End(status="completed", at=datetime.now(UTC))
    missing = (
        f"{call.place}: {call.kind} '{call.target}' needs a server. In a test, give its answer: "
        f"aipartnerupflow.workflows.testing.play(…, answers={{{call.target!r}: …}})."
    )
    return End(status="failed", at=datetime.now(UTC), error=missing)


async def performed(call: Call, *, at: datetime, secrets: Mapping[str, str]) -> End:
    """Run the function of a step, with its time limit and its retries, and return its end. It takes plain functions to a thread."""
    step, options = call.function, call.options
    for left in range(options.get("retries", 0), -1, -1):
        try:
            arguments = step.arguments(_with_secrets(call, secrets))
            async with asyncio.timeout(options.get("timeout")):
                if inspect.iscoroutinefunction(step.__wrapped__):
                    result = await step.__wrapped__(**arguments)
                else:
                    result = await asyncio.to_thread(step.__wrapped__, **arguments)
            return End(status="completed", at=at, result=step.stored(result))
        except Exception as error:  # noqa: BLE001  (a step may raise anything)
            is_last = not left or (isinstance(error, ExecutorError) and error.permanent)
            if is_last:
                return failed(error, at=at, step=step)
    raise ValueError(f"{step.place}: retries is {options['retries']}. Give 0 or more.")


def failed(error: Exception, *, at: datetime, step: Any = None) -> End:
    """Return the end of a call that raised this exception."""
    name, text = type(error).__name__, str(error)
    said = text if isinstance(error, ExecutorError) or step is None else f"{step.__name__}() raised {name}: {text}"
    name, arguments = (step and step.declared(error)) or (name, None)
    return End(status="failed", at=at, error=said, exception=name, result=arguments)


def _with_secrets(call: Call, secrets: Mapping[str, str]) -> Json:
    """Return the inputs with the values of the secrets that they name. Raises ExecutorError, permanent, for one that is not there."""
    missing = next((name for name in call.secrets.values() if name not in secrets), None)
    if missing is not None:
        text = f"{call.place}: there is no secret '{missing}' here. In a test, give it: play(…, secrets={{{missing!r}: …}})."
        raise ExecutorError(text, permanent=True)
    inputs: Json = with_secrets(call.inputs, {pointer: secrets[name] for pointer, name in call.secrets.items()})
    return inputs
