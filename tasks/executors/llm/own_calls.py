"""`Context.llm`: calls of models by executors of the operator's, with the key, the guard and the records of the task's run."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from aipartnerupflow.executors import Context, ExecutorError, Json
from tasks.executors.llm.client import ask, ignore
from tasks.executors.llm.parameters import PARAMETERS
from tasks.executors.llm.prompt import Prompt, api_base_for, model_for


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
        _check(options)
        context = self._context
        prompt = Prompt(
            model=model_for(context, model),
            messages=[{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages),
            options=options | ({"tools": list(tools)} if tools else {}),
            run_id=context.run_id,
            user_id=context.user_id,
            api_base=api_base_for(context),
            agent=agent,
            step=step,
        )
        return (await ask(prompt, heard=heard, spent=context.spent)).as_result()


def _check(options: Json) -> None:
    """Raise ExecutorError, permanent, for an option that no model is given."""
    if unknown := sorted(options.keys() - PARAMETERS.keys()):
        raise ExecutorError(
            f"context.llm: '{unknown[0]}' is not known; known are {', '.join(PARAMETERS)}.", permanent=True
        )
