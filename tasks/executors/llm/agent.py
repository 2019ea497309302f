"""An agent: a model calls tools until it answers. Each round of calls is a step, and each call a task (`Spawn` with `again`).

The memo of a step has what was said since the first message, so a worker that dies loses at most the answer
under way, and no call that was stored is made twice.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from django.conf import settings

from aipartnerupflow.executors import Context, ExecutorError, Json, Reply, Spawn
from tasks.executors.llm.tool import CannotCall, Tool, read_of, text_of
from tasks.executors.llm.tools import Tools
from tasks.rules.checks import executors_of, of_calls, refused_by
from tasks.rules.interrupts import INTERRUPTED
from tasks.rules.places import escaped

MOST_CALLS: Final = 64
"""The number of calls of one answer that are made."""
SHOWN_CHARACTERS: Final = 8_000
"""The number of characters that a person can be asked to approve."""
YES, NO = "yes", "no"
INTERRUPTED_CALL: Final = (
    "The call of the tool '{tool}' ({call}) was interrupted: the worker died after it had begun, and repeating it may not be safe. "
    "Check whether it took effect. Running the tree again makes the call again; inputs.on_interrupt says what happens the next time."
)
"""The model must not go on as if it knew how the call ended."""
Ask = Callable[[list[Json], Json, int], Awaitable[Json]]
"""Call the model with messages, inputs besides those of the task, and the number of the step; returns the result of a task
without tools.
"""


@dataclass(slots=True, kw_only=True)
class Talk:
    """The memo of a step: the messages since the first one (`said`), the `calls` whose ends are awaited, and the usage of each
    answer so far (`steps`).
    """

    said: list[Json]
    calls: list[Json]
    steps: list[Json]
    refused: dict[str, int] = field(default_factory=dict)
    """The calls that each check on tools has refused, whose reasons the model has read."""

    @classmethod
    def of(cls, reply: Reply | None) -> "Talk":
        """Continue with the ends of the calls; begin without them."""
        if reply is None:
            return cls(said=[], calls=[], steps=[])
        talk = cls(**reply.memo)
        ends = [end_of(call, reply.answer) for call in talk.calls]
        talk.said += [
            {"role": "tool", "tool_call_id": call["id"], "content": text}
            for call, (_, text) in zip(talk.calls, ends, strict=True)
        ]
        for shown, (status, _) in zip(talk.steps[-1]["tool_calls"], ends, strict=True):
            shown["status"] = status
        talk.calls = []
        return talk

    def memo(self) -> Json:
        """Raise ExecutorError if it is too long to be stored."""
        memo: Json = {"said": self.said, "calls": self.calls, "steps": self.steps}
        if self.refused:
            memo["refused"] = self.refused
        size, most = len(orjson.dumps(memo)), settings.APFLOW.limits.result_bytes
        if size > most:
            raise ExecutorError(
                f"The conversation has {size:,} bytes, more than the {most:,} that limits.result_bytes allows. Let the tools return "
                "less, or give the work to several tasks.",
                permanent=True,
            )
        return memo


async def go_on(
    messages: Sequence[Json], tools: Tools, context: Context, *, ask: Ask, choice: Any, refused: Sequence[Json] = ()
) -> Json | Spawn:
    """Let the model take its next step: return its calls as tasks or, when it has answered, the result.

    `choice` is the `tool_choice` of the first step, and `refused` are answers that were sent back. Raises ExecutorError.
    """
    if (reply := context.reply) is not None:  # a crash may have interrupted a call that is not safe to repeat
        steps = reply.memo["steps"]
        for call, shown in zip(reply.memo["calls"], steps[-1]["tool_calls"], strict=True):
            if INTERRUPTED in (reply.answer.get(call.get("task"), {}).get("error") or ""):
                where = f"{context.task_id}/{len(steps)}/{call['task']}"
                raise ExecutorError(INTERRUPTED_CALL.format(tool=shown["name"], call=where), permanent=True)
    talk = Talk.of(context.reply)
    if context.reply is not None and "checks" in context.params:
        _count_refused(talk, context.reply, context)
    talk.said += refused
    while len(talk.steps) < tools.max_steps:
        number = len(talk.steps) + 1
        more: Json = {"tools": tools.definitions(), "tool_choice": choice if choice and number == 1 else "auto"}
        answer = await ask([*messages, *talk.said], more, number)
        calls: list[Json] = []
        for index, asked in enumerate(answer["tool_calls"]):  # as the next request has them
            name, arguments = asked["function"].get("name") or "", asked["function"].get("arguments") or "{}"
            call_id = asked.get("id") or f"call_{number}_{index}"  # some providers give none
            calls.append({"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}})
        # The ids are those of the tasks of this step, after that of the agent and the number of the step.
        named = [{"name": call["function"]["name"], "id": f"call_{index}"} for index, call in enumerate(calls)]
        talk.steps.append({"usage": answer["usage"], "cost_usd": answer["cost_usd"], "tool_calls": named})
        if not calls:
            names = {name for step in talk.steps for name in step["usage"]}
            usage = {name: sum(step["usage"].get(name) or 0 for step in talk.steps) for name in sorted(names)}
            costs = [step["cost_usd"] for step in talk.steps]  # the sum is unknown if one of them is
            cost = None if None in costs else round(sum(costs), 10)
            return answer | {"usage": usage, "cost_usd": cost, "steps": talk.steps}
        if number == tools.max_steps:
            break
        talk.said.append({"role": "assistant", "content": answer["content"], "tool_calls": calls})
        tasks = list[Json]()
        for index, call in enumerate(calls):
            talk.calls.append(_planned(call, index, tools, context, tasks))
        if tasks:
            executors = (
                [*tools.executors(), *executors_of(context.params)] if "checks" in context.params else tools.executors()
            )
            return Spawn(tasks=tasks, again=True, memo=talk.memo(), executors=executors)
        talk = Talk.of(Reply(answer={}, by="", memo=talk.memo()))
    raise ExecutorError(
        f"The model has not answered in {tools.max_steps} steps: it asked for tools each time. Raise inputs.max_steps, or say in "
        "the prompt when it is to stop.",
        permanent=True,
    )


def _planned(call: Json, index: int, tools: Tools, context: Context, tasks: list[Json]) -> Json:
    """Add the tasks of a call, and return what is noted of it: its id and their ids, or why it is not made."""
    function = call["function"]
    try:
        if index >= MOST_CALLS:
            raise CannotCall(f"an answer may have at most {MOST_CALLS} calls")
        tool = tools.named(function["name"])
        try:
            arguments = orjson.loads(function["arguments"] or "{}")
        except orjson.JSONDecodeError as error:
            raise CannotCall(f"the arguments are not JSON ({error})") from None
        if not isinstance(arguments, dict):
            raise CannotCall("the arguments are not a JSON object")
        tool.check(arguments)
        made: Json = {"id": f"call_{index}"} | tool.task(arguments)
        reads = {name: field for name, field in (("reads", tool.reads), ("answer", tool.answer)) if field}
        noted = {"id": call["id"], "task": made["id"]} | reads
        if "checks" in context.params and (checks := of_calls(context.params)):
            made["params"] = {**made.get("params", {}), "checks": checks}
        if tool.name in tools.confirm:
            approval = _approval(tool, arguments, index, context, tools.approval)
            tasks.append(approval)
            # It is made only if the answer is yes.
            when = {"task": approval["id"], "path": "/answer", "op": "eq", "value": YES}
            made["dependencies"] = [{"id": approval["id"], "required": True}]
            made["params"] = {**made.get("params", {}), "when": when}
            noted["approval"] = approval["id"]
        tasks.append(made)
    except CannotCall as error:
        return {"id": call["id"], "fault": f"Not called: {error}."}
    return noted


def _count_refused(talk: Talk, reply: Reply, context: Context) -> None:
    """Count the calls that checks have refused. Raises ExecutorError if the agent may not continue after one."""
    for call in reply.memo["calls"]:
        end = reply.answer.get(call.get("task"), {})
        if (check := refused_by(context.params, end.get("error") or "")) is None:
            continue
        count = talk.refused[check.key] = talk.refused.get(check.key, 0) + 1
        if not check.lets_continue(count):
            raise ExecutorError(end["error"])


def _approval(tool: Tool, arguments: Json, index: int, context: Context, further: Json) -> Json:
    """Return the task that asks whether the call may be made. Raises CannotCall if no person could read it."""
    shown = orjson.dumps(arguments, option=orjson.OPT_INDENT_2).decode()
    if len(shown) > SHOWN_CHARACTERS:
        raise CannotCall(
            f"a person has to approve it, and the arguments are longer than {SHOWN_CHARACTERS:,} characters"
        )
    question = f"'{context.name}' wants to call {tool.name} with\n{shown}"
    return {
        "id": f"confirm_{index}",
        "name": f"May it call {tool.name}?"[:255],
        "schemas": {"method": "approval_executor"},
        "inputs": {"question": escaped(question), "options": [YES, NO]} | further,
    }


def end_of(call: Json, ends: Json) -> tuple[str, str]:
    """Return how a call ended, and the text that the model reads. `ends` maps the ids of its tasks to their ends."""
    if "fault" in call:
        return "refused", call["fault"]
    asked = ends.get(call.get("approval", ""), {})
    if asked and asked["status"] != "completed":
        return "refused", f"Not called: it was not approved. {asked['error']}"
    approval = asked.get("result") or {}
    if approval.get("answer") == NO:
        comment = f" {approval['by']} says: {approval['comment']}" if approval.get("comment") else ""
        return "refused", f"Not called: a person has refused it.{comment}"
    end = ends[call["task"]]
    if end["status"] == "completed":
        return "completed", text_of(read_of(end["result"], call.get("reads"), answer=call.get("answer")))
    return end["status"], text_of(f"Error: {end['error']}")
