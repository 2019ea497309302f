"""Maintenance of an installation: workers claim no run and send no webhook until it ends.

Requests are answered, and runs are stored for later. Runs that a worker has claimed before continue
to their end. A restored copy of a database is started in maintenance, so that it does not do the
unfinished work of the original.
"""

from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models.functions import Now

from accounts import audit
from accounts.audit import Action
from tasks.models import InstallationFact
from tasks.queue import notify

NAME: Final = "maintenance"
IS_ON: Final = f"EXISTS (SELECT 1 FROM tasks_installationfact WHERE name = '{NAME}')"  # noqa: S608  (a constant)
"""The condition in SQL, for the statements that claim."""


@transaction.atomic
def begin() -> None:
    """Begin maintenance on all machines. Nothing changes if it is on."""
    _, is_new = InstallationFact.objects.get_or_create(name=NAME, defaults={"value": {}, "updated_at": Now()})
    if is_new:
        audit.record(Action.MAINTENANCE_ON)


@transaction.atomic
def end() -> bool:
    """End maintenance, and wake the workers. Returns False if it was not on."""
    deleted, _ = InstallationFact.objects.filter(name=NAME).delete()
    if deleted:
        audit.record(Action.MAINTENANCE_OFF)
    notify.send(notify.RUNS)
    return deleted > 0


def since() -> datetime | None:
    """Return when maintenance began; None if it is not on."""
    return InstallationFact.objects.filter(name=NAME).values_list("updated_at", flat=True).first()


def is_on() -> bool:
    return InstallationFact.objects.filter(name=NAME).exists()
