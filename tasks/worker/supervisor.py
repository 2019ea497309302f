"""The supervisor: keeps one cluster of workers alive beside its own process, starts quarantines, and sweeps."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from django.conf import settings
from django.db import DatabaseError, connection

from apflow_site.db.connections import refresh
from llmkeys import run_secrets
from tasks.models import Judge
from tasks.own_process import Forked
from tasks.queue import black_box, leases, suspension
from tasks.queue.black_box import End
from tasks.queue.clock import ExpiryWatch
from tasks.services.history import run_counts
from tasks.services.runs import cancels
from tasks.services.schedules import firings
from tasks.services.secrets import shared_secrets
from tasks.services.upkeep import growth, housekeeping
from tasks.services.waits import equal_calls, limit_waits, sent_events
from tasks.services.waits.limit_waits import SharedLimits
from tasks.storage import counts, usage
from tasks.worker import webhook_deliveries
from tasks.worker.shares import convicts_per_user, most_quarantines
from tasks.worker.watches import Child, SilenceWatch, culprits, watch_schedules

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 2.0
ALARM_SECONDS: Final = 1.0
"""The seconds that a wait may end late that another process has just begun. A longer one ends at its time."""
SWEEP_SECONDS: Final = 5.0
UPKEEP_SECONDS: Final = 20.0
"""Between two looks for what can be removed, unless the last one found something."""
COUNT_SECONDS: Final = 1.0
"""The time for which one look counts hours that are over: usually there is at most one."""
LEAST_PAUSE_SECONDS: Final = 0.02
"""Between two looks for waits that are over."""
LEASE_SWEEP_SECONDS: Final = 2.0
"""Leases are swept more often than the rest: a dead worker's runs wait for it."""


class Stop:
    """Asks a supervisor to stop: gently with `ask`; a second `interrupt` kills the workers."""

    def __init__(self) -> None:
        self.is_asked = threading.Event()
        self.is_insisted = threading.Event()
        self.is_from_keyboard = False

    def ask(self) -> None:
        self.is_asked.set()

    def interrupt(self) -> None:
        """Handle Ctrl+C: the second time, stop at once."""
        self.is_from_keyboard = True
        (self.is_insisted if self.is_asked.is_set() else self.is_asked).set()


def supervise(stop: Stop, *, may_start: Callable[[], bool], cluster: "Watched | None" = None) -> None:
    """Until `stop`: sweep and, when `may_start` allows it, keep workers running: at first those of the `cluster`, if given.

    At the end drain them.
    """
    workers: Workers | None = None
    sweeps = Sweeps()
    threading.Thread(target=ring, args=[stop.is_asked], name="alarm", daemon=True).start()
    threading.Thread(target=serve_limits, args=[stop.is_asked], name="limits", daemon=True).start()
    threading.Thread(target=watch_schedules, args=[stop.is_asked], name="schedules", daemon=True).start()
    while not stop.is_asked.wait(TICK_SECONDS if workers or sweeps.is_begun else 0):
        if workers is None and may_start():
            workers = Workers(cluster)
            _watch_containers(stop.is_asked)
        if workers:
            workers.keep_alive()  # first, so that the sweep finds how workers have ended
        sweeps.sweep()
    if workers:
        workers.stop(stop)


def _watch_containers(is_over: threading.Event) -> None:
    """Start to watch them, if the operator allows any."""
    if settings.APFLOW.executors.docker.images:
        from tasks.worker import container_watch  # noqa: PLC0415  its HTTP client takes 0.06 s, and few use containers

        threading.Thread(target=container_watch.watch, args=[is_over], name="containers", daemon=True).start()


def ring(is_over: threading.Event) -> None:
    """Until then, wake the runs of which a wait is over, at its time."""
    pause = 0.0
    while not is_over.wait(pause):
        try:
            refresh()
            pause = _wake_due()
        except DatabaseError:
            logger.warning("Could not wake waits: the database is unavailable", extra={"event": "alarm.failed"})
            connection.close()
            pause = ALARM_SECONDS


