"""The span and the metrics of one call of a model by a task that is traced. Imported only then."""

from aipartnerupflow.executors import Json
from tasks.executors.llm.prompt import Completion, Prompt
from tasks.status import Status
from tasks.telemetry import genai, tracing
from tasks.telemetry.tracing import ERROR, Span, nanoseconds
from tasks.worker.load_run import LoadedTask
from tasks.worker.run_recorder import Call


class CallSpan:
    """A span `chat MODEL`. An agent of a crew, or a node of a graph, has a span from its first call to its last around those."""

    def __init__(self, task: LoadedTask, prompt: Prompt, call: Call, *, around: Span) -> None:
        """Enter the span, to `over`. `around` is that of the task."""
        self._call, self._before = call, tracing.here()
        facts = genai.requested(prompt.model, prompt.options, conversation=task.params.get("conversation"))
        self._agent = None if prompt.agent is None else self._agent_of(prompt, facts, around)
        self.span = (self._agent or around).child("chat", kind="client", attributes=facts)
        self.span.began = nanoseconds(call.started_at)
        self.span({"gen_ai.operation.name": "chat", "gen_ai.request.stream": prompt.streams or None})
        tracing.enter(self.span)

    def _agent_of(self, prompt: Prompt, facts: Json, around: Span) -> Span:
        key = (prompt.agent, prompt.crew_task)
        span = around.parts.get(key)
        if span is None:
            span = around.parts[key] = around.child(f"invoke_agent {prompt.agent}", attributes=facts)
            span.began = nanoseconds(self._call.started_at)
            span({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": prompt.agent})
        return span

    def over(self, answer: Completion | None, call: Call, *, seconds: float, first_seconds: float | None) -> None:
        """Note the end of the call. `answer` is None for one that failed or was cancelled."""
        tracing.enter(self._before)
        self._call = call
        span, used = self.span, genai.used(call.usage)
        span.ended = span.began + int(seconds * 1e9)
        span(used | {"gen_ai.response.time_to_first_chunk": first_seconds, "apflow.call.id": call.id})
        if answer is not None:
            reasons = None if answer.finish_reason is None else [answer.finish_reason]
            model = span.attributes["gen_ai.request.model"] if answer.model == call.model else answer.model
            span({"gen_ai.response.model": model, "gen_ai.response.id": answer.provider_id})
            span({"gen_ai.response.finish_reasons": reasons})
        elif call.status == Status.CANCELLED:
            span({ERROR: "cancelled"})
        elif span.attributes.setdefault(ERROR, genai.OTHER) == "cancelled":  # it was given up as too slow
            span({ERROR: "timeout"})
        provider = span.attributes["gen_ai.provider.name"]
        span.attributes["gen_ai.provider.name"] = genai.PROVIDERS.get(provider, provider)
        span.name = f"chat {span.attributes['gen_ai.request.model']}"
        if self._agent is not None:
            self._agent.ended = span.ended
            for name, count in used.items():
                self._agent.attributes[name] = self._agent.attributes.get(name, 0) + (count or 0)
        genai.measure(span, seconds=seconds, first_seconds=first_seconds)

    def send(self, content: str | None) -> None:
        """End the span. `content` is the stored form of what was said, if the span is to have it."""
        if content is not None:
            self.span(genai.content_of(content, finish_reason=self._call.finish_reason))
        self.span.end()
