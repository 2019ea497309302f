"""The message about a question that a task asks: as a signed request, or as an e-mail.

The owner of the run learns about the run, too. An assignee learns what the inbox shows of the question.
"""

from typing import Final

from django.conf import settings

from tasks.models import Question, Webhook
from tasks.rules.strict_json import Json
from tasks.services.history import with_facts
from tasks.services.messages.failure_messages import LONGEST_SUBJECT, facts_of_run
from tasks.services.messages.webhook_requests import Request, signed
from tasks.services.messages.webhooks import OF_OTHERS, Secrets

LONGEST_TEXT: Final = 5_000
"""The number of characters of a question that an e-mail has."""


def to_url(webhook: Webhook, event: Json, secrets: Secrets) -> Request | None:
    """Render the message as JSON, signed as all webhooks are. None: the question has been answered or has expired."""
    facts = facts_of_question(webhook, event)
    return None if facts is None else signed(facts, secrets, event_id=f"{webhook.run_id}-{event['seq']}")


def by_mail(webhook: Webhook, event: Json, secrets: Secrets) -> Request | None:
    """Render the message as the text of an e-mail. None: the question has been answered or has expired."""
    facts = facts_of_question(webhook, event)
    if facts is None:
        return None
    question = facts["question"]
    about = facts.get("flow") or facts.get("name")
    kind = "Reminder" if facts["is_reminder"] else "Question"
    subject = " ".join(f"{kind}: {f'{about}: ' if about else ''}{question['text']}".split())
    lines = [question["text"][:LONGEST_TEXT]]
    if question["options"]:
        lines += ["", f"Answers: {', '.join(question['options'])}"]
    if question["expires_at"]:
        lines += ["", f"The question expires at {question['expires_at']}."]
    if facts["url"]:
        lines += ["", f"Answer it: {facts['url']}"]
    return Request(body="\n".join(lines).encode(), headers={"Subject": subject[:LONGEST_SUBJECT]})


def facts_of_question(webhook: Webhook, event: Json) -> Json | None:
    """Return the facts of the message. None: the question is no longer open, or the tree has been deleted."""
    asked = event["result"]
    question = Question.objects.waiting().filter(id=asked["question_id"]).first()
    about = None if webhook.kind in OF_OTHERS else next(iter(with_facts([webhook.run])), None)
    if question is None or (about is None and webhook.kind not in OF_OTHERS):
        return None
    base = settings.APFLOW.server.public_url
    return {
        "type": "question_asked",
        "task_id": question.task_id,
        **(facts_of_run(about) if about else {}),
        "is_reminder": "is_reminder" in asked or "escalated_to" in asked,
        "question": {
            "id": question.id,
            "text": question.text,
            "options": question.options,
            "schema": question.schema,
            "assignees": question.assignees,
            "asked_at": question.asked_at.isoformat(),
            "expires_at": question.expires_at and question.expires_at.isoformat(),
        },
        "url": f"{base.rstrip('/')}/ui/inbox/" if base else None,
    }
