"""`POST /ag-ui`: a RunAgentInput in, the events of a run out, until it ends or waits for the user."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from django.db.models import Sum
from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from msgspec import UNSET, UnsetType

from a2a.agui import events as agui
from a2a.agui import log
from a2a.agui.attachments import has_data, with_saved
from a2a.agui.events import Event
from a2a.agui.params import RunAgentInput
from a2a.agui.starting import Started, start
from a2a.agui.state import Tree, read_rows, snapshot
from a2a.agui.translation import SUCCESS, Translator
from a2a.core.errors import as_rest
from a2a.core.exceptions import ShuttingDown
from a2a.core.http import decoded_in_turn, headers_of, refusal, require_method, turn
from a2a.core.mapping import answer_schema
from a2a.core.metrics import metered, note
from a2a.live import sse, stream_limits
from a2a.live.sse import held
from a2a.methods.dispatch import require
from a2a.methods.sent_files import SentFiles
from a2a.protocol.params import RequestContext
from a2a.protocol.updates import asks
from accounts.auth import authenticate
from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.models import ModelCall, Run
from tasks.rules.strict_json import Json
from tasks.services.history import failures_of, own_run
from tasks.services.waits import questions
from tasks.status import Status
from tasks.storage import loads

REASON: Final = "input_required"
COUNTS: Final = {"inputTokens": "prompt_tokens", "outputTokens": "completion_tokens", "totalTokens": "total_tokens"}
NAME: Final = "ag-ui"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A run as its stream begins, and the state as it was after the events that the stream leaves out."""

    run: Run
    rows: Sequence[Json]


