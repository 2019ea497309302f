"""Methods for questions of tasks to people."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Annotated, Any

from msgspec import Meta

from a2a.core.mapping import native_answer, native_open_question
from a2a.core.parsing import Params, Text
from a2a.methods.method import OPERATOR, VIEWER, Response, Rest, Tool, method
from a2a.methods.responses import Question
from a2a.methods.results import DataResult, TaskResult
from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks import models
from tasks.dashboard.answer_tokens import link_to
from tasks.rules import exceptions as errors
from tasks.rules.exceptions import TaskNotFound
from tasks.services.trees import queries
from tasks.services.waits import questions


class ListQuestions(Params, frozen=True, kw_only=True):
    """questions.list"""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Answer(Params, frozen=True, kw_only=True):
    """tasks.answer"""

    ALIASES = MappingProxyType({"id": "task_id"})
    task_id: Text
    answer: str | bool | int | float | list[Any] | dict[str, Any]  # any JSON value but null
    comment: Annotated[str, Meta(min_length=1, max_length=10_000)] | None = None


class OpenQuestion(Question, frozen=True, kw_only=True):
    """An open question with the id of the task that asks it, for `tasks.answer`."""

    task_id: str


class OpenQuestions(Response, frozen=True, kw_only=True):
    """Open questions of the caller's trees, and those that the caller may answer as an assignee; oldest first."""

    questions: list[OpenQuestion]


class Answered(Response, frozen=True, kw_only=True):
    """The recorded answer to a question."""

    success: bool
    task_id: str
    question_id: str
    question: str
    answer: Any
    by: str
    comment: str | None


@method("questions.list", role=VIEWER, answer=OpenQuestions, rest=[Rest("listQuestions", "GET questions/")])
def open_questions(caller: Caller, given: ListQuestions, *, url: Callable[[], str] = str) -> DataResult:
    """List the open questions of the caller's trees, and those that the caller may answer as an assignee."""
    found = questions.inbox_of(caller, limit=given.limit)
    shown = [native_open_question(question, answer_url=answer_url(question, caller, url)) for question in found]
    return DataResult(native={"questions": shown})


def answer_url(question: models.Question, caller: Caller, url: Callable[[], str]) -> str | None:
    may_answer = caller.may(Role.OPERATOR) and question.may_be_answered_by(caller)
    return absolute(link_to(question, user_id=caller.user_id), url) if may_answer else None


def absolute(address: str | None, url: Callable[[], str]) -> str | None:
    """Return an address that is only a path below the server as this caller has reached it; it is stored nowhere."""
    is_path = address is not None and address.startswith("/")
    return f"{url().rstrip('/')}{address}" if is_path else address


@method(
    "tasks.answer",
    role=OPERATOR,
    answer=Answered,
    rest=[
        Rest(
            "answerTask",
            "POST tasks/<task_id>/answer/",
            errors=(errors.StatusConflict, errors.RoleTooLow),
            rules={"required": ["answer"]},
        )
    ],
    tool=Tool(
        "answer_question",
        "Answer a question",
        "Answer the open question of a task that waits for a person; get_run shows the question. The run "
        "then continues.",
    ),
)
async def answer(caller: Caller, given: Answer) -> TaskResult | DataResult:
    """Answer the open question of a task. An assignee who does not own the task gets nothing else of it."""
    question = await pools.write(
        questions.answer, caller=caller, task_id=given.task_id, answer=given.answer, comment=given.comment
    )
    native = native_answer(question)
    try:
        task = await pools.read(queries.get_task, caller=caller, task_id=given.task_id)
    except TaskNotFound:
        return DataResult(native=native)
    return TaskResult(native=native, task=task, metadata={"answer": native})
