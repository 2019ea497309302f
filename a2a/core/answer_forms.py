"""The answer to a question as an object: its schema, for clients that show forms, and how it is read."""

from typing import Any, Final

from tasks.models import Question
from tasks.rules.strict_json import Json

ANSWER: Final = "answer"
COMMENT: Final = "comment"


def schema_of(question: Question) -> Json:
    """Return the schema of the object: that of the question's own form, or of an answer with a comment."""
    if question.schema is not None:
        given = {name: question.schema[name] for name in ("properties", "required") if name in question.schema}
        return {"type": "object", "properties": {}} | given
    answer: Json = {"type": "string", "title": "Answer"} | ({"enum": question.options} if question.options else {})
    properties = {ANSWER: answer, COMMENT: {"type": "string", "title": "Comment"}}
    return {"type": "object", "properties": properties, "required": [ANSWER]}


def read(question: Question, content: Json) -> tuple[Any, str | None]:
    """Return the answer and the comment in the object."""
    if question.schema is not None:
        return content, None
    comment = content.get(COMMENT)
    return content.get(ANSWER), comment if isinstance(comment, str) and comment else None