def serve_limits(is_over: threading.Event) -> None:
    """Until then, let the tasks start that wait for a named limit, each when its turn has come.

    It looks for them also while there are no limits: a worker that does not know yet that one was deleted lets tasks wait for it.
    """
    limits, pause = SharedLimits(settings.APFLOW.limits.shared or {}), 0.0
    while not is_over.wait(pause):
        try:
            refresh()
            limits.refresh()
            seconds = limits.serve()
            pause = ALARM_SECONDS if seconds is None else min(ALARM_SECONDS, seconds)
        except DatabaseError:
            logger.warning(
                "Could not let tasks start that wait for a limit: the database is unavailable",
                extra={"event": "limits.failed"},
            )
            connection.close()
            pause = ALARM_SECONDS


def _wake_due() -> float:
    """Wake the runs of which a wait is over. Returns in how many seconds to look again."""
    coming = suspension.seconds_until_first()
    if coming is not None and coming <= 0:
        if suspension.resume_due() == suspension.MOST_AT_ONCE:
            return 0.0
        coming = suspension.seconds_until_due()
    return ALARM_SECONDS if coming is None else min(ALARM_SECONDS, max(LEAST_PAUSE_SECONDS, coming))


class Sweeps:
    """The sweeps that every web process and every worker command does for all runs now and then."""

    def __init__(self) -> None:
        self._due_at = {"leases": 0.0, "runs": 0.0, "upkeep": 0.0}
        self._watch = ExpiryWatch()

    @property
    def is_begun(self) -> bool:
        return self._due_at["runs"] > 0

    def sweep(self) -> None:
        try:
            if self._is_due("leases", LEASE_SWEEP_SECONDS):
                refresh()
                leases.sweep(may_expire=self._watch.may_expire)
                limit_waits.forget_shares(may_expire=self._watch.may_expire)
            if self._is_due("runs", SWEEP_SECONDS):
                _sweep_runs()
            if self._is_due("upkeep", UPKEEP_SECONDS) and _keep_up():
                self._due_at["upkeep"] = self._due_at["leases"]
        except DatabaseError:
            logger.warning("Could not sweep: the database is unavailable", extra={"event": "sweep.failed"})
            connection.close()

    def _is_due(self, sweep: str, seconds: float) -> bool:
        """Return whether it is time for this sweep. If so, it is due again so many seconds from now."""
        now = time.monotonic()
        if now < self._due_at[sweep]:
            return False
        self._due_at[sweep] = now + seconds
        return True


def _sweep_runs() -> None:
    """Find what runs or users wait for and no process does: usually nothing."""
    cancels.forget_finished()
    webhook_deliveries.sweep()
    suspension.sweep()
    sent_events.wake_forgotten()
    equal_calls.sweep()
    firings.note_ended()
    if Judge.objects.exists():
        from tasks.services.evals import judges  # noqa: PLC0415  few use them
        from tasks.services.messages import notifications  # noqa: PLC0415  as above

        judges.sweep(notifications.add_for_judge)
    counts.compact()
    usage.compact()


def _keep_up() -> bool:
    """Remove and note what no run waits for. Returns whether there may be more to remove."""
    shared_secrets.keep_fresh()
    shared_secrets.note_signer()
    growth.record_size()
    leases.discard_boxes()
    leases.forget_workers()
    run_secrets.erase_expired()
    has_more = run_counts.count_hours(give_up_at=time.monotonic() + COUNT_SECONDS)
    return housekeeping.keep_house() or has_more


