"""Check that the tests of the rules find bugs: seed one at a time into a copy of the repository.

    python scripts/seeded_bugs.py [--jobs 2] [--only TEXT]

Prints a Markdown table. Exits with code 1 if more than one bug in twenty survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
PARTS: Final = (
    "a2a", "accounts", "aipartnerupflow", "apflow_site", "llmkeys", "tasks", "tests", "templates",
)  # fmt: skip
FILES: Final = ("manage.py", "pyproject.toml", "README.md")
TESTS: Final = (
    "tests/tasks/rules/test_tree.py",
    "tests/tasks/queue/test_fairness.py",
    "tests/tasks/services/test_cancels.py",
    "tests/tasks/queue/test_leases.py",
    "tests/tasks/queue/test_suspicion.py",
    "tests/tasks/worker/test_group_commit.py",
    "tests/tasks/worker/test_worker.py",
    "tests/tasks/worker/test_engine.py",
    "tests/tasks/worker/test_kills_of_waits.py",
    "tests/tasks/worker/test_kills_of_reminders.py",
    "tests/tasks/services/test_waits.py",
    "tests/tasks/services/test_assignees.py",
    "tests/tasks/services/test_forms.py",
    "tests/tasks/services/test_reminders.py",
    "tests/tasks/worker/test_branches.py",
    "tests/tasks/worker/test_maps.py",
    "tests/tasks/worker/test_spawns.py",
    "tests/tasks/worker/test_rounds.py",
    "tests/tasks/worker/test_growth_rules.py",
    "tests/tasks/rules/test_rules.py",
    "tests/tasks/executors/test_secrets.py",
)
ENVIRONMENT: Final = {"RULES_SEED": "1", "RULES_EXAMPLES": "200", "RULES_PATIENCE": "8"}
LIMIT_SECONDS: Final = 300
MAY_SURVIVE: Final = 1 / 20


class Bug(NamedTuple):
    """A bug: in `file` the text `right`, which occurs once, becomes `wrong`."""

    file: str
    right: str
    wrong: str
    what: str


BUGS: Final = (
    Bug(
        "llmkeys/named_secrets.py",
        "return row.user_id == user_id or not row.users or user_id in row.users",
        "return True",
        "a secret that is shared with some users is a secret of all",
    ),
    Bug(
        "tasks/worker/task_runner.py",
        "        refuse_misuse(secrets, executor, inputs)\n",
        "",
        "a result leads a secret to another host than it is bound to",
    ),
    Bug(
        "tasks/worker/secrets_of_run.py",
        "stored = None if outcome.stored is None else await self._masked_json(task, outcome.stored)",
        "stored = outcome.stored",
        "a result shows the secret that a service repeats",
    ),
    Bug(
        "tasks/worker/secrets_of_run.py",
        "parked.memo = self.masker.stored(parked.memo.encode()).decode()",
        "pass",
        "the memo of a question keeps a secret",
    ),
    Bug(
        "tasks/worker/secrets_of_run.py",
        "[task for task in begun if task.has_places] or None",
        "None",
        "a second worker does not mask what the first one used",
    ),
    Bug(
        "tasks/rules/places.py",
        "return name if source == SECRET and dot else None",
        "return name if source == SECRET else None",
        "a text in double braces that is just the word is taken for a secret",
    ),
    Bug(
        "tasks/worker/task_runner.py",
        "        if self._spawner.has_spawned(task):\n            return await self._spawner.joined(task)\n",
        "",
        "a task spawns again after a crash, or when what it spawned is over",
    ),
    Bug(
        "tasks/rules/windows.py",
        "while self._places > 0 and self._queue:",
        "while self._queue:",
        "all items of a map start at once",
    ),
    Bug(
        "tasks/worker/engine.py",
        "        self._cancellations.grow(children_of(nodes))\n",
        "",
        "a cancellation does not reach what was spawned",
    ),
    Bug(
        "tasks/worker/spawning/lists.py",
        "if allowed is None or name not in allowed.secrets:",
        "if allowed is not None and name not in allowed.secrets:",
        "what an executor spawns may use any secret",
    ),
    Bug(
        "tasks/worker/spawning/spawner.py",
        "number=count + 1",
        "number=count + 2",
        "the first round of a loop is the second",
    ),
    Bug(
        "tasks/worker/engine.py",
        "nodes_of(new for new in growth.tasks if new.id not in self._family.template_ids)",
        "nodes_of(growth.tasks)",
        "the template of a map inside another one runs itself",
    ),
    Bug(
        "tasks/rules/plan.py",
        "elif required and node.status not in (Status.COMPLETED, Status.SKIPPED):",
        "elif node.status not in (Status.COMPLETED, Status.SKIPPED):",
        "an optional dependency that fails blocks its dependents",
    ),
    Bug(
        "tasks/rules/plan.py",
        "if required and node.status is Status.SKIPPED and node.id not in dependant.needless:",
        "if required and node.status is Status.SKIPPED:",
        "a dependency that may be skipped skips its dependents",
    ),
    Bug(
        "tasks/rules/plan.py",
        "if (cause := self._unwanted.get(node.id)) is None:",
        "if (cause := self._unwanted.get(node.id, '')) is not None:",
        "a task that requires a skipped one runs",
    ),
    Bug(
        "tasks/worker/task_runner.py",
        "return None if is_wanted else skipped(",
        "return None if not is_wanted else skipped(",
        "a condition decides the other way round",
    ),
    Bug(
        "tasks/services/copies.py",
        'gone = {label_of(item) for item in task.dependencies if item["id"] not in ids}',
        "gone = {label_of(item) for item in task.dependencies}",
        "a copy keeps the decisions about what it takes along",
    ),
    Bug(
        "tasks/services/trees.py",
        "undone = (Status.FAILED, Status.CANCELLED, Status.SKIPPED)",
        "undone = (Status.FAILED, Status.CANCELLED)",
        "a skipped task stays skipped when it is executed again",
    ),
    Bug(
        "tasks/rules/plan.py",
        "for node in self._nodes.values() if node.id not in spared",
        "for node in self._nodes.values() if node.status is not Status.FAILED",
        "a task that failed never fails the run",
    ),
    Bug(
        "tasks/worker/engine.py",
        "if self._status_of(task.id) is Status.FAILED)",
        "if self._status_of(task.id).is_terminal)",
        "a cancelled task that may fail does not cancel the run",
    ),
    Bug(
        "tasks/rules/plan.py",
        "            step.blocked.append((dependant, node.id))\n            settled.append(dependant)\n",
        "            step.blocked.append((dependant, node.id))\n",
        "a blocked task does not block its dependents",
    ),
    Bug(
        "tasks/rules/plan.py",
        "if parent is not None and parent.is_group and parent is not spawner",
        "if parent is not None and not parent.is_group and parent is not spawner",
        "a group does not wait for its children",
    ),
    Bug(
        "tasks/rules/plan.py",
        "not self._waiting[node.id] and not node.status.is_terminal]",
        "not self._waiting[node.id] and node.status is Status.PENDING]",
        "a task that a crash left in progress is never resumed",
    ),
    Bug(
        "tasks/rules/plan.py",
        "for status in (Status.FAILED, Status.CANCELLED) if status in statuses",
        "for status in (Status.CANCELLED, Status.FAILED) if status in statuses",
        "a tree with a failure counts as cancelled",
    ),
    Bug(
        "tasks/rules/tree.py",
        "queue = [target_id, *(task_id for task_id in below if by_id[task_id].status is not Status.COMPLETED)]",
        "queue = [target_id]",
        "the run of a part omits the dependencies of its descendants",
    ),
    Bug(
        "tasks/rules/tree.py",
        "return subtree | dependants_of(subtree, nodes)",
        "return subtree",
        "a minimal copy omits the dependents of the subtree",
    ),
    Bug(
        "tasks/worker/cancellations.py",
        "reversed([cancel.task_id, *descendants(cancel.task_id, self._children)])",
        "[cancel.task_id]",
        "a cancellation skips the descendants",
    ),
    Bug(
        "tasks/worker/results.py",
        "            self._results[task.id] = outcome.result\n",
        "            pass\n",
        "a dependent does not get the result it waited for",
    ),
    Bug(
        "tasks/worker/task_runner.py",
        "if is_interrupted and not executor.idempotent:",
        "if is_interrupted and False:",
        "a task that must not be repeated is repeated after a crash",
    ),
    Bug(
        "tasks/worker/task_runner.py",
        "if not outcome.may_retry or task.attempt >= retry.max_attempts:",
        "if not outcome.may_retry or task.attempt > retry.max_attempts:",
        "one attempt too many",
    ),
    Bug(
        "tasks/worker/engine.py",
        "            asyncio.get_running_loop().call_later(STOP_SECONDS, self._leave_behind, task_id, job)\n",
        "",
        "a cancellation waits forever for an executor that does not stop",
    ),
    Bug(
        "tasks/worker/engine.py",
        "        if self._jobs.get(task.id) is not job:\n            return",
        "        if False:\n            return",
        "a cancelled task that finishes late finishes twice",
    ),
    Bug(
        "tasks/worker/engine.py",
        "        if self._jobs.get(task_id) is job and task_id in self._cancellations and not self._is_given_up:",
        "        if False:",
        "a cancellation before a task's first step is lost",
    ),
    Bug(
        "tasks/worker/task_runner.py",
        "return self._claim.is_poison and task.id in self._suspects",
        "return self._claim.is_poison",
        "of a poisonous run every task fails",
    ),
    Bug(
        "tasks/worker/engine.py",
        "self._advance(self._plan.start(cancelled=without_question))",
        "self._advance(self._plan.start())",
        "a task that was cancelled before the run started starts anyway",
    ),
    Bug(
        "tasks/worker/attempt.py",
        "may_retry=not error.permanent,",
        "may_retry=True,",
        "a permanent failure is retried",
    ),
    Bug(
        "tasks/worker/attempt.py",
        "deadline = asyncio.timeout(timeout_seconds)",
        "deadline = asyncio.timeout(None)",
        "a timeout does not stop the work",
    ),
    Bug(
        "tasks/worker/attempt.py",
        "return cancelled(why_cancelled, stopped=error, max_bytes=_max_bytes())",
        "return cancelled(why_cancelled, max_bytes=_max_bytes())",
        "a cancellation discards the partial result",
    ),
    Bug(
        "tasks/worker/run_recorder.py",
        "if outcome.status in (Status.COMPLETED, Status.SKIPPED):",
        "if outcome.status is Status.FAILED:",
        "a failed task has full progress, a completed one none",
    ),
    Bug(
        "tasks/worker/run_recorder.py",
        'event = self._event(f"task_{outcome.status}", task, outcome.status, result=result, error=outcome.error)',
        'event = self._event(f"task_{outcome.status}", task, outcome.status, result=result)',
        "the event of a failure does not contain the reason",
    ),
    Bug(
        "tasks/worker/commit.py",
        "[:2] == (change.epoch, change.token)",
        "[:1] == (change.epoch,)",
        "a claim that a crash has lost still writes",
    ),
    Bug(
        "tasks/worker/commit.py",
        "return not change.IS_FENCED or fence.get(change.run_id, NOT_HELD)[:2] == (change.epoch, change.token)",
        "return not change.IS_FENCED or change.run_id in fence",
        "a worker that lost its lease still writes",
    ),
    Bug(
        "tasks/worker/commit.py",
        "newest.get(change.run_id, last_seqs[change.run_id]) + 1",
        "newest.get(change.run_id, last_seqs[change.run_id]) + (1 if change.run_id in newest else 2)",
        "a commit leaves a gap in the sequence numbers",
    ),
    Bug(
        "tasks/worker/changes.py",
        "finished_at = %s, lease_owner = NULL, lease_expires_at = NULL ",
        "finished_at = %s ",
        "a finished run keeps its lease",
    ),
    Bug(
        "tasks/queue/leases.py",
        'IS_WAITING: Final = f"{UNCLAIMED} AND NOT {maintenance.IS_ON}"',
        'IS_WAITING: Final = "finished_at IS NULL"',
        "a claim takes runs that other workers hold",
    ),
    Bug(
        "tasks/queue/suspicion.py",
        'losses=F("losses") + 1, strikes',
        "strikes",
        "a sweep does not count the lost worker",
    ),
    Bug(
        "tasks/queue/leases.py",
        'WAITING: Final = f"{IS_WAITING} AND NOT {IS_SUSPECTED}"',
        "WAITING: Final = IS_WAITING",
        "a suspected run is claimed among others",
    ),
    Bug(
        "tasks/queue/suspicion.py",
        "is_culprit = SUSPECTED | Q(id__in=list(culprits))",
        "is_culprit = SUSPECTED",
        "the run that killed its worker is not blamed",
    ),
    Bug(
        "tasks/worker/task_runner.py",
        "task.attempt += not is_begun",
        "task.attempt += 1",
        "a crash uses up an attempt",
    ),
    Bug(
        "tasks/services/waits.py",
        "still_open = Question.objects.filter(id=question_id, closed_at=None, answered_at=None)",
        "still_open = Question.objects.filter(id=question_id, closed_at=None)",
        "a wait that took an event takes another one",
    ),
    Bug(
        "tasks/services/waits.py",
        'taken = Question.objects.filter(run_id=run.id, taken_id__isnull=False).values("taken_id")',
        'taken = Question.objects.filter(run_id="", taken_id__isnull=False).values("taken_id")',
        "two waits of a run take the same earlier event",
    ),
    Bug(
        "tasks/services/waits.py",
        "look = _look(wait, after=look.last_id)",
        "look = Look(None, look.last_id)",
        "an event that comes between the look back and the opening of the wait is lost",
    ),
    Bug(
        "tasks/worker/run_recorder.py",
        "assigned=self._assigned(question, but=before.assignees or ()),",
        "",
        "an escalation lists the question for none of the new assignees",
    ),
    Bug(
        "tasks/worker/changes.py",
        "WHERE id = %s AND alarms = %s AND answered_at IS NULL",
        "WHERE id = %s AND %s IS NOT NULL AND answered_at IS NULL",
        "a reminder of which only the confirmation was lost comes again",
    ),
    Bug(
        "tasks/queue/suspension.py",
        "until = min(filter(None, first.values()), default=NEVER)",
        'until = first["end"] or NEVER',
        "the lease of a suspended run does not expire with an alarm",
    ),
    Bug(
        "tasks/queue/suspension.py",
        "due = list(dict.fromkeys([*ended, *alarmed]))[:MOST_AT_ONCE]",
        "due = list(dict.fromkeys(ended))[:MOST_AT_ONCE]",
        "a suspended run sleeps through its reminders",
    ),
    Bug(
        "tasks/models/waits.py",
        "return not caller.names.isdisjoint(self.assignees)",
        "return True",
        "the owner answers a question to others",
    ),
    Bug(
        "tasks/services/questions.py",
        "Assignee.objects.filter(question_id=question.id).delete()",
        "pass",
        "a question stays listed for its assignees after the answer",
    ),
    Bug(
        "tasks/services/questions.py",
        "    if problems:\n        raise InvalidParams(problems)\n",
        "",
        "a form takes every object",
    ),
    Bug(
        "tasks/services/sent_events.py",
        "waits = Question.objects.unanswered().filter(kind=WaitKind.EVENT, user_id=sent.user_id, event=sent.event)",
        "waits = Question.objects.unanswered().filter(kind=WaitKind.EVENT, event=sent.event)",
        "an event wakes the waits of another user",
    ),
    Bug(
        "tasks/worker/run_recorder.py",
        "closing=self._question_closed(task),",
        "closing=None,",
        "a wait is not closed with its task",
    ),
    Bug(
        "tasks/queue/leases.py",
        "waiting = {*released, *forgotten}",
        "waiting = {*forgotten}",
        "a sweep notifies no worker of the runs it released",
    ),
    Bug(
        "tasks/queue/leases.py",
        "waiting = {*released, *forgotten}",
        "waiting = {*released}",
        "a lost notification is never replaced",
    ),
    Bug(
        "tasks/queue/leases.py",
        'update(lease_owner=None, lease_expires_at=None, claim_token=None, epoch=F("epoch") + 1)',
        'update(epoch=F("epoch") + 1)',
        "a worker that shuts down keeps its leases",
    ),
    Bug(
        "tasks/queue/leases.py",
        "ORDER BY turn, created_at LIMIT %s",
        "ORDER BY created_at LIMIT %s",
        "a user with many runs is served before all others",
    ),
    Bug(
        "tasks/queue/fairness.py",
        "SELECT MAX(turn) FROM tasks_run WHERE started_at IS NOT NULL",
        "SELECT MIN(turn) FROM tasks_run WHERE started_at IS NOT NULL",
        "a user who returns at once is served before users who wait",
    ),
    Bug(
        "tasks/worker/worker.py",
        "                self._trees[run_id].cancel(cancel)\n",
        "                    pass\n",
        "a running tree does not receive a cancellation",
    ),
    Bug(
        "tasks/worker/worker.py",
        "        if self._running.get(run.get_name()) is run:\n",
        "        if run.get_name() in self._running:\n",
        "a worker that reclaims its own lost run forgets it",
    ),
    Bug(
        "tasks/services/cancels.py",
        "failed = {node.id: cause for node, cause in blocked if node.id not in covered}",
        "failed: dict[str, str] = {}",
        "a cancellation between runs skips the dependents",
    ),
    Bug(
        "tasks/services/cancels.py",
        "return run if covered.intersection(doomed) else None",
        "return None",
        "a cancellation of an ancestor does not reach a running part",
    ),
    Bug(
        "tasks/services/trees.py",
        "undone = (Status.FAILED, Status.CANCELLED, Status.SKIPPED)",
        "undone = (Status.FAILED, Status.SKIPPED)",
        "a cancelled task stays cancelled when it is executed again",
    ),
    Bug(
        "tasks/services/trees.py",
        "if running:",
        "if running and running.target_id == task.id:",
        "two runs of one tree are queued at a time",
    ),
    Bug(
        "tasks/services/copies.py",
        "fresh=subtree | waiting_for(subtree, nodes)",
        "fresh=subtree",
        "a full copy keeps results that the change makes stale",
    ),
    Bug(
        "tasks/services/editing.py",
        "begun = [row.id for row in tree if row.id in doomed and row.status != Status.PENDING]",
        "begun = [row.id for row in tree if row.id == task.id and row.status != Status.PENDING]",
        "a delete without force takes finished descendants",
    ),
)


def main() -> int:
    arguments = _arguments()
    bugs = [bug for bug in BUGS if arguments.only in f"{bug.file}: {bug.what}"]
    with ThreadPoolExecutor(arguments.jobs) as pool, tempfile.TemporaryDirectory(prefix="seeded-bugs-") as folder:
        sound = Path(folder) / "sound"
        _copy(ROOT, sound)
        if _is_caught(sound):
            raise SystemExit("The tests fail without a seeded bug.")
        _print(["bug", "where", "", "seconds"], ["---", "---", "---", "---:"])
        survived = sum(not is_caught for is_caught in pool.map(partial(_try, sound), bugs))
    _print([f"\n{len(bugs) - survived} of {len(bugs)} caught"])
    return int(survived > len(bugs) * MAY_SURVIVE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="number of bugs to try at once")
    parser.add_argument("--only", default="", help="only bugs whose file or description contains this text")
    return parser.parse_args()


def _try(sound: Path, bug: Bug) -> bool:
    """Whether the tests find the bug."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="seeded-bug-") as folder:
        copy = Path(folder) / "copy"
        _copy(sound, copy)
        _seed(copy / bug.file, bug)
        is_caught = _is_caught(copy)
    verdict = "caught" if is_caught else "**survived**"
    _print([bug.what, f"`{bug.file}`", verdict, f"{time.monotonic() - started:.0f}"])
    return is_caught


def _copy(source: Path, target: Path) -> None:
    for part in PARTS:
        shutil.copytree(source / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(source / file, target / file)


def _seed(file: Path, bug: Bug) -> None:
    """Raise SystemExit unless the snippet occurs exactly once."""
    text = file.read_text()
    if text.count(bug.right) != 1:
        raise SystemExit(f"{bug.file} has {text.count(bug.right)} occurrences instead of one: {bug.right!r}")
    file.write_text(text.replace(bug.right, bug.wrong))


def _is_caught(folder: Path) -> bool:
    """Whether a test fails or hangs. Raises SystemExit if the tests cannot run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS]
    environment = os.environ | ENVIRONMENT | {"PYTHONDONTWRITEBYTECODE": "1"}
    try:
        tests = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    if tests.returncode not in (0, 1):
        raise SystemExit(f"The tests do not run:\n{tests.stdout}{tests.stderr}")
    return tests.returncode == 1


def _print(*rows: Iterable[str]) -> None:
    for row in rows:
        cells = list(row)
        sys.stdout.write((f"| {' | '.join(cells)} |" if len(cells) > 1 else cells[0]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
