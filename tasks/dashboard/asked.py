"""Open questions on pages: the fields of a form, and the answer in what was submitted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from django.http import QueryDict

from tasks.dashboard.schema_form import PREFIX, Field, fields_of, read_inputs, read_json, texts_of
from tasks.models import Question
from tasks.rules.exceptions import InvalidParams, TasksError
from tasks.rules.strict_json import Json

#: Prefix of the fields that InvalidParams names.
ANSWER: Final = "answer."


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


def fields_of_question(question: Question, filled: Filled | None = None) -> list[Field]:
    """Return the fields of its form: with their defaults or, if it is the one that was submitted, as they were filled in."""
    if question.schema is None:
        return []
    if filled is not None and filled.task_id in ("", question.task_id):
        return fields_of(question.schema, filled.texts, filled.problems)
    rules = question.schema["properties"]
    defaults = {name: rule["default"] for name, rule in rules.items() if "default" in rule}
    return fields_of(question.schema, texts_of(question.schema, defaults), {})


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
