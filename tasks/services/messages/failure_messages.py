"""The message about a run that has failed, or about scores that have fallen: as a signed request, or as an e-mail."""

from datetime import datetime
from typing import Final
from urllib.parse import quote

from django.conf import settings

from tasks.executors.email.mail import MAILTO
from tasks.ids import new_id
from tasks.models import Judge, Notification, Webhook
from tasks.rules.strict_json import Json
from tasks.services.history import RunFacts, failures_of, with_facts
from tasks.services.messages.webhook_requests import Request, signed
from tasks.services.messages.webhooks import Secrets

LINES: Final = 3
"""The number of failed tasks that an e-mail names."""
LONGEST_ERROR: Final = 500
LONGEST_SUBJECT: Final = 200


def to_url(webhook: Webhook, event: Json, secrets: Secrets) -> Request | None:
    """Render the message as JSON, signed as all webhooks are."""
    facts = facts_of_failure(webhook)
    return None if facts is None else signed(facts, secrets, event_id=f"{webhook.run_id}-failed")


def by_mail(webhook: Webhook, event: Json, secrets: Secrets) -> Request | None:
    """Render the message as the text of an e-mail."""
    facts = facts_of_failure(webhook)
    if facts is None:
        return None
    subject = " ".join(f"Failed: {facts['flow'] or facts['name']}".split())
    lines = [f"Run {facts['number']} of '{facts['name']}' has failed.", ""]
    for failure in facts["failures"][:LINES]:
        lines.append(f"- {failure['name']}: {(failure['error'] or 'no reason is known')[:LONGEST_ERROR]}")
    if len(facts["failures"]) > LINES:
        lines.append("- and further tasks")
    if facts["url"]:
        lines += ["", facts["url"]]
    return Request(body="\n".join(lines).encode(), headers={"Subject": subject[:LONGEST_SUBJECT]})


def judge_to_url(webhook: Webhook, event: Json, secrets: Secrets) -> Request | None:
    """Render the message about scores of a judge as JSON."""
    facts = facts_of_judge(webhook)
    return None if facts is None else signed(facts, secrets, event_id=f"{webhook.run_id}-scores")


def judge_by_mail(webhook: Webhook, event: Json, secrets: Secrets) -> Request | None:
    """Render the message about scores of a judge as the text of an e-mail."""
    facts = facts_of_judge(webhook)
    if facts is None:
        return None
    subject = f"Scores have fallen: {facts['flow']}"
    lines = [facts["text"], *(["", facts["url"]] if facts["url"] else [])]
    return Request(body="\n".join(lines).encode(), headers={"Subject": subject[:LONGEST_SUBJECT]})


def facts_of_judge(webhook: Webhook) -> Json | None:
    """Return the facts of the message. None: the judge was deleted, or its scores are good again."""
    judge = Judge.objects.select_related("flow").filter(id=webhook.config_id.partition(":")[2]).first()
    if judge is None or judge.alert is None:
        return None
    base = settings.APFLOW.server.public_url
    name, mean = judge.flow.name, judge.alert["mean"]
    return {
        "type": "scores_fell",
        "user_id": judge.flow.user_id,
        "flow": name,
        "judge": judge.name,
        "mean": mean,
        "below": judge.below,
        "runs": judge.runs,
        "text": f"The mean of the last {judge.runs:,} scores '{judge.name}' of the flow '{name}' is {mean:.3g}, below {judge.below:g}.",
        "url": f"{base.rstrip('/')}/ui/flows/{quote(name)}/" if base else None,
    }


def test_message(notification: Notification, *, flow: str | None, secrets: Secrets) -> Request:
    """Render the message that shows whether messages of this notification arrive."""
    run = f"a run of the flow '{flow}'" if flow else "a run"
    events = [f"{run} fails"] if notification.on_failure else []
    events += [f"a task of {run} asks a question"] if notification.on_question else []
    text = f"This is a test of the notification '{notification.name}'. Such a message comes when {' or '.join(events)}."
    base = settings.APFLOW.server.public_url
    url = f"{base.rstrip('/')}/ui/settings/" if base else None
    if notification.url.startswith(MAILTO):
        lines = [text, *(["", url] if url else [])]
        return Request(body="\n".join(lines).encode(), headers={"Subject": f"Test: {notification.name}"})
    facts = {"type": "test", "name": notification.name, "user_id": notification.user_id, "flow": flow}
    return signed(facts | {"text": text, "url": url}, secrets, event_id=f"{new_id()}-test")


def facts_of_failure(webhook: Webhook) -> Json | None:
    """Return the facts of the message. None: the tree has been deleted."""
    for about in with_facts([webhook.run]):
        run, base = about.run, settings.APFLOW.server.public_url
        return {
            "type": "run_failed",
            "task_id": run.target_id,
            **facts_of_run(about),
            "failures": [failure.native for failure in failures_of(run)],
            "started_at": _time(run.started_at),
            "finished_at": _time(run.finished_at),
            "url": f"{base.rstrip('/')}/ui/runs/{run.id}/" if base else None,
        }
    return None


def facts_of_run(about: RunFacts) -> Json:
    """Return the facts of a run that every message to its owner has."""
    run = about.run
    return {
        "run_id": run.id,
        "root_task_id": run.root_id,
        "user_id": run.user_id,
        "name": about.name,
        "number": run.number,
        "flow": about.flow,
        "flow_version": run.flow_version if about.flow else None,
        "schedule_id": about.firing.schedule_id if about.firing else None,
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
