"""Call a model: the single function behind all executors that use one."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, Protocol

from aipartnerupflow.executors import Json
from tasks.executors.llm import demo
from tasks.executors.llm.loading import load
from tasks.executors.llm.prompt import Completion, Prompt
from tasks.telemetry import tracing

#: OpenTelemetry's names for token counts, and ours.
USAGE: Final = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}


def ignore(text: str) -> None:
    """Discard the text: the default for `heard`."""


class Models(Protocol):
    """A way to the models: directly, or through the worker process that has the keys (`tasks.pools`)."""

    async def ask(
        self,
        prompt: Prompt,
        *,
        spent: Callable[[Json], None],
        heard: Callable[[str], None],
        thought: Callable[[str], None] = ignore,
    ) -> Completion:
        """Call the model; see `ask` below. `thought` gets the reasoning of a streamed answer as it arrives."""
        ...

    async def check(self, prompt: Prompt) -> None:
        """See `check` below."""
        ...


class _Direct:
    """Calls models from this process."""

    async def ask(
        self,
        prompt: Prompt,
        *,
        spent: Callable[[Json], None],
        heard: Callable[[str], None],
        thought: Callable[[str], None] = ignore,
    ) -> Completion:
        provider, _, _ = prompt.model.partition("/")
        facts = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": prompt.model,
        }
        with tracing.span(f"chat {prompt.model}", facts, kind="client") as note:

            def counted(usage: Json) -> None:
                note({f"gen_ai.usage.{name}": usage.get(theirs) for name, theirs in USAGE.items()})
                spent(usage | {"model": prompt.model})

            if demo.is_demo(prompt.model):
                return await demo.answer(prompt, spent=counted, heard=heard)
            by_litellm = await load("tasks.executors.llm.litellm_calls.ask")
            answer: Completion = await by_litellm(prompt, spent=counted, heard=heard, thought=thought)
            return answer

    async def check(self, prompt: Prompt) -> None:
        if demo.is_demo(prompt.model):
            return demo.check()
        await (await load("tasks.executors.llm.litellm_calls.access"))(prompt)


MODELS: Final[ContextVar[Models]] = ContextVar("the way to the models", default=_Direct())  # noqa: B039  (it has no state)


async def ask(prompt: Prompt, *, spent: Callable[[Json], None], heard: Callable[[str], None] = ignore) -> Completion:
    """Call the model; pass the answer to `heard` as it arrives, and the usage to `spent` in any
    case.

    If cancelled, it ends the request within two seconds and raises Stopped with the answer so far.
    Raises ExecutorError.
    """
    return await MODELS.get().ask(prompt, spent=spent, heard=heard)


async def check(prompt: Prompt) -> None:
    """Raise ExecutorError if the prompt's model is unknown, or there is no key for it."""
    await MODELS.get().check(prompt)
