"""Methods for running trees, on all machines."""

from a2a.core.mapping import native_answer, native_standing, native_task
from a2a.core.parsing import texts
from a2a.methods import params
from a2a.methods.results import AnswersResult, DataResult, TaskListResult, TaskResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.rules.exceptions import TaskNotFound
from tasks.services.runs.cancels import cancel_tasks
from tasks.services.trees import queries
from tasks.services.waits import questions


def list_running(caller: Caller, given: params.RunningList) -> TaskListResult:
    """Return the roots of trees that are running or waiting for a worker."""
    roots = queries.running_list(caller=caller, user_id=given.user_id, limit=given.limit)
    return TaskListResult(native=[native_task(task) for task in roots], tasks=roots)


def status(caller: Caller, given: params.RunningStatus) -> AnswersResult:
    """Return the status of each task, in request order. A root reports its latest run."""
    standings = queries.running_status(caller=caller, task_ids=_ids(caller, given))
    return AnswersResult(native=[native_standing(standing) for standing in standings])


def count(caller: Caller, given: params.RunningCount) -> DataResult:
    """Return the number of trees that are running or waiting for a worker."""
    return DataResult(native={"count": queries.running_count(caller=caller, user_id=given.user_id)})


async def cancel(caller: Caller, given: params.Cancel) -> AnswersResult:
    """Cancel tasks and their descendants."""
    task_ids = await pools.read(_ids, caller, given)
    answers = await cancel_tasks(caller, task_ids=task_ids, force=given.force, error_message=given.error_message)
    return AnswersResult(native=answers)


async def answer(caller: Caller, given: params.Answer) -> TaskResult | DataResult:
    """Answer the open question of a task. An assignee who does not own the task gets nothing else of it."""
    question = await pools.write(
        questions.answer, caller=caller, task_id=given.task_id, answer=given.answer, comment=given.comment
    )
    native = native_answer(question)
    try:
        task = await pools.read(queries.get_task, caller=caller, task_id=given.task_id)
    except TaskNotFound:
        return DataResult(native=native)
    return TaskResult(native=native, task=task, metadata={"answer": native})


def _ids(caller: Caller, given: params.Named) -> list[str]:
    """Return the distinct ids of the named tasks, and of the roots of the named contexts."""
    contexts = texts(given.context_ids)
    roots = queries.roots_of_contexts(caller=caller, context_ids=contexts) if contexts else []
    return list(dict.fromkeys([*given.ids, *roots]))
