"""The inbox: open questions of tasks, and the form that answers them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from django.db import transaction
from django.db.models.functions import Length
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.pages import page, redirect_with_message, render_page
from tasks.dashboard.schema_form import PREFIX, Field, fields_of, read_inputs, read_json, texts_of
from tasks.models import Question, Task
from tasks.rules.exceptions import InvalidParams, TaskNotFound, TasksError
from tasks.rules.strict_json import Json
from tasks.services.files import permit_for
from tasks.services.waits.questions import MOST_SHOWN, inbox_of, open_question_of, record_answer
from tasks.status import Status

#: Prefix of the fields that InvalidParams names.
ANSWER: Final = "answer."
OF_ASKING: Final = ("id", "name", "dependencies")
MOST_RESULTS: Final = 200
LONGEST_RESULT: Final = 20_000
"""Larger results are not in the inbox: the page of the task has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A form that was submitted in vain: its texts and problems by field."""

    task_id: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, post: QueryDict, error: TasksError, *, task_id: str = "") -> Self:
        found = error.problems if isinstance(error, InvalidParams) else []
        problems = {where.removeprefix(ANSWER): why for where, why in found if where.startswith(ANSWER)}
        return cls(task_id=task_id, texts=_texts(post), problems=problems)


def fields_of_question(question: Question, by: str, filled: Filled | None = None) -> list[Field]:
    """Return the fields of its form: with their defaults or, if it is the one that was submitted, as they were filled in.

    Files that this user sends with it belong to the owner of the run, whose tasks read them.
    """
    if question.schema is None:
        return []
    permit = permit_for(question.run.user_id, by=by)
    if filled is not None and filled.task_id in ("", question.task_id):
        return fields_of(question.schema, filled.texts, filled.problems, permit=permit)
    rules = question.schema["properties"]
    defaults = {name: rule["default"] for name, rule in rules.items() if "default" in rule}
    return fields_of(question.schema, texts_of(question.schema, defaults), {}, permit=permit)


def answer_in(question: Question, post: QueryDict) -> Any:
    """Return the submitted answer: an option, the object of a form, or a text; a text that is valid JSON is parsed.

    Raises InvalidParams if a field of a form cannot be read.
    """
    if question.schema is not None:
        return form_in(question.schema, post)
    if "option" in post:
        return post["option"]
    text = post.get("answer", "").replace("\r\n", "\n")
    try:
        return read_json(text)
    except ValueError:
        return text


def form_in(schema: Json, post: QueryDict) -> Json:
    """Return the submitted object. Raises InvalidParams if a field cannot be read."""
    answer, problems = read_inputs(schema, _texts(post))
    if problems:
        raise InvalidParams([(f"{ANSWER}{name}", reason) for name, reason in problems.items()])
    return answer


def _texts(post: QueryDict) -> dict[str, str]:
    return {name.removeprefix(PREFIX): str(text) for name, text in post.items() if name.startswith(PREFIX)}


TEMPLATE = "dashboard/inbox.html"


@page()
async def inbox(request: HttpRequest, caller: Caller) -> HttpResponse:
    """`GET /ui/inbox/`: open questions, oldest first."""
    questions = await pools.read(entries, caller=caller)
    return await render_page(request, caller, TEMPLATE, {"place": "inbox", "questions": questions})


@page("POST", needs=Role.OPERATOR)
async def answer_question(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponse:
    """Answer the task's question with an option, a form or a text. A text that is valid JSON is parsed."""
    comment = request.POST.get("comment", "").strip() or None
    try:
        await pools.write(_record_answer, caller=caller, task_id=task_id, post=request.POST, comment=comment)
    except TaskNotFound:
        raise
    except TasksError as error:
        filled = Filled.of(request.POST, error, task_id=task_id)
        context = {
            "place": "inbox",
            "questions": await pools.read(entries, caller=caller, filled=filled),
            "problem": error.message,
        }
        return await render_page(request, caller, TEMPLATE, context, status=400 if filled.problems else 409)
    return redirect_with_message(request, reverse("dashboard:inbox"), "Answer saved. The task continues.")


@transaction.atomic
def _record_answer(*, caller: Caller, task_id: str, post: QueryDict, comment: str | None) -> None:
    """Raise TasksError."""
    question = open_question_of(caller=caller, task_id=task_id)
    record_answer(question, answer=answer_in(question, post), by=caller.user_id, comment=comment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A question in the inbox. An assignee who may not see its task gets no name and no link, and nothing of the tree.

    `tree` is the name of the tree, None if the task is its root. `decides` are the results that the task has got from its
    dependencies, by their names: what is to be decided upon.
    """

    question: Question
    name: str | None
    tree: str | None
    decides: list[tuple[str, Any]]
    fields: list[Field]
    may_answer: bool


def entries(*, caller: Caller, filled: Filled | None = None, limit: int = MOST_SHOWN) -> list[Entry]:
    """Return the caller's inbox; the form that was submitted in vain as it was `filled`."""
    questions = inbox_of(caller, limit=limit)
    seen = Task.objects.for_caller(caller)
    asking = {task.id: task for task in seen.filter(id__in=[each.task_id for each in questions]).only(*OF_ASKING)}
    roots = {question.run.root_id for question in questions if question.task_id in asking}
    names = dict(seen.filter(id__in=roots.difference(asking)).values_list("id", "name"))
    names |= {task.id: task.name for task in asking.values()}
    needed = [item["id"] for task in asking.values() for item in task.dependencies][:MOST_RESULTS]
    done = seen.filter(id__in=needed, status=Status.COMPLETED).annotate(size=Length("result"))
    rows = done.filter(size__lte=LONGEST_RESULT).values_list("id", "name", "result")
    results = {task_id: (name, result) for task_id, name, result in rows if result not in (None, {})}
    found = []
    for question in questions:
        task, root_id = asking.get(question.task_id), question.run.root_id
        entry = Entry(
            question=question,
            name=task.name if task else None,
            tree=names.get(root_id) if task and task.id != root_id else None,
            decides=[results[item["id"]] for item in task.dependencies if item["id"] in results] if task else [],
            fields=fields_of_question(question, caller.user_id, filled),
            may_answer=caller.may(Role.OPERATOR) and question.may_be_answered_by(caller),
        )
        found.append(entry)
    return found
