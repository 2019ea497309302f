"""Methods that read tasks."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Final

from a2a.core.mapping import (
    native_detail,
    native_listed,
    native_node,
    native_open_question,
    native_task,
    native_tree,
    run_facts,
)
from a2a.methods import params
from a2a.methods.chosen_fields import picked
from a2a.methods.list_params import ListTasks
from a2a.methods.results import DataResult, TaskListResult, TaskResult
from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.dashboard.answer_tokens import link_to
from tasks.models import Question, Task
from tasks.rules.exceptions import InvalidParams, TaskNotFound
from tasks.rules.strict_json import Json
from tasks.services import history
from tasks.services.history import task_detail
from tasks.services.schedules import task_schedules
from tasks.services.spending import budgets
from tasks.services.trees import listed, queries
from tasks.services.trees.listed import RootFacts
from tasks.services.waits import questions
from tasks.services.waits.hooks import hook_url
from tasks.storage import loads

UNFINISHED: Final = (
    "needed for this search, because one request reads only a part of the runs: send '' for the first page, and then "
    "next_cursor, also after a page with few tasks"
)
_TASKS: Final = pools.SharedCalls(queries.tasks_by_id)


async def get(caller: Caller, given: params.Get) -> TaskResult:
    """Return one task, without its children."""
    task = await _TASKS.result(caller, given.task_id)
    if task is None:
        raise TaskNotFound(given.task_id)
    loads.spend(vars(task)["size"])
    if task.schedule_id is not None:
        await pools.read(task_schedules.attach, [task])
    return TaskResult(native=native_task(task), task=task)


def detail(caller: Caller, given: params.Get, *, url: Callable[[], str] = str) -> TaskResult:
    """Return one task with its latest events, relatives, inputs, timings, and open question or wait."""
    found = task_detail.detail(caller=caller, task_id=given.task_id)
    task_schedules.attach([found.task])
    answer = _answer_url(found.question, caller, url) if found.question else None
    hook = hook_url(found.wait) if found.wait and caller.may(Role.OPERATOR) else None
    native = native_detail(found, answer_url=answer, hook_url=_absolute(hook, url))
    return TaskResult(native=native, task=found.task, run=found.run, metadata={"task": native})


def open_questions(caller: Caller, given: params.OpenQuestions, *, url: Callable[[], str] = str) -> DataResult:
    """List the open questions of the caller's trees, and those that the caller may answer as an assignee."""
    found = questions.inbox_of(caller, limit=given.limit)
    shown = [native_open_question(question, answer_url=_answer_url(question, caller, url)) for question in found]
    return DataResult(native={"questions": shown})


def _answer_url(question: Question, caller: Caller, url: Callable[[], str]) -> str | None:
    may_answer = caller.may(Role.OPERATOR) and question.may_be_answered_by(caller)
    return _absolute(link_to(question, user_id=caller.user_id), url) if may_answer else None


def _absolute(address: str | None, url: Callable[[], str]) -> str | None:
    """Return an address that is only a path below the server as this caller has reached it; it is stored nowhere."""
    is_path = address is not None and address.startswith("/")
    return f"{url().rstrip('/')}{address}" if is_path else address


def tree(caller: Caller, given: params.Tree) -> TaskResult:
    """Return the whole tree that contains a task."""
    tasks = queries.get_tree(caller=caller, task_id=given.task_id, with_texts=True, times=2)
    task_schedules.attach(tasks)
    root = next(task for task in tasks if task.is_root)
    facts = listed.facts_of_roots(caller=caller, tasks=[root], with_counts=False)
    native = native_tree(tasks, fields=native_node) | run_facts(facts.runs.get(root.id))
    if limits := budgets.limits_of_tree(root.id):
        native["budget"] = [asdict(limit) | {"text": limit.text} for limit in limits]
    return TaskResult(native=native, task=root, with_children=True)


def children(caller: Caller, given: params.Children) -> TaskListResult:
    """Return the children of a task."""
    tasks = queries.children(caller=caller, task_id=given.task_id)
    return TaskListResult(native=[native_task(task) for task in tasks], tasks=tasks)


def list_tasks(caller: Caller, given: ListTasks) -> TaskListResult:
    """Return a page of tasks; each root with its latest run."""
    tasks, next_cursor = (_page_by_run if given.is_by_run else _page)(caller, given)
    facts = listed.facts_of_roots(caller=caller, tasks=tasks, with_runs=given.has_runs, with_counts=given.has_counts)
    task_schedules.attach(tasks)
    if given.is_search and given.cursor is None and next_cursor is not None and len(tasks) < given.limit:
        raise InvalidParams([("cursor", UNFINISHED)])
    fields = given.chosen
    native = _listed(tasks, facts, given, fields)
    if given.cursor is None:
        return TaskListResult(native=native, tasks=tasks, fields=fields)
    page = {"tasks": native, "next_cursor": next_cursor}
    return TaskListResult(native=page, tasks=tasks, fields=fields, by_cursor=True, next_cursor=next_cursor)


def _listed(tasks: Sequence[Task], facts: RootFacts, given: ListTasks, fields: Sequence[str] | None) -> list[Json]:
    shown = partial(native_listed, is_light=given.is_light, has_counts=given.has_counts)
    return [
        picked(shown(task, run=facts.runs.get(task.id), counts=facts.counts.get(task.id)), fields) for task in tasks
    ]


def _page(caller: Caller, given: ListTasks) -> tuple[list[Task], str | None]:
    return queries.list_tasks(
        caller=caller,
        user_id=given.user_id,
        statuses=given.statuses,
        name=given.name,
        root_only=given.root_only,
        limit=given.limit,
        offset=given.offset,
        cursor=given.cursor,
        order=given.order,
        summary=given.is_light,
        created=given.period.conditions,
    )


def _page_by_run(caller: Caller, given: ListTasks) -> tuple[list[Task], str | None]:
    root_ids, next_cursor = history.roots_by_run(
        caller=caller,
        wanted=history.RootFilter(
            run_statuses=given.run_statuses,
            tag=given.tag,
            text=given.text,
            statuses=given.statuses,
            user_id=given.user_id,
            name=given.name,
            created=given.period,
            is_descending=given.order.startswith("-"),
        ),
        limit=given.limit,
        cursor=given.cursor or "",
    )
    return queries.listed_tasks(root_ids, summary=given.is_light), next_cursor


def count(caller: Caller, given: params.Count) -> DataResult:
    """Return the number of tasks in each status, or in some of them."""
    counted = queries.count(caller=caller, user_id=given.user_id, root_only=given.root_only, statuses=given.statuses)
    return DataResult(native=counted)
