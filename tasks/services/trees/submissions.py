"""Small new trees that are submitted at the same time: those of a user share a transaction, and statements for many rows.

A lone submission waits for no other. While a transaction is under way, those that arrive wait for it, and share the next.
"""

import logging
from collections.abc import Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Final

from django.db import InterfaceError, OperationalError, transaction

from accounts.callers import Caller
from apflow_site.db import pools
from apflow_site.db.pipelines import in_one_go
from tasks.models import Run
from tasks.queue import fairness, leases
from tasks.services.trees import (
    REFUSE,
    RENAME,
    Execution,
    NewTree,
    execute_tree,
    executed,
    log_queued,
    new_run,
    new_tree,
)
from tasks.services.trees.persist import store
from tasks.storage.bulk import insert_many

logger = logging.getLogger(__name__)
FEW_TASKS: Final = 20
"""A tree of more tasks is stored by itself: the others would wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Submission:
    """A new tree that is to run. Its span and its log line belong to the request of `context`."""

    caller: Caller
    tasks: object
    id_conflict: str
    context: Context = field(default_factory=copy_context)

    def execute(self) -> Execution:
        return self.context.run(execute_tree, caller=self.caller, tasks=self.tasks, id_conflict=self.id_conflict)


Outcomes = dict[Submission, Execution | Exception]


async def submit(*, caller: Caller, tasks: object, id_conflict: str = RENAME) -> Execution:
    """Do what `execute_tree` does, together with other submissions of the caller that wait."""
    if id_conflict == REFUSE or not isinstance(tasks, list) or len(tasks) > FEW_TASKS:
        return await pools.write(execute_tree, caller=caller, tasks=tasks, id_conflict=id_conflict)
    submission = Submission(caller=caller, tasks=tasks, id_conflict=id_conflict)
    outcome = await _SUBMISSIONS.result(caller.user_id, submission)
    if isinstance(outcome, Exception):
        raise outcome
    assert outcome is not None  # noqa: S101  (each has an outcome)
    return outcome


def execute_trees(_: str, submissions: Sequence[Submission]) -> Outcomes:
    """Store the trees and queue their runs. Returns for each what `execute_tree` returns or raises.

    If the transaction for all is refused, each has one of its own, so that a bad one fails alone.
    """
    if len(submissions) == 1:
        return {each: each.execute() for each in submissions}
    outcomes, new = Outcomes(), dict[Submission, NewTree]()
    for each in submissions:
        try:
            new[each] = each.context.run(new_tree, each.caller, each.tasks, each.id_conflict)
        except Exception as error:  # noqa: BLE001  (its caller gets it)
            outcomes[each] = error
    if all(map(fairness.is_far_from_full, {each.root.user_id for each in new.values()})):
        try:
            return outcomes | _store_together(new)
        except (OperationalError, InterfaceError):  # the database does not answer
            raise
        except Exception:  # noqa: BLE001  (the one that it is about raises it again)
            logger.info("A submission was refused; storing each alone", extra={"event": "submissions.split"})
    return outcomes | {each: _alone(each) for each in new}


def _store_together(new: Mapping[Submission, NewTree]) -> Outcomes:
    runs, turns = dict[Submission, Run](), dict[str, int]()
    with in_one_go():
        store([row for tree in new.values() for row in tree.rows])
        for each, tree in new.items():
            owner = tree.root.user_id
            turns[owner] = turns[owner] + 1 if owner in turns else fairness.next_turn(owner)
            runs[each] = each.context.run(new_run, tree.root, turn=turns[owner])
            log_queued(runs[each], each.context)
        insert_many(runs.values(), Run)
        leases.enqueue(*(run.id for run in runs.values()))
    return {each: executed(tree.created(runs[each])) for each, tree in new.items()}


def _alone(submission: Submission) -> Execution | Exception:
    try:
        with transaction.atomic():  # on SQLite, within that of other calls
            return submission.execute()
    except Exception as error:  # noqa: BLE001  (its caller gets it)
        return error


_SUBMISSIONS: Final = pools.SharedCalls(execute_trees, pool="write")