async def beginning(caller: Caller, started: Started) -> Beginning | None:
    """Read the run and its tasks; None if the request started no run.

    Raises RunNotFound if it has been deleted since, ResponseTooLarge or EventsPruned.
    """
    if started.run_id is None:
        return None
    run_id, after = started.run_id, started.after

    def read() -> Beginning:
        run = own_run(caller=caller, run_id=run_id)
        return Beginning(run=run, rows=read_rows(run, from_start=after == 0))

    found = await pools.read(read)
    await sse.refuse_if_pruned(found.run, after=after)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The reply to a request."""

    caller: Caller
    given: RunAgentInput
    started: Started
    begun: Beginning | None

    async def events(self) -> AsyncGenerator[list[bytes]]:
        """Yield all events as frames. An error is the last of them; ShuttingDown is raised."""
        try:
            async with aclosing(self._events()) as found:
                async for event in found:
                    yield event if isinstance(event, list) else [_frame(event)]
        except ShuttingDown:
            raise
        except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
            shown = as_rest(error)["error"]
            yield [_frame(agui.RunError(message=shown["message"], code=shown["code"]))]

    async def _events(self) -> AsyncGenerator[Event | list[bytes]]:
        """Yield the events; those of a page of the log as frames."""
        parent = UNSET if self.given.parent_run_id is None else self.given.parent_run_id
        yield agui.RunStarted(
            thread_id=self.given.thread_id,
            run_id=self.given.run_id,
            parent_run_id=parent,
            protocol_version=UNSET if self.given.is_before_1_0 else agui.VERSION,
        )
        if self.begun is not None:
            async with aclosing(self._follow(self.begun)) as found:
                async for followed in found:
                    yield followed
        elif self.started.error is not None:
            yield agui.RunError(message=self.started.error, code=self.started.error_code)
        else:
            message_id = f"{self.given.run_id}:answer"
            yield agui.TextMessageStart(message_id=message_id, role="assistant")
            yield agui.TextMessageContent(message_id=message_id, delta=self.started.text)
            yield agui.TextMessageEnd(message_id=message_id)
            yield self._finished(SUCCESS)

    async def _follow(self, begun: Beginning) -> AsyncGenerator[Event | list[bytes]]:
        """Yield the whole state, and then the events of the run until it ends or asks a person."""
        run, after = begun.run, self.started.after
        tree = Tree(run=run)
        translator = Translator(tree=tree, always_answers=self.started.is_chat)

        def show() -> list[bytes]:
            tree.add(begun.rows)
            return [_frame(agui.StateSnapshot(snapshot=snapshot(run, begun.rows, from_start=after == 0)))]

        yield await pools.read(show)
        if after and (interrupt := await self._interrupt(run)) is not None:
            yield interrupt
            return
        async with aclosing(log.follow(translator, after=after, render=_frames)) as parts:
            async for frames, last in parts:
                yield frames
                if last["type"] == "final":
                    yield await self._end(last, translator)
                    return
                if asks(last) and (interrupt := await self._interrupt(run)) is not None:
                    asked = [each["id"] for each in interrupt.outcome["interrupts"]]
                    for translated in translator.close(interrupt_ids=asked):
                        yield translated
                    yield interrupt
                    return
        raise ShuttingDown

    async def _interrupt(self, run: Run) -> agui.RunFinished | None:
        """Return the end of the stream, if there are questions that the caller may answer; None if they were answered before."""
        asked = await pools.read(questions.open_questions, self.caller, run_ids=[run.id])
        left = [each for each in asked if each.id not in self.started.dismissed]  # a worker will close those
        interrupts = [
            {
                "id": each.id,
                "reason": REASON,
                "message": each.text,
                "responseSchema": answer_schema(each),
                "metadata": {"task_id": each.task_id},
            }
            | ({} if each.expires_at is None else {"expiresAt": each.expires_at.isoformat()})
            for each in left
            if each.may_be_answered_by(self.caller)
        ]
        return self._finished({"type": "interrupt", "interrupts": interrupts}) if interrupts else None

    async def _end(self, event: Json, translator: Translator) -> Event:
        used = await pools.read(usage_of, event["run_id"])
        usage = used or UNSET
        at = agui.milliseconds(event["timestamp"])
        if event["status"] == Status.FAILED:
            fault = await pools.read(fault_of, event["run_id"])
            message = fault or event["error"] or event["message"]
            return agui.RunError(message=message, code=Status.FAILED, usage=usage, timestamp=at)
        outcome: Json | UnsetType = SUCCESS
        if event["status"] == Status.CANCELLED:  # clients before 1.0 refuse an outcome that they do not know
            outcome = UNSET if self.given.is_before_1_0 else {"type": "cancelled"}
        elif translator.pending_calls and not self.given.is_before_1_0:
            outcome = SUCCESS | {"pendingToolCallIds": translator.pending_calls}
        return self._finished(outcome, event["result"], usage=usage, timestamp=at)

    def _finished(self, outcome: Json | UnsetType, result: Any = None, **more: Any) -> agui.RunFinished:
        shown = UNSET if result is None else result
        return agui.RunFinished(
            thread_id=self.given.thread_id, run_id=self.given.run_id, outcome=outcome, result=shown, **more
        )


def _frames(found: Iterable[Event]) -> list[bytes]:
    return [_frame(event) for event in found]


def _frame(event: Event) -> bytes:
    return sse.frame(event.to_json())


def fault_of(run_id: str) -> str | None:
    """Return why the run failed, in a sentence."""
    run = Run.objects.filter(id=run_id).first()
    failures = failures_of(run) if run else []
    return f"Task '{failures[0].name}' failed: {failures[0].error}" if failures else None


def usage_of(run_id: str) -> list[Json]:
    """Return the usage of the run's model calls so far, by model."""
    sums = {name: Sum(column) for name, column in COUNTS.items()}
    calls = ModelCall.objects.filter(run_id=run_id)
    rows: Iterable[Any] = calls.values("model").annotate(**sums).order_by("model")
    found = []
    for row in rows:
        provider, slash, model = row["model"].partition("/")
        named = {"provider": provider, "model": model} if slash else {"model": row["model"]}
        found.append(named | {name: row[name] for name in COUNTS if row[name] is not None})
    return found


@csrf_exempt
async def ag_ui(request: HttpRequest) -> HttpResponseBase:
    """Start or continue a run, and stream its events. A run is stored before the first of them."""
    try:
        require_method(request, "POST")
        caller = await authenticate(request)
        with metered(NAME):
            require(caller, Role.OPERATOR, what=f"POST /{NAME}")
            note(user=caller.user_id)
            loads.charge(caller.user_id)
            async with turn(request, caller):  # also of the read pool: a large body makes a large tree
                given = RunAgentInput.parse(await decoded_in_turn(request))
                stream_limits.open_streams().refuse_if_full(caller)
                headers = headers_of(request)
                asked = RequestContext(caller=caller, url=headers.url, version="1.0", llm_key=headers.sent_key())
                async with SentFiles(caller) as sent:
                    if has_data(given):
                        given = await with_saved(given, sent)
                    started = await pools.write(start, asked, given)
                note(run=started.run_id)
                begun = await beginning(caller, started)
        stream = Stream(caller=caller, given=given, started=started, begun=begun)
        return held(sse.replies(stream.events()), caller=caller, who_is_it=partial(authenticate, request))
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error, shape=as_rest)
