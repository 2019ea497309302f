"""The inbox: open questions of tasks, and the form that answers them."""

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
from tasks.services.questions import open_question_of, open_questions, record_answer

TEMPLATE = "dashboard/inbox.html"


@page()
async def inbox(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`GET /ui/inbox/`: open questions, oldest first."""
    questions = await pools.read(with_names, caller=caller)
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
            "questions": await pools.read(with_names, caller=caller, filled=filled),
            "problem": error.message,
        }
        return await shown(request, caller, TEMPLATE, context, status=400 if filled.problems else 409)
    return redirect_with_message(request, reverse("dashboard:inbox"), "Answer saved. The task continues.")


@transaction.atomic
def _answer(*, caller: Caller, task_id: str, post: QueryDict, comment: str | None) -> None:
    """Raises TasksError."""
    question = open_question_of(caller=caller, task_id=task_id)
    record_answer(question, answer=answer_in(question, post), by=caller.user_id, comment=comment)


def with_names(*, caller: Caller, filled: Filled | None = None) -> list[tuple[Question, str, list[Field]]]:
    """Open questions, each with the name of its task and the fields of its form, as far as `filled`."""
    questions = open_questions(caller)
    names = Task.objects.for_caller(caller).filter(id__in={question.task_id for question in questions})
    known = dict(names.values_list("id", "name"))
    return [
        (question, known.get(question.task_id, question.task_id), fields_of_question(question, filled))
        for question in questions
    ]
