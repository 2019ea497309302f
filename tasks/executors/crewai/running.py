"""A running crew: CrewAI runs on its own thread, and calls its models on the event loop.

CrewAI blocks while it waits, so it must not run on the loop. Each model call of an agent is made
here like any other: with the key of the run's user, which CrewAI never sees, and so that cancelling
ends it at once. The crew's thread then learns from its model call that it is over.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Final

import orjson
from django.conf import settings

from aipartnerupflow.executors import Context, ExecutorError, Json, Stopped, on_a_thread
from aipartnerupflow.executors.base import NAMES
from tasks.executors.crewai.crew_spec import CrewSpec
from tasks.executors.llm.client import MODELS, ignore
from tasks.executors.llm.loading import load
from tasks.executors.llm.prompt import Completion, Prompt, api_base_for, models_for
from tasks.executors.mcp.offered import SERVERS, Offered
from tasks.executors.states import STATES
from tasks.rules.token_usage import added

ATTEMPTS: Final = 4
LONGEST_WAIT_SECONDS: Final = 60.0
STOP_SECONDS: Final = 1.5
SHOWN_CHARACTERS: Final = 500
KEPT: Final = "outputs"
"""The key of the stored outputs in the state of the task."""
TOOLS_AT_ONCE: Final = 4
"""The number of calls of MCP servers that a crew makes at once."""


class CrewOver(BaseException):
    """The crew was stopped, or `error` ended it.

    Not an Exception, because CrewAI would retry those.
    """

    def __init__(self, error: ExecutorError | None = None) -> None:
        super().__init__()
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The output of one task of the crew."""

    name: str
    output: str


