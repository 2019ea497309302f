"""The queue between services and workers: django-q2's ORM broker, without polling.

It waits for notifications. A worker that is awake gets them, too, and claims the run by itself. So the
broker gives it a moment, and then hands out only wake-ups of runs that still wait; the rows of the
others are deleted later, many at a time.

A queue row contains only the id of a run. The signed package that django-q2 expects is made in the
process that reads the row, so write access to the table is enough to wake a worker, and for no
more.
"""

import threading
import time
from functools import cached_property
from typing import Any, Final

from django.db import OperationalError, connection, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from apflow_site.db.connections import IS_SQLITE
from tasks.ids import new_id
from tasks.models import Run
from tasks.queue import notify

PROBE_SECONDS: Final = 3.0
"""The seconds after which an idle worker has to prove again that jobs reach it."""
WAIT_SECONDS: Final = 3.0
"""A notification that is lost delays a run by so much at most."""
AGAIN_SECONDS: Final = 0.5
"""The pause after the database was unavailable."""
HEAD_START_SECONDS: Final = 0.005
"""The seconds that the broker reads later than a worker that is awake. A worker that sleeps is woken so much later."""
TIDY_SECONDS: Final = 2.0
"""The seconds after which rows without a waiting run are deleted."""
MAX_WAKE_UPS: Final = 10_000
RUN_TREE: Final = "tasks.jobs.run_tree"
PROBE: Final = "tasks.jobs.probe"

Package = tuple[None, str]


class NotifiedBroker(ORM):
    """Reads all queued wake-ups at once and returns at most one job per worker process.

    One is enough, because each job claims any waiting run.
    """

    _last_package_at = 0.0
    _tidied_at = 0.0

    @cached_property
    def _is_notified(self) -> threading.Event:
        """Return what each notification sets, on a thread: the pusher may block for long on a full queue of jobs."""
        is_notified = threading.Event()
        is_notified.set()  # rows may be there already
        notify.Listener(notify.RUNS, is_notified.set, always=True)
        return is_notified

    def wake(self) -> None:
        """End the wait of `dequeue`, from another thread."""
        self._is_notified.set()

    def dequeue(self) -> list[Package]:
        """Wait for wake-ups for a while."""
        try:
            until_probe = self._last_package_at + PROBE_SECONDS - time.monotonic()
            if self._is_notified.wait(min(WAIT_SECONDS, max(0.0, until_probe))):
                time.sleep(HEAD_START_SECONDS)
            self._is_notified.clear()  # before reading, so that a notification during the read is not missed
            # The rows of runs that wait are removed. The sweeper finds runs whose wake-up is lost.
            is_any_waiting = _has_row(ANY_WAITING, self.list_key)
            run_ids = self._removed(OrmQ.objects.filter(_IS_WAITING)) if is_any_waiting else []
            if time.monotonic() - self._tidied_at > TIDY_SECONDS:
                self._tidied_at = time.monotonic()
                if _has_row(ANY_ROW, self.list_key):  # a DELETE would take SQLite's lock
                    self._removed(OrmQ.objects.exclude(_IS_WAITING))
        except OperationalError:
            connection.close()
            time.sleep(AGAIN_SECONDS)  # django-q2 itself would pause for ten seconds
            return []
        if run_ids:
            return self._hand_out([_package(RUN_TREE, run_id) for run_id in run_ids[: Conf.WORKERS]])
        if time.monotonic() >= self._last_package_at + PROBE_SECONDS:
            return self._hand_out([_package(PROBE)])
        return []

    def _removed(self, rows: QuerySet[OrmQ]) -> list[str]:
        queued = rows.filter(key=self.list_key).order_by("id")
        with transaction.atomic():
            if not IS_SQLITE:
                queued = queued.select_for_update(skip_locked=True)
            found = list(queued.values_list("id", "payload")[:MAX_WAKE_UPS])
            OrmQ.objects.filter(id__in=[row_id for row_id, _ in found]).delete()
        return [run_id for _, run_id in found]

    def _hand_out(self, packages: list[Package]) -> list[Package]:
        self._last_package_at = time.monotonic()
        return packages


_IS_WAITING: Final = Exists(Run.objects.unfinished().filter(id=OuterRef("payload"), lease_expires_at=None))
ANY_ROW: Final = "SELECT 1 FROM django_q_ormq WHERE key = %s LIMIT 1"
ANY_WAITING: Final = (
    "SELECT 1 FROM django_q_ormq JOIN tasks_run ON tasks_run.id = django_q_ormq.payload "
    "WHERE key = %s AND finished_at IS NULL AND lease_expires_at IS NULL LIMIT 1"
)


def _has_row(statement: str, key: str) -> bool:
    """Check with raw SQL: this runs at every notification, and the ORM would be costly."""
    with connection.cursor() as cursor:
        cursor.execute(statement, [key])
        return cursor.fetchone() is not None


def _package(function: str, *args: Any) -> Package:
    """Return a django-q2 job. It has no id to acknowledge: its row is already deleted."""
    job = {"id": new_id(), "name": function, "func": function, "args": args, "kwargs": {}, "started": timezone.now()}
    return None, SignedPackage.dumps(job)
