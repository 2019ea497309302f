"""Slack: questions as messages with buttons, and the buttons that were pressed.

A question with options has a button for each. Slack reports the one that is pressed, signed, to an inbound hook, which answers the
question as its owner. Then the message is replaced by way of its `response_url`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from django.conf import settings

from accounts.callers import Caller
from aipartnerupflow.executors import ExecutorError
from tasks.executors.http.safe_http import fetch
from tasks.models import Hook, Notification, Question, Webhook
from tasks.rules.exceptions import InvalidParams, StatusConflict
from tasks.rules.strict_json import Json
from tasks.services.messages.failure_messages import LINES, LONGEST_ERROR, facts_of_failure, facts_of_judge
from tasks.services.messages.question_messages import facts_of_question
from tasks.services.messages.webhook_requests import Request
from tasks.services.messages.webhooks import Secrets, egress
from tasks.services.waits.questions import record_answer

ACTION: Final = "apflow_answer"
"""The beginning of the `action_id` of our buttons: Slack wants a different one for each button of a block."""
MOST_BUTTONS: Final = 25
"""The number of elements of a block of actions."""
LONGEST_SECTION: Final = 3_000
LONGEST_BUTTON: Final = 75
LONGEST_VALUE: Final = 2_000
LONGEST_QUESTION: Final = 2_500
"""The characters of a question in a message: escaped, they are more."""
UNKNOWN: Final = "This question is not open, or the owner of the hook may not answer it."
NO_ADDRESS: Final = "The payload had no response_url, so the message in Slack shows no answer."
NOT_SHOWN: Final = "The message in Slack does not show it: {}"


def failure(webhook: Webhook, event: Json, secrets: Secrets) -> Request | None:
    """Render the message about a run that has failed. None: its tree has been deleted."""
    facts = facts_of_failure(webhook)
    if facts is None:
        return None
    lines = [f"*Run {facts['number']} of {_named(facts)} has failed.*"]
    for each in facts["failures"][:LINES]:
        lines.append(f"• {escaped(each['name'])}: {escaped((each['error'] or 'no reason is known')[:LONGEST_ERROR])}")
    return _message("\n".join(lines), link=facts["url"])


def judge(webhook: Webhook, event: Json, secrets: Secrets) -> Request | None:
    """Render the message about scores of a judge. None: it was deleted, or its scores are good again."""
    facts = facts_of_judge(webhook)
    return None if facts is None else _message(escaped(facts["text"]), link=facts["url"])


def question(webhook: Webhook, event: Json, secrets: Secrets) -> Request | None:
    """Render the message about a question. None: it has been answered or has expired.

    It has buttons if there are options, and its receiver has an inbound hook that takes the answers.
    """
    facts = facts_of_question(webhook, event)
    if facts is None:
        return None
    asked = facts["question"]
    about = (
        f"*{'Reminder' if facts['is_reminder'] else 'Question'}{f' of {_named(facts)}' if facts.get('name') else ''}*"
    )
    text = f"{about}\n{escaped(asked['text'][:LONGEST_QUESTION])}"
    receiver = Notification.objects.filter(id=webhook.config_id.partition(":")[0]).values("user_id")
    takes_answers = Hook.objects.filter(user_id__in=receiver, answers=True).exists()
    options = asked["options"] if takes_answers and asked["schema"] is None else None
    buttons = [
        {
            "type": "button",
            "action_id": f"{ACTION}_{number}",
            "text": {"type": "plain_text", "text": option[:LONGEST_BUTTON]},
            "value": orjson.dumps({"question": asked["id"], "option": number}).decode(),
        }
        for number, option in enumerate((options or ())[:MOST_BUTTONS])
    ]
    return _message(text, link=facts["url"], buttons=buttons)


def in_slack(message: Request) -> Request:
    """Render a test message as Slack shows it."""
    return _message(escaped(orjson.loads(message.body)["text"]), link=None)


def _named(facts: Json) -> str:
    return escaped(facts.get("flow") or facts["name"])


def _message(text: str, *, link: str | None, buttons: Sequence[Json] = ()) -> Request:
    blocks: list[Json] = [_section(text)]
    if buttons:
        blocks.append({"type": "actions", "elements": list(buttons)})
    if link is not None:
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": f"<{link}|Open>"}]})
    body = orjson.dumps({"text": text[:LONGEST_SECTION], "blocks": blocks})
    return Request(body=body, headers={"Content-Type": "application/json"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressed:
    """A button of a question that was pressed in Slack, and by whom."""

    question_id: str
    option: int
    user_id: str
    user_name: str
    response_url: str | None

    @property
    def facts(self) -> Json:
        """The parts that are stored: `response_url` would let others write to the channel."""
        value = orjson.dumps({"question": self.question_id, "option": self.option}).decode()
        return {
            "type": "block_actions",
            "user": {"id": self.user_id, "name": self.user_name},
            "actions": [{"action_id": ACTION, "value": value}],
        }


def pressed_in(body: Any) -> Pressed | None:
    """Return the button that the payload of an interaction is about; None if it is not one of ours."""
    if not isinstance(body, dict) or body.get("type") != "block_actions":
        return None
    actions, user = body.get("actions"), body.get("user")
    action = actions[0] if isinstance(actions, list) and actions and isinstance(actions[0], dict) else {}
    if not str(action.get("action_id", "")).startswith(ACTION):
        return None
    try:
        value = orjson.loads(str(action.get("value")))
        question_id, option = str(value["question"]), int(value["option"])
    except (ValueError, TypeError, LookupError):
        return None
    named = user if isinstance(user, dict) else {}
    url = body.get("response_url")
    return Pressed(
        question_id=question_id,
        option=option,
        user_id=str(named.get("id", ""))[:100],
        user_name=str(named.get("username") or named.get("name") or "")[:100],
        response_url=url if isinstance(url, str) else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A question that was answered, for the message that replaces it."""

    task_id: str
    text: str
    answer: str