class Crew:
    """One crew and its outputs so far. Create it, and await `run`, on the event loop."""

    def __init__(
        self, context: Context, *, label: str = "", on_step: Callable[[str, float], None] | None = None
    ) -> None:
        """`label` prefixes log lines. `on_step` is called with the name of each finished task and the part that is done; the
        default reports it as progress.
        """
        self.outputs: list[Output] = []
        self.usage: Json | None = None
        self.offered: dict[str, list[Offered]] = {}
        self.definitions: Mapping[str, Json] = {}
        self._context = context
        self._label = label
        self._on_step = on_step or (lambda name, done: context.report(done, f"{name} completed"))
        self._loop = asyncio.get_running_loop()
        self._llms = MODELS.get()  # CrewAI's threads have a context of their own
        self._servers = SERVERS.get()
        self._state = STATES.get()
        self._keeps_outputs = False
        self._places_for_tools = asyncio.Semaphore(TOOLS_AT_ONCE)
        self._calls: set[asyncio.Task[Any]] = set()
        self._calls_made = Counter[uuid.UUID]()
        self._is_over = False

    def model(self, wanted: str | None) -> str:
        """Return the model of an agent that wants one, or none in particular. Raises ExecutorError."""
        return models_for(self._context, wanted)[0]

    async def check(self, models: Iterable[str]) -> None:
        """Raise ExecutorError if a model or its key is unavailable, before any agent works in vain."""
        for model in dict.fromkeys(models):
            await self._llms.check(self._prompt(model, [], {}))

    async def find_tools(self, names: Iterable[str]) -> None:
        """Ask the servers for the tools of these names. Raises ExecutorError."""
        for name in names:
            found = await self._servers.named(name, place="works")
            for each in found:
                if each.problem:
                    self._log(f"The tool {each.name[:200]} is left out, because {each.problem}")
            self.offered[name] = [each for each in found if not each.problem]

    async def take_up(self, works: CrewSpec) -> None:
        """Continue after the last task that an attempt before this one has finished, and keep what this one finishes.

        Tasks that run at the same time are not kept: one of them may act while another one is stored.
        """
        if any(task.is_async for task in works.tasks):
            return
        self._keeps_outputs = True
        found = (await self._state.load()).get(KEPT)
        stored = orjson.loads(found) if found else {"outputs": [], "usage": None}
        names = [each["name"] for each in stored["outputs"]]
        if names and names == [task.name for task in works.tasks[: len(names)]]:
            self.outputs = [Output(**each) for each in stored["outputs"]]
            self.usage = stored["usage"]
            self._log(f"continues after {names[-1]}")

    async def run(self, path: str, what: Any) -> Json:
        """Run the crew that the function of this path makes of `what`. Raises ExecutorError; if cancelled, Stopped with the
        finished outputs.
        """
        async with places():
            kickoff = await load(path)
            thread = asyncio.wrap_future(on_a_thread(lambda: kickoff(self, what), name="crew"))
            try:
                result = await asyncio.shield(thread)
            except asyncio.CancelledError:
                self._is_over = True
                for call in self._calls:
                    call.cancel()
                # Another tool than one of a server cannot be interrupted: its thread ends after it.
                await asyncio.wait([thread], timeout=STOP_SECONDS)
                raise Stopped(result=self.so_far(None)) from None
            except CrewOver as over:
                raise over.error or ExecutorError("The crew ended early.") from None
            except ExecutorError:
                raise
            except Exception as error:  # CrewAI may raise anything; it knows no key that its text could contain
                text = str(error).strip().rstrip(".") or type(error).__name__
                shown = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
                raise ExecutorError(f"CrewAI failed: {shown}.") from error
            finally:
                self._is_over = True
        return self.so_far(result)

    def so_far(self, ended: Json | None) -> Json:
        """Return the result: what the crew has `ended` with, or None, and what it did."""
        tasks = [{"name": each.name, "output": each.output} for each in self.outputs]
        return {"result": None, "token_usage": self.usage, "tasks": tasks} | (ended or {})

    # Called by the crew, on its threads

    def ask(
        self, *, model: str, messages: Sequence[Json], options: Json, agent: str, crew_task: str | None
    ) -> Completion:
        """Call the model for an agent, and block until it answers. Raises CrewOver."""
        named = None if crew_task is None else f"{self._label}{crew_task}"
        prompt = replace(self._prompt(model, messages, options), agent=agent, crew_task=named)
        try:
            answer: Completion = self._awaited(lambda: self._ask(prompt))
            return answer
        except ExecutorError as error:
            raise CrewOver(error) from None

    def call_tool(self, tool: Offered, arguments: Json) -> Json:
        """Call a tool of a server, and block until it answers {result, content?}.

        Raises CrewOver, and ExecutorError for the model to read.
        """
        if not tool.is_safe:
            self.begin()

        async def call() -> Json:
            asked = orjson.dumps([self._label, tool.name, arguments], option=orjson.OPT_SORT_KEYS)
            call_id = uuid.uuid5(NAMES, f"{self._context.idempotency_key}/{asked.decode()}")
            self._calls_made[call_id] += 1
            key = f"{call_id}-{self._calls_made[call_id]}"
            async with self._places_for_tools:
                return await self._servers.call(tool.server, tool.tool, arguments, key=key, log=self._log)

        result: Json = self._awaited(call)
        return result

    def check_now(self, models: Iterable[str]) -> None:
        """Do what `check` does, and block meanwhile."""
        asyncio.run_coroutine_threadsafe(self.check(models), self._loop).result()

    def finish(self, name: str, output: str, *, steps: int) -> None:
        """Note a finished task of the crew, which has so many. Blocks until it is stored, if it is kept. Raises CrewOver."""

        def note() -> None:
            self.outputs.append(Output(name=name, output=output))
            if not self._is_over:  # a tool that could not be interrupted may end long after its task
                self._on_step(name, min(1.0, len(self.outputs) / steps))

        self._loop.call_soon_threadsafe(note)
        if self._keeps_outputs:
            self._awaited(lambda: self._keep(steps))

    def begin(self) -> None:
        """Block until it is stored that a tool acts, which may not be safe to repeat. Raises CrewOver."""
        try:
            self._awaited(self._context.begin)
        except ExecutorError as error:
            raise CrewOver(error) from None

    def _awaited(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Make a call on the event loop that ends with the crew, and block until it has. Raises CrewOver, and what the call raises."""
        if self._is_over:
            raise CrewOver

        async def counted() -> Any:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101  (this is a coroutine of a task)
            self._calls.add(task)
            try:
                return await call()
            finally:
                self._calls.discard(task)

        try:
            return asyncio.run_coroutine_threadsafe(counted(), self._loop).result()
        except (Stopped, asyncio.CancelledError, CancelledError):
            raise CrewOver from None

    # Called on the event loop

    def _log(self, text: str) -> None:
        self._context.log(f"{self._label}{text}")

    async def _keep(self, steps: int) -> None:
        """Store the outputs so far. The last one is not: with it the task ends."""
        if len(self.outputs) == steps:
            return
        try:
            kept = {"outputs": [asdict(each) for each in self.outputs], "usage": self.usage}
            await self._state.save({KEPT: orjson.dumps(kept)})
        except ExecutorError as error:
            self._keeps_outputs = False
            self._log(f"After a crash the crew will not continue from here: {error}")

    async def _ask(self, prompt: Prompt) -> Completion:
        """Call the model.

        Retry temporary errors, because otherwise the crew's earlier work would be lost.
        """
        for attempt in range(1, ATTEMPTS):
            try:
                return await self._ask_once(prompt)
            except ExecutorError as error:
                wait_seconds = error.retry_after_seconds or 2.0**attempt
                if error.permanent or wait_seconds > LONGEST_WAIT_SECONDS:
                    raise
                self._log(f"{error} Retrying in {wait_seconds:g} s.")
                await asyncio.sleep(wait_seconds)
        return await self._ask_once(prompt)

    async def _ask_once(self, prompt: Prompt) -> Completion:
        def spent(usage: Json) -> None:
            self.usage = added(self.usage, usage)
            self._context.spent(usage)

        answer = await self._llms.ask(prompt, heard=ignore, spent=spent)
        if tools := [call["function"]["name"] for call in answer.tool_calls]:
            self._log(f"calls {', '.join(tools)}")
        return answer

    def _prompt(self, model: str, messages: Sequence[Json], options: Json) -> Prompt:
        params = self._context.params
        models = params.get("model")
        return Prompt(
            model=model,
            others=models[1:] if isinstance(models, list) and model == models[0] else (),
            fallback=params.get("fallback"),
            hedge=params.get("hedge"),
            messages=messages,
            options=options,
            run_id=self._context.run_id,
            user_id=self._context.user_id,
            api_base=api_base_for(self._context),
        )


@cache
def places() -> asyncio.Semaphore:
    """Limits how many crews run at once in this process.

    Each takes a thread, and they share one processor.
    """
    return asyncio.Semaphore(settings.APFLOW_CREWAI.max_crews)
