"""The allowance of mails for each user and day. It is counted in the database, so that all workers share one limit."""

from datetime import UTC, date, datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet

from apflow_site.db import pools
from tasks.models import MailCount


async def refusal(user_id: str, *, recipients: int) -> str | None:
    """Count a mail to so many addresses, and return None; or return why the user may not send it today."""
    most = int(settings.APFLOW.limits.mail_recipients_per_user_day)
    if not most or await pools.write(_count, user_id, recipients, most=most):
        return None
    return (
        f"You may send mail to {most:,} addresses a day (limits.mail_recipients_per_user_day), and fewer than {recipients:,} "
        "are left today. The count begins again at midnight UTC; the operator may raise the limit."
    )


@transaction.atomic
def _count(user_id: str, recipients: int, *, most: int) -> bool:
    """Return whether they fit. One statement compares and counts: mails of several workers may come at once."""
    today = _today()
    MailCount.objects.bulk_create([MailCount(user_id=user_id, day=today)], ignore_conflicts=True)
    fitting = MailCount.objects.filter(user_id=user_id, day=today, recipients__lte=most - recipients)
    return fitting.update(recipients=F("recipients") + recipients) == 1


def old_counts() -> "QuerySet[Any]":
    """Return the counts of earlier days."""
    return MailCount.objects.filter(day__lt=_today())


def _today() -> date:
    return datetime.now(UTC).date()
