"""The inbox: open questions of tasks, and the form that answers them."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.pages import page, redirect_with_message, shown
from tasks.dashboard.schema_form import read_json
from tasks.models import Question, Task
from tasks.rules.exceptions import TaskNotFound, TasksError
from tasks.services.questions import answer, open_questions

TEMPLATE = "dashboard/inbox.html"


@page()
async def inbox(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`GET /ui/inbox/`: open questions, oldest first."""
    questions = await pools.read(with_names, caller=caller)
    return await shown(request, caller, TEMPLATE, {"place": "inbox", "questions": questions})


@page("POST", needs=Role.OPERATOR)
async def answer_question(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """Answer the task's question with an option or a text. A text that is valid JSON is parsed."""
    comment = request.POST.get("comment", "").strip() or None
    try:
        await pools.write(answer, caller=caller, task_id=task_id, answer=_given(request), comment=comment)
    except TaskNotFound:
        raise
    except TasksError as error:
        context = {
            "place": "inbox",
            "questions": await pools.read(with_names, caller=caller),
            "problem": error.message,
        }
        return await shown(request, caller, TEMPLATE, context, status=409)
    return redirect_with_message(request, reverse("dashboard:inbox"), "Answer saved. The task continues.")


def _given(request: HttpRequest) -> Any:
    if "option" in request.POST:
        return request.POST["option"]
    text = request.POST.get("answer", "").replace("\r\n", "\n")
    try:
        return read_json(text)
    except ValueError:
        return text


def with_names(*, caller: Caller) -> list[tuple[Question, str]]:
    """Open questions, each with the name of its task."""
    questions = open_questions(caller)
    names = Task.objects.for_caller(caller).filter(id__in={question.task_id for question in questions})
    known = dict(names.values_list("id", "name"))
    return [(question, known.get(question.task_id, question.task_id)) for question in questions]
