"""The page behind an answer link. Opening it answers nothing, so mail programs may preview the link."""

from typing import Any, Final

from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django.shortcuts import render
from django.utils.cache import patch_cache_control
from django.views.decorators.csrf import csrf_exempt

from accounts.users import is_disabled
from apflow_site.db import pools
from tasks.dashboard.answer_tokens import AnswerToken, BadLink, read_link
from tasks.dashboard.inbox import ANSWER, Filled, fields_of_question, form_in
from tasks.models import Question
from tasks.rules.exceptions import InvalidParams, StatusConflict
from tasks.services.waits import questions

MAX_CHARACTERS: Final = 10_000
TOO_LONG: Final = f"must have at most {MAX_CHARACTERS:,} characters"


@csrf_exempt  # the token in the URL grants the right to answer; no cookie is used
async def answer(request: HttpRequest, token: str) -> HttpResponseBase:
    """`/answer/{token}`: GET shows the question, POST answers it."""
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    try:
        invitation = read_link(token)
    except BadLink:
        return await _render(request, {"is_bad": True}, status=410)

    def read() -> Question | None:
        if is_disabled(invitation.user_id):  # the user for whom the link was created
            return None
        return Question.objects.waiting().filter(id=invitation.question_id).select_related("run").first()

    question = await pools.read(read)
    if question is None:
        return await _render(request, {"is_over": True}, status=410)
    if request.method == "POST":
        return await _record(request, question, invitation)
    fields = fields_of_question(question, invitation.user_id)
    return await _render(request, {"question": question, "fields": fields})


async def _record(request: HttpRequest, question: Question, invitation: AnswerToken) -> HttpResponse:
    text, comment = request.POST.get("answer", "").strip(), request.POST.get("comment", "").strip()
    try:
        for name, value in request.POST.items():
            if len(value) > MAX_CHARACTERS:
                raise InvalidParams([(name, TOO_LONG)])
            if "\0" in value:
                raise InvalidParams([(name, "contains a NUL character")])
        if not text and question.schema is None:
            raise InvalidParams([("answer", "is required")])
        given = text if question.schema is None else form_in(question.schema, request.POST)
        await pools.write(questions.record_answer, question, answer=given, by=invitation.by, comment=comment or None)
    except InvalidParams as error:
        field, reason = error.problems[0]
        name = field.removeprefix(ANSWER)
        sentence = f"{field.capitalize()} {reason}." if name == field else f"{name}: {reason}."
        fields = fields_of_question(question, invitation.user_id, Filled.of(request.POST, error))
        context = {"question": question, "error": sentence, "text": text, "comment": comment, "fields": fields}
        return await _render(request, context, status=400)
    except StatusConflict:  # another answer arrived first
        return await _render(request, {"is_over": True}, status=409)
    return await _render(request, {"question": question, "given": text or "the form"})


async def _render(request: HttpRequest, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    response = await pools.read(render, request, "dashboard/answer.html", context, status=status)
    patch_cache_control(response, no_store=True)
    response["Referrer-Policy"] = "no-referrer"  # the URL grants the right to answer
    return response
