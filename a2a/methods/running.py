"""Methods about what runs now, on any machine."""

from a2a.core.mapping import native_answer, native_standing, native_task
from a2a.core.parsing import texts
from a2a.methods import params
from a2a.methods.results import AnswersResult, DataResult, TaskListResult, TaskResult
from accounts.callers import Caller
from apflow_db import pools
from tasks.services import queries, questions
from tasks.services.cancels import cancel_tasks


async def list_running(caller: Caller, given: params.RunningList) -> TaskListResult:
    """The roots whose trees run now, or wait for a worker."""
    roots = await pools.read(queries.running_list, caller=caller, user_id=given.user_id, limit=given.limit)
    return TaskListResult(native=[native_task(task) for task in roots], tasks=roots)


async def status(caller: Caller, given: params.RunningStatus) -> AnswersResult:
    """Where each of these tasks stands. A root stands for its tree."""
    standings = await pools.read(queries.running_status, caller=caller, task_ids=await _ids(caller, given))
    return AnswersResult(native=[native_standing(standing) for standing in standings])


async def count(caller: Caller, given: params.RunningCount) -> DataResult:
    """How many trees run now, or wait for a worker."""
    return DataResult(native={"count": await pools.read(queries.running_count, caller=caller, user_id=given.user_id)})


async def cancel(caller: Caller, given: params.Cancel) -> AnswersResult:
    """Stop these tasks and all below them."""
    task_ids = await _ids(caller, given)
    answers = await cancel_tasks(caller, task_ids=task_ids, force=given.force, error_message=given.error_message)
    return AnswersResult(native=answers)


async def answer(caller: Caller, given: params.Answer) -> TaskResult:
    """Answer what a task asks."""
    question = await pools.write(
        questions.answer, caller=caller, task_id=given.task_id, answer=given.answer, comment=given.comment
    )
    task = await pools.read(queries.get_task, caller=caller, task_id=given.task_id)
    native = native_answer(question)
    return TaskResult(native=native, task=task, metadata={"answer": native})


async def _ids(caller: Caller, given: params.Named) -> list[str]:
    """The tasks that are named, and the roots of the contexts that are."""
    contexts = texts(given.context_ids)
    roots = await pools.read(queries.roots_of_contexts, caller=caller, context_ids=contexts) if contexts else []
    return list(dict.fromkeys([*given.ids, *roots]))
