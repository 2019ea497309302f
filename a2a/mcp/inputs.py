"""Questions of tasks as forms that a client shows to its user, and the answers that come back."""

from collections.abc import Sequence
from typing import Any, Final

from django.core import signing

from a2a.core.jsonrpc import INVALID_PARAMS
from a2a.core.mapping import answer_schema, read_answer
from a2a.mcp.eras import Exchange
from a2a.mcp.messages import McpError
from accounts.callers import Caller
from tasks.models import Question, Run
from tasks.rules.exceptions import InvalidParams
from tasks.rules.files import asks_for_file, asks_for_files
from tasks.rules.strict_json import Json
from tasks.services import history
from tasks.services.waits import questions

SALT: Final = "a2a.mcp.request_state"
WRONG_STATE: Final = ("requestState", "must be that of an earlier result, unchanged")


def requests_of(asked: Sequence[Question]) -> Json:
    """Return the questions by their ids, as requests to the client's user; without those for files, which MCP has no field for."""
    return {question.id: form_of(question.text, answer_schema(question)) for question in asked if _is_plain(question)}


def _is_plain(question: Question) -> bool:
    rules = (question.schema or {}).get("properties", {}).values()
    return not any(asks_for_file(rule) or asks_for_files(rule) for rule in rules)


def form_of(message: str, schema: Json) -> Json:
    """Return a request to show the client's user a form."""
    params = {"mode": "form", "message": message, "requestedSchema": schema}
    return {"method": "elicitation/create", "params": params}


def accepted_in(exchange: Exchange, name: str) -> Json | None:
    """Return the values of the user in the response of this name; None without a response. A form that was declined is empty."""
    responses = exchange.input_responses
    response = responses.get(name) if isinstance(responses, dict) else None
    if not isinstance(response, dict):
        return None
    content = response.get("content")
    return content if response.get("action") == "accept" and isinstance(content, dict) else {}


def answer_all(*, caller: Caller, run_id: str, responses: Any) -> Run:
    """Record the answers to the open questions of a run; responses to others count as nothing.

    A question that the user declined stays open. Raises RunNotFound, InvalidParams, RoleTooLow or StatusConflict.
    """
    run = history.own_run(caller=caller, run_id=run_id)
    if not isinstance(responses, dict):
        raise InvalidParams([("inputResponses", "must be an object of responses by the ids of their requests")])
    for question in questions.open_questions(caller, run_ids=[run.id]):
        if question.id not in responses:
            continue
        response, place = responses[question.id], f"inputResponses.{question.id}"
        if not isinstance(response, dict) or response.get("action") not in ("accept", "decline", "cancel"):
            raise InvalidParams([(place, "must have an action: accept, decline or cancel")])
        if response["action"] == "accept":
            content = response.get("content")
            if not isinstance(content, dict):
                raise InvalidParams([(place, "must have the content of the form")])
            answer, comment = read_answer(question, content)
            questions.answer(caller=caller, task_id=question.task_id, answer=answer, comment=comment)
    return run


def state_of(exchange: Exchange, run: Run, *, with_tree: bool) -> str:
    """Return a text by which the client continues the call. Only its user can use it."""
    return signing.dumps([run.id, exchange.caller.user_id, with_tree], salt=SALT)


def read_state(exchange: Exchange) -> tuple[str, bool]:
    """Return the id of the run in the state of a request, and whether its tree is wanted. Raises McpError."""
    try:
        run_id, user_id, with_tree = signing.loads(exchange.request_state, salt=SALT)
    except (signing.BadSignature, AttributeError, TypeError):
        raise _wrong_state() from None
    if user_id != exchange.caller.user_id:
        raise _wrong_state()
    return run_id, with_tree


def _wrong_state() -> McpError:
    """Return an error of the protocol, not of the tool: no model can correct it."""
    field, reason = WRONG_STATE
    return McpError(INVALID_PARAMS, f"Invalid params: {field}: {reason}", data=[{"field": field, "reason": reason}])
