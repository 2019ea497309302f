"""Conversations that go on from task to task: `params.conversation` names one of the owner's."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from aipartnerupflow.executors import Context, ExecutorError, Json
from apflow_site.db import pools
from llmkeys.masker import masked_here
from tasks.executors.placement import chosen_pool
from tasks.models import ConversationTurn
from tasks.rules.pools import LOOP

TOKENS: Final = 4_000
MOST_TOKENS: Final = 200_000
CHARACTERS_EACH_TOKEN: Final = 4
MOST_TURNS: Final = 200
NAME_CHARACTERS: Final = 255
ROLES: Final = ("user", "assistant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The part of one task of a user in a conversation, the answer last: messages `{"role", "content"}` of so many characters."""

    user_id: str
    name: str
    said: Sequence[Json]
    characters: int


_TURNS: Final[ContextVar[list[Turn]]] = ContextVar("turns of the attempt that runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation of a user, and how many tokens of it the model gets, as far as four characters are one."""

    user_id: str
    name: str
    tokens: int

    async def earlier(self, context: Context) -> list[Json]:
        """Return the newest messages, oldest first, without those of this task."""
        return await pools.read(_newest, self, run_id=context.run_id, task_id=context.task_id)

    def add(self, asked: Sequence[Json], answer: str) -> None:
        """Add what a task asked, and the answer. The worker stores it with the end of the task."""
        said = list[Json]()
        for message in asked:  # files and calls of tools are left out
            content = message.get("content")
            if isinstance(content, list):
                content = "\n".join(part["text"] for part in content if "text" in part)
            if message["role"] in ROLES and content:
                said.append({"role": message["role"], "content": content})
        said.append({"role": "assistant", "content": answer})
        masked = [message | {"content": masked_here(message["content"])} for message in said]
        characters = sum(len(message["content"]) for message in masked)
        if characters <= MOST_TOKENS * CHARACTERS_EACH_TOKEN:  # else no task could read it
            _TURNS.get().append(Turn(user_id=self.user_id, name=self.name, said=masked, characters=characters))


@contextmanager
def heard_turns() -> Iterator[list[Turn]]:
    """Collect what the executor that runs within it adds to a conversation."""
    turns: list[Turn] = []
    token = _TURNS.set(turns)
    try:
        yield turns
    finally:
        _TURNS.reset(token)


def turns_heard() -> list[Turn] | None:
    """Return what `heard_turns` collects here; None outside of it."""
    return _TURNS.get(None)


def conversation_of(context: Context) -> Conversation | None:
    """Return the conversation in the params; None without one. Raises ExecutorError."""
    params = context.params
    if params.get("conversation") is None:
        return None
    check(params)
    tokens = params.get("conversation_tokens", TOKENS)
    return Conversation(user_id=context.user_id, name=params["conversation"], tokens=tokens)


def check(params: Mapping[str, Any]) -> None:
    """Raise ExecutorError, permanent, for a conversation that cannot be."""
    name, tokens = params.get("conversation"), params.get("conversation_tokens", TOKENS)
    if name is None:
        if "conversation_tokens" in params:
            raise _refused("params.conversation_tokens is for params.conversation, which is missing.")
        return
    if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS or "\0" in name:
        raise _refused(f"params.conversation must be a name of 1 to {NAME_CHARACTERS} characters.")
    if type(tokens) is not int or not 0 < tokens <= MOST_TOKENS:
        raise _refused(f"params.conversation_tokens must be an integer from 1 to {MOST_TOKENS:,}.")
    if (pool := chosen_pool("llm_executor", params) or LOOP) != LOOP:
        raise _refused(f"params.conversation needs the pool '{LOOP}', and the task runs in '{pool}'.")


def _newest(conversation: Conversation, *, run_id: str, task_id: str) -> list[Json]:
    turns = ConversationTurn.objects.filter(user_id=conversation.user_id, name=conversation.name)
    others = turns.exclude(run_id=run_id, task_id=task_id).order_by("-id")
    fitting, left = list[int](), conversation.tokens * CHARACTERS_EACH_TOKEN
    for turn, characters in others.values_list("id", "characters")[:MOST_TURNS]:
        left -= characters
        if left < 0:  # a turn is taken as a whole
            break
        fitting.append(turn)
    found = dict(ConversationTurn.objects.filter(id__in=fitting).values_list("id", "said"))
    return [message for turn in reversed(fitting) for message in found.get(turn, ())]


def _refused(message: str) -> ExecutorError:
    return ExecutorError(message, permanent=True)
