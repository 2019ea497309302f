"""The spans of the tasks of one run that is traced. Imported only then.

The id of a task's span is that of the task in the run, on every worker: a task that rests between its steps, or that another
worker continues, has one span, from its start to its end, and its work is below it. The name of the span says, by the conventions
of `tasks.telemetry.genai`, whether the task is an agent, a call of a tool, a workflow, or any other work.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from django.conf import settings

from llmkeys.redact import mask
from tasks.executors.llm.prompt import wanted_models
from tasks.queue.leases import Claim
from tasks.rules.strict_json import Json
from tasks.rules.tree import WORKFLOW
from tasks.status import Status
from tasks.telemetry import genai
from tasks.telemetry.tracing import ERROR, Span, nanoseconds
from tasks.worker.load_run import LoadedTask, is_live, moment_of
from tasks.worker.outcomes import Outcome
from tasks.worker.secrets_of_run import SecretsOfRun

AGENT: Final = "llm_executor"
CREWS: Final = ("crewai_executor", "batch_crewai_executor")
CONTENT_CHARACTERS: Final = 65_536
"""The length of the arguments and the result of a tool in a span."""
MASKED_CHARACTERS: Final = 4_096
"""The number of characters that are masked besides, so that no secret is cut in half."""


class RunSpans:
    def __init__(self, run: Span, claim: Claim, tasks: Mapping[str, LoadedTask], secrets: SecretsOfRun) -> None:
        """`tasks` grow with the run."""
        self._run, self._claim, self._tasks, self._secrets = run, claim, tasks, secrets
        self._open: dict[str, Span] = {}

    def begun(self, task: LoadedTask) -> Span:
        """Return the span of a task whose job begins, for all that the job does."""
        span = self._open.get(task.id)
        if span is None:
            span = self._open[task.id] = self._span(task)
        return span

    def rested(self, task: LoadedTask, end: Outcome | None) -> None:
        """Note that the job of the task is over, and its end, if it has ended."""
        span = self._open[task.id]
        span.end_parts()
        if end is not None:
            self._end(task, span, end)

    def ended_without_job(self, task: LoadedTask, end: Outcome) -> None:
        """End the span of a task that had begun, and was cancelled while it waited. Others have none."""
        if task.id in self._open or task.started_at is not None:
            self._end(task, self.begun(task), end)

    def _end(self, task: LoadedTask, span: Span, end: Outcome) -> None:
        del self._open[task.id]
        span({"apflow.task.status": str(end.status), "apflow.task.attempt": task.attempt})
        if end.status in (Status.FAILED, Status.CANCELLED):
            span.attributes.setdefault(ERROR, str(end.status))
        operation = span.attributes.get("gen_ai.operation.name")
        if operation == "invoke_agent":
            span(genai.used(end.token_usage or task.token_usage))
            if name := span.attributes.get("gen_ai.agent.name"):
                span.name = f"invoke_agent {name}"
        elif operation == "execute_tool" and settings.APFLOW.telemetry.content:
            result = end.stored if end.status == Status.COMPLETED else orjson.dumps(end.error)
            span({"gen_ai.tool.call.result": None if result is None else self._shown(result)})
            span({"gen_ai.tool.call.arguments": self._shown(orjson.dumps(_arguments(task)))})
        span.ended = nanoseconds(self._claim.now())
        span.end()

    def _shown(self, stored: bytes) -> str:
        text = stored[: CONTENT_CHARACTERS + MASKED_CHARACTERS].decode(errors="replace")
        return mask(self._secrets.masker.text(text))[:CONTENT_CHARACTERS]

    def _span(self, task: LoadedTask) -> Span:
        caller = self._tasks.get(task.spawned_by or "")
        around = self._run
        if caller is not None and (caller.executor_id == AGENT or is_live(caller)):
            around = self._run.child("", attributes={}, key=self._key(caller))
        name, kind, facts = _described(task, caller)
        facts |= {"apflow.task.id": task.id, "apflow.task.name": task.name, "apflow.executor.id": task.executor_id}
        span = around.child(name, kind=kind, attributes=facts, key=self._key(task))
        span.began = nanoseconds(moment_of(task.started_at) if task.started_at else self._claim.now())
        return span

    def _key(self, task: LoadedTask) -> str:
        return f"{self._claim.run_id}/{task.id}"


def _described(task: LoadedTask, caller: LoadedTask | None) -> tuple[str, str, Json]:
    """Return the name, the kind and the attributes of the task's span, as far as they are known when it begins."""
    executor, inputs = task.executor_id or "group", task.inputs
    if caller is not None and caller.executor_id == AGENT and executor != "approval_executor":
        is_of_server = executor == "mcp_executor"
        facts = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": task.name,
            "gen_ai.tool.call.id": _call_id(task, caller),
            "gen_ai.tool.type": "extension" if is_of_server else "function",
        }
        return f"execute_tool {task.name}", "client" if is_of_server else "internal", facts
    if executor == "mcp_executor" and inputs.get("operation", "call_tool") == "call_tool":
        tool = str(inputs.get("tool"))
        facts = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "gen_ai.tool.type": "extension"}
        return f"execute_tool {tool}", "client", facts
    tools = inputs.get("tools")
    if executor == AGENT and isinstance(tools, list) and any(isinstance(tool, str) for tool in tools):
        models = wanted_models(inputs.get("model"), task.params, task.schemas)
        model = str(models[0] if isinstance(models, list) else models)
        facts = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": task.name}
        facts |= genai.requested(model, inputs, conversation=task.params.get("conversation"))
        return f"invoke_agent {task.name}", "internal", facts
    if executor == "a2a_executor":  # which notes the name and the address of the agent
        return "invoke_agent", "client", {"gen_ai.operation.name": "invoke_agent", "gen_ai.provider.name": "a2a"}
    workflow = None
    if executor.startswith(WORKFLOW):
        workflow = executor.removeprefix(WORKFLOW)
    elif executor in CREWS:
        workflow = task.name
    elif executor == "langgraph_executor":
        workflow = str(inputs.get("graph"))
    if workflow is not None:
        facts = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": workflow}
        return f"invoke_workflow {workflow}", "internal", facts
    return f"task {executor}", "internal", {}


def _call_id(task: LoadedTask, caller: LoadedTask) -> str | None:
    """Return the model's id of the call that the task is: the memo of the agent's step has it."""
    memo: Any = caller.step.memo if caller.step is not None else None
    calls = memo["calls"] if memo else ()
    return next((call["id"] for call in calls if task.id.endswith(f"/{call.get('task')}")), None)


def _arguments(task: LoadedTask) -> Any:
    return task.inputs.get("arguments", task.inputs) if task.executor_id == "mcp_executor" else task.inputs