def answer_pressed(pressed: Pressed, *, caller: Caller) -> Answered:
    """Answer the question of a button for the caller.

    Raises StatusConflict, with the same text for a question that is unknown, over, or one that the caller may not answer.
    """
    question = Question.objects.waiting().filter(id=pressed.question_id).select_related("run").first()
    if question is None or not question.may_be_answered_by(caller):
        raise StatusConflict(UNKNOWN)
    options = question.options or []
    if not 0 <= pressed.option < len(options):
        raise InvalidParams([("option", "is not one of the question's")])
    comment = f"In Slack, by {pressed.user_name} ({pressed.user_id})"
    answer = options[pressed.option]
    record_answer(question, answer=answer, by=caller.user_id, comment=comment)
    return Answered(task_id=question.task_id, text=question.text, answer=answer)


async def show_answer(pressed: Pressed, *, answer: Answered | None, problem: str | None) -> str | None:
    """Replace the message with the answer, or show the problem to who pressed the button. Returns why that failed; None if it did not."""
    if pressed.response_url is None:
        return NO_ADDRESS
    if answer is not None:
        text = (
            f"{escaped(answer.text)[: LONGEST_SECTION - 300]}\n*{escaped(answer.answer)[:200]}* (<@{pressed.user_id}>)"
        )
        message: Json = {"replace_original": True, "text": text, "blocks": [_section(text)]}
    else:
        message = {"replace_original": False, "response_type": "ephemeral", "text": escaped(problem or "")}
    try:
        reply = await fetch(
            "POST",
            pressed.response_url,
            headers={"Content-Type": "application/json"},
            content=orjson.dumps(message),
            timeout_seconds=settings.APFLOW.webhooks.timeout_seconds,
            max_body_bytes=None,
            egress=egress(),
            called="The response_url of Slack",
        )
    except ExecutorError as error:
        return NOT_SHOWN.format(error)
    return None if reply.status_code < 300 else NOT_SHOWN.format(f"Slack answered {reply.status_code}.")


def escaped(text: str) -> str:
    """Return a text as Slack shows it: of its markup, these three characters begin something."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _section(text: str) -> Json:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:LONGEST_SECTION]}}