class Workers:
    """The cluster and the quarantines of one supervisor."""

    def __init__(self, cluster: "Watched | None" = None) -> None:
        self._cluster = cluster or Watched("tasks.worker.cluster")
        self._replaced: list[Watched] = []  # the clusters of which the ends of the workers are to be recorded
        self._quarantines: list[Watched] = []
        self._suspect: str | None = None  # the first that waits while there is the usual number of quarantines
        self._suspect_since = 0.0

    def keep_alive(self) -> None:
        """Replace what has ended or fallen silent, and start a quarantine if a suspected run waits.

        For a cluster that has retired, another process does so.
        """
        if self._cluster.is_retired:
            return
        if self._cluster.has_ended:
            self._replace_cluster(f"ended with code {self._cluster.exit_code}")
        try:
            if self._cluster.kill_silent():
                self._replace_cluster("does not answer")
            self._record_ends()
            self._keep_quarantines()
        except DatabaseError:
            connection.close()
            for each in (self._cluster, *self._quarantines):
                each.silence.forget()

    def stop(self, stop: Stop) -> None:
        """Let the steps in hand end, within the drain time and until the user insists; then kill the rest."""
        everyone = [self._cluster, *self._quarantines]
        if not self._cluster.is_retired:
            _log_draining([each.id for each in everyone], is_from_keyboard=stop.is_from_keyboard)
        for each in everyone:
            if not each.is_retired:
                each.terminate()
        for each in everyone:
            each.wait(stop.is_insisted)

    def _replace_cluster(self, trouble: str) -> None:
        logger.error("The worker cluster %s; starting another", trouble, extra={"event": "cluster.replaced"})
        self._cluster.kill()
        self._replaced.append(self._cluster)
        self._cluster = Watched("tasks.worker.cluster")

    def _record_ends(self) -> None:
        """Record the ends that the first process of a cluster did not live to see. Raises DatabaseError."""
        for cluster in self._replaced:
            for name in leases.processes_of(cluster_id=cluster.id):
                if black_box.end_of(name) is None:
                    black_box.record_end(name, End(exit_code=None))
        self._replaced = []

    def _keep_quarantines(self) -> None:
        for each in self._quarantines:
            if each.kill_silent():
                each.kill()
            if each.has_ended:
                black_box.record_end(each.name, End(exit_code=each.exit_code))
        self._quarantines = [each for each in self._quarantines if not each.has_ended]
        if self._needs_quarantine():
            self._quarantines.append(Watched("tasks.worker.quarantine"))

    def _needs_quarantine(self) -> bool:
        """Return whether a suspect waits for a process, or has waited so long that the usual number of them is not enough."""
        count = len(self._quarantines)
        if count >= most_quarantines():
            return False
        first = leases.first_suspect(convicts_per_user=convicts_per_user())
        if first is None or count < settings.APFLOW.worker.quarantine:
            return first is not None
        now = time.monotonic()
        if first != self._suspect:
            self._suspect, self._suspect_since = first, now
        return now - self._suspect_since > 2 * settings.APFLOW.worker.quarantine_seconds


class Watched(Child):
    """A child whose workers must beat."""

    def __init__(self, module: str, *, fork: Callable[[str], Forked] | None = None) -> None:
        super().__init__(module, fork=fork)
        self.silence = SilenceWatch(self.id)

    def kill_silent(self) -> bool:
        """Kill its processes that hold runs and are silent. Returns whether all of it is silent. Raises DatabaseError."""
        silent = self.silence.look()
        for name in silent:
            if name != self.id:
                logger.error(
                    "Worker process %s does not answer and is killed; it was executing code of run: %s",
                    name,
                    culprits(name),
                    extra={"event": "worker.silent"},
                )
                with suppress(ProcessLookupError):
                    os.kill(leases.pid_of(name), signal.SIGKILL)
                black_box.record_end(name, End(exit_code=-signal.SIGKILL))
        return self.id in silent


def _log_draining(cluster_ids: list[str], *, is_from_keyboard: bool) -> None:
    try:
        count = sum(leases.held_by(cluster_id=cluster_id) for cluster_id in cluster_ids)
    except DatabaseError:
        connection.close()
        return
    if count:
        logger.warning(
            "Stopping: the steps in hand of %d running tree%s may end within %d s; the rest continues after the next start%s",
            count,
            "" if count == 1 else "s",
            settings.APFLOW.worker.drain_seconds,
            ". Press Ctrl+C again to stop at once" if is_from_keyboard else "",
            extra={"event": "cluster.draining", "runs": count},
        )
