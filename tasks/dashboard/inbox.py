"""The inbox: open questions of tasks, and the form that answers them."""

from dataclasses import dataclass

from django.db import transaction
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.asked import Filled, answer_in, fields_of_question
from tasks.dashboard.pages import page, redirect_with_message, shown
from tasks.dashboard.schema_form import Field
from tasks.models import Question, Task
from tasks.rules.exceptions import TaskNotFound, TasksError
from tasks.services.waits.questions import inbox_of, open_question_of, record_answer

TEMPLATE = "dashboard/inbox.html"


@page()
async def inbox(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`GET /ui/inbox/`: open questions, oldest first."""
    questions = await pools.read(entries, caller=caller)
    return await shown(request, caller, TEMPLATE, {"place": "inbox", "questions": questions})


@page("POST", needs=Role.OPERATOR)
async def answer_question(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """Answer the task's question with an option, a form or a text. A text that is valid JSON is parsed."""
    comment = request.POST.get("comment", "").strip() or None
    try:
        await pools.write(_answer, caller=caller, task_id=task_id, post=request.POST, comment=comment)
    except TaskNotFound:
        raise
    except TasksError as error:
        filled = Filled.of(request.POST, error, task_id=task_id)
        context = {
            "place": "inbox",
            "questions": await pools.read(entries, caller=caller, filled=filled),
            "problem": error.message,
        }
        return await shown(request, caller, TEMPLATE, context, status=400 if filled.problems else 409)
    return redirect_with_message(request, reverse("dashboard:inbox"), "Answer saved. The task continues.")


@transaction.atomic
def _answer(*, caller: Caller, task_id: str, post: QueryDict, comment: str | None) -> None:
    """Raise TasksError."""
    question = open_question_of(caller=caller, task_id=task_id)
    record_answer(question, answer=answer_in(question, post), by=caller.user_id, comment=comment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A question in the inbox. An assignee who may not see its task gets no name and no link."""

    question: Question
    name: str | None
    fields: list[Field]
    may_answer: bool


def entries(*, caller: Caller, filled: Filled | None = None) -> list[Entry]:
    """Return the caller's inbox; the form that was submitted in vain as it was `filled`."""
    questions = inbox_of(caller)
    names = Task.objects.for_caller(caller).filter(id__in={question.task_id for question in questions})
    known = dict(names.values_list("id", "name"))
    return [
        Entry(
            question=question,
            name=known.get(question.task_id),
            fields=fields_of_question(question, filled),
            may_answer=caller.may(Role.OPERATOR) and question.may_be_answered_by(caller),
        )
        for question in questions
    ]
