"""Questions of a server to the user (elicitation), which people answer while no worker waits.

The call during which a server asks is cancelled, and made again once there is an answer, which the server gets when it
asks the same again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aipartnerupflow.executors import ExecutorError, Json
from tasks.rules.forms import FORMATS, fault_of_form

MOST_QUESTIONS: Final = 20
TEXT_CHARACTERS: Final = 10_000
YES, NO = "yes", "no"
METHOD: Final = "elicitation/create"
CAPABILITY: Final[Json] = {"elicitation": {"form": {}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A message, and the schema of a form; without fields it is a question of yes or no."""

    message: str
    schema: Json

    @property
    def has_fields(self) -> bool:
        return bool(self.schema.get("properties"))

    @property
    def form(self) -> Json:
        """The schema in our form: without names of choices, and without formats that are not known here."""
        return self.schema | {"properties": {name: _field(rule) for name, rule in self.schema["properties"].items()}}

    def result(self, answer: Any) -> Json:
        """Return what the server gets for an answer of a person."""
        if self.has_fields:
            return {"action": "accept", "content": answer}
        return {"action": "accept", "content": {}} if answer == YES else {"action": "decline"}


class Asked(Exception):
    """The server asks something that has no answer yet."""

    def __init__(self, question: Question) -> None:
        super().__init__(question.message)
        self.question = question


class Answers:
    """The questions that were answered so far, in the order in which the server asks them: `{message, schema, answer}`."""

    def __init__(self, given: Sequence[Json] = ()) -> None:
        self.given = list(given)
        self._next = 0

    def result_for(self, params: Json) -> Json:
        """Return the result of `elicitation/create`. Raises Asked, and ExecutorError after 20 questions.

        A form that cannot be shown is declined: `problem_of` says why.
        """
        if problem_of(params) is not None:
            return {"action": "decline"}
        question = question_in(params)
        if self._next < len(self.given):
            known = self.given[self._next]
            if (known["message"], known["schema"]) == (question.message, question.schema):
                self._next += 1
                return question.result(known["answer"])
        if self._next >= MOST_QUESTIONS:
            raise ExecutorError(f"The server has asked more than {MOST_QUESTIONS} questions.", permanent=True)
        del self.given[self._next :]  # answers to what it no longer asks
        raise Asked(question)


def question_in(params: Json) -> Question:
    message, schema = params.get("message"), params.get("requestedSchema")
    text = message[:TEXT_CHARACTERS] if isinstance(message, str) else ""
    return Question(message=text, schema=schema if isinstance(schema, dict) else {})


def problem_of(params: Json) -> str | None:
    """Return the reason why the question cannot be asked here; None if it can."""
    if params.get("mode", "form") != "form":
        return "it is no form"
    question = question_in(params)
    if not question.has_fields:
        return None
    return fault_of_form(question.form) if isinstance(question.schema["properties"], dict) else "it has no fields"


def _field(rule: Any) -> Any:
    """Return the rule of a field without the hints that forms do without; choices with titles become choices."""
    if not isinstance(rule, dict):
        return rule
    hints = {"enumNames"} if rule.get("format") in list(FORMATS) else {"enumNames", "format"}
    kept = {name: value for name, value in rule.items() if name not in hints}
    choices = kept.pop("oneOf", None)
    if isinstance(choices, list) and choices and all(isinstance(each, dict) and "const" in each for each in choices):
        return kept | {"enum": [each["const"] for each in choices]}
    return kept if choices is None else rule
