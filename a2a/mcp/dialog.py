"""The questions of a run that a client of an earlier era asks its user: requests of the server in the stream of a call.

The id of such a request is that of the question, so any process takes the reply, and the answer is recorded before
anything else happens. The stream continues with the run, as after an answer by any other interface.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from types import TracebackType
from typing import Final, Self

from a2a.core.mapping import read_answer
from a2a.mcp.eras import Exchange
from a2a.mcp.inputs import requests_of
from a2a.mcp.messages import Request
from a2a.methods.dispatch import require
from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.models import Question, Run
from tasks.rules.exceptions import TasksError
from tasks.rules.strict_json import Json
from tasks.services.waits import questions

Reply = asyncio.Future[Json]
Key = tuple[str, str]
"""The caller's user, and the id of the request: no user replies for another one."""


class Replies:
    """The replies that are waited for. It belongs to the event loop of the process."""

    def __init__(self) -> None:
        self._waiting: defaultdict[Key, set[Reply]] = defaultdict(set)

    @contextmanager
    def expected(self, caller: Caller, request_id: str) -> Iterator[Reply]:
        """Give the block the reply to wait for; one that another process receives never arrives here."""
        key, reply = (caller.user_id, request_id), asyncio.get_running_loop().create_future()
        self._waiting[key].add(reply)
        try:
            yield reply
        finally:
            reply.cancel()
            self._waiting[key].discard(reply)
            if not self._waiting[key]:
                del self._waiting[key]

    def take(self, caller: Caller, request_id: str, body: Json) -> None:
        """Give a reply to those who wait for it: a message with a result or an error."""
        for reply in self._waiting.get((caller.user_id, request_id), ()):
            if not reply.done():
                reply.set_result(body)


@cache
def replies() -> Replies:
    """Return the replies that this process waits for."""
    return Replies()


ACCEPT: Final = "accept"


class Dialog:
    """The questions in the stream of one call. `is_offered`: the client asks its user, unless an app does (`is_shown`)."""

    def __init__(self, exchange: Exchange, run: Run, *, is_shown: bool) -> None:
        can_ask = not exchange.is_modern and exchange.takes_streams and exchange.can_elicit("form")
        self.is_offered = can_ask and not is_shown
        self._caller = exchange.caller
        self._run = run
        self._asked: set[str] = set()
        self._stack = ExitStack()
        self._ended: Reply = asyncio.get_running_loop().create_future()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        self._ended.cancel()

    @property
    def ended(self) -> Reply:
        """Done once a question was not answered: the user declined, or the answer was refused."""
        return self._ended

    async def requests(self) -> list[Request]:
        """Return the questions that are open and that this stream has not asked yet, as requests to the client."""
        if not self.is_offered:
            return []
        asked = await pools.read(questions.open_questions, self._caller, run_ids=[self._run.id])
        found = []
        for question in asked:
            request = requests_of([question]).get(question.id)
            if request and question.may_be_answered_by(self._caller) and question.id not in self._asked:
                self._asked.add(question.id)
                reply = self._stack.enter_context(replies().expected(self._caller, question.id))
                reply.add_done_callback(self._end_unless_accepted)
                found.append(Request(id=question.id, **request))
        return found

    def _end_unless_accepted(self, reply: Reply) -> None:
        if not reply.cancelled() and not is_accepted(reply.result()) and not self._ended.done():
            self._ended.set_result(reply.result())


def is_accepted(body: Json) -> bool:
    """Return whether a reply has an answer."""
    result = body.get("result")
    return isinstance(result, dict) and result.get("action") == ACCEPT


async def take(caller: Caller, body: Json) -> None:
    """Take a client's reply: record the answer to the question of that id, and let its stream continue.

    An answer that is refused counts as none, and the question stays open.
    """
    request_id = body.get("id")
    if not isinstance(request_id, str):
        return
    if is_accepted(body):
        content = body["result"].get("content")
        try:
            question = await pools.read(Question.objects.for_caller(caller).waiting().filter(id=request_id).first)
            if question is not None:  # else a request of another kind, or a question that was answered meanwhile
                require(caller, Role.OPERATOR, what="an answer to elicitation/create")
                answer, comment = read_answer(question, content if isinstance(content, dict) else {})
                given = {"answer": answer, "comment": comment}
                await pools.write(questions.answer, caller=caller, task_id=question.task_id, **given)
        except TasksError as error:
            body = {"error": {"message": error.message}}
    replies().take(caller, request_id, body)
