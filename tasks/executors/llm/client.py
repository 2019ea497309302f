"""Call a model: the single function behind all executors that use one, and behind `Context.llm` of those of the operator."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final, Protocol

from aipartnerupflow.executors import Context, ExecutorError, Json
from tasks.executors.llm import demo
from tasks.executors.llm.loading import load
from tasks.executors.llm.prompt import PARAMETERS, Completion, Prompt, api_base_for, tries_for

DIGITS: Final = 16
"""The digits of the digest of a key: named limits match it."""


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
        def counted(usage: Json) -> None:
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


async def ready(prompt: Prompt) -> None:
    """Return when this process can call the model: its first call loads the libraries, for seconds."""
    if not demo.is_demo(prompt.model):
        await load("tasks.executors.llm.litellm_calls.ask")


async def key_digest(prompt: Prompt) -> str | None:
    """Return the digest of the LLM key that a call of this model would use; None without one. Raises ExecutorError."""
    if demo.is_demo(prompt.model):
        return None
    granted = await (await load("tasks.executors.llm.litellm_calls.access"))(prompt)
    return None if granted.api_key is None else sha256(granted.api_key.reveal().encode()).hexdigest()[:DIGITS]


DIRECT: Final[Models] = _Direct()
MODELS: Final[ContextVar[Models]] = ContextVar("the way to the models", default=DIRECT)


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


def with_own_calls(context: Context) -> Context:
    """Return the context with `llm`, whose calls are those of the context as it was: no cycle keeps both after the attempt."""
    return replace(context, llm=OwnCalls(context))


class OwnCalls:
    """`Context.llm` of one attempt. The task that makes a call decides where it is made."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(
        self,
        messages: str | Sequence[Json],
        *,
        model: str | None = None,
        tools: Sequence[Json] = (),
        heard: Callable[[str], None] = ignore,
        agent: str | None = None,
        step: int | None = None,
        **options: Any,
    ) -> Json:
        """Call a model once; see `aipartnerupflow.executors.Context.llm`."""
        if unknown := sorted(options.keys() - PARAMETERS.keys()):
            raise ExecutorError(
                f"context.llm: '{unknown[0]}' is not known; known are {', '.join(PARAMETERS)}.", permanent=True
            )
        context = self._context
        tries = tries_for(context, model)
        if not tries["others"]:  # params of these names may be the executor's own
            tries |= {"fallback": None, "hedge": None}
        prompt = Prompt(
            **tries,
            messages=[{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages),
            options=options | ({"tools": list(tools)} if tools else {}),
            run_id=context.run_id,
            user_id=context.user_id,
            api_base=api_base_for(context),
            agent=agent,
            step=step,
        )
        return (await ask(prompt, heard=heard, spent=context.spent)).as_result()
