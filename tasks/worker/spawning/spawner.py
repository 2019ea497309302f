"""Makes the tasks that a task of a run adds to its tree, and what it returns when they are over."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Json, ParkedUntil, Reply
from tasks.queue.leases import Claim
from tasks.rules.conditions import TooMuchToCompare
from tasks.rules.files import with_values
from tasks.rules.maps import CannotMap, ForEach, for_each_of, items_of
from tasks.rules.rounds import Repeat, described, is_enough
from tasks.rules.stored_results import is_longer
from tasks.services.trees import ids_in_use
from tasks.status import Status
from tasks.worker.group_commit import GroupCommit
from tasks.worker.load_run import LoadedTask
from tasks.worker.outcomes import Outcome, completed_in_turn, failed
from tasks.worker.secrets_of_run import values_of
from tasks.worker.spawning.family import Family
from tasks.worker.spawning.growth import CannotGrow, Draft, Growth, Room, free_ids
from tasks.worker.spawning.lists import list_draft, prefix_of
from tasks.worker.spawning.parts import items_draft, round_draft


class Spawner:
    """Works for the tasks of one run. `results` grows as tasks complete."""

    def __init__(
        self,
        claim: Claim,
        family: Family,
        writer: GroupCommit,
        results: Mapping[str, Any],
        *,
        most_bytes_of: Callable[[LoadedTask], int],
    ) -> None:
        """`most_bytes_of` returns the size that the result of a task may have."""
        self._most_bytes_of = most_bytes_of
        self._claim = claim
        self._family = family
        self._writer = writer
        self._results = results
        self._values = values_of(claim)

    def reply_of_step(self, task: LoadedTask, read: Mapping[str, Any]) -> Reply | None:
        """Return what the executor gets when it is called again after a step; None without a step. `read` are large results."""
        if task.step is None or not task.step.again:
            return None
        children = self._family.children_of(task.id)
        answer = {self._name_of(task, child): self._end_of(child) for child in children}
        return Reply(answer=with_values(answer, read) if read else answer, by="", memo=task.step.memo)

    def _end_of(self, task: LoadedTask) -> Json:
        status = self._family.status_of(task)
        end = {"result": self._results[task.id]} if status is Status.COMPLETED else {"error": task.error}
        return {"status": str(status), **end}

    def _name_of(self, task: LoadedTask, child: LoadedTask) -> str:
        """Return the id of the child as the executor gave it."""
        return child.label or child.id.removeprefix(prefix_of(task.id, task.step))

    async def mapped(
        self, task: LoadedTask, for_each: ForEach, results: Json, read: Mapping[str, Any]
    ) -> Growth | Outcome:
        """Return a copy of the template for each item of the map. `results` are those of its dependencies, `read` large inputs of the run.

        The inputs of the run are as they are stored: encrypted texts stay encrypted in the copies.
        """
        values = with_values(self._values, read) if read else self._values
        try:
            items = items_of(for_each, values | results)
            if not items:
                return await self.joined(task)
            template = self._family.template_of(task.id)
            room = self._room_for(task, len(items) * len(template))
            draft = items_draft(task, for_each, template, items, room=room, now=self._claim.now())
            return await self._grown(task, draft)
        except CannotMap as error:
            return await self.joined(task) if self._claim.is_demo else failed(str(error))  # an example may have no list
        except CannotGrow as error:
            return failed(str(error))

    async def repeated(
        self, task: LoadedTask, repeat: Repeat, read: Mapping[str, Any], *, waited_after: int | None
    ) -> Growth | Outcome:
        """Return the next round, or the outcome after the last one. `read` are large results of that one.

        Raises Parked to wait before the next round, unless it has waited after as many rounds as there are.
        """
        count = self._family.count_rounds(task.id)
        children = [each for each in self._family.latest_round(task.id) if each.parent_id == task.id]
        if any(True for _ in self._family.failures_among(children)):
            return await self.joined(task)
        template = self._family.template_of(task.id)
        last = self._part(children, self._names_in(template, task)) if count else repeat.first
        try:
            value = with_values(last, read) if read else last
            if count and (is_enough(repeat, value) or (count >= repeat.most and repeat.completes_at_most)):
                return await self._completed(task, last)
            if count >= repeat.most:
                return failed(f"After {repeat.most:,} rounds this is still false: {described(repeat)} (params.repeat).")
            if count and repeat.delay_seconds and waited_after != count:
                raise ParkedUntil(seconds=repeat.delay_seconds, memo=count)
            room = self._room_for(task, max(1, len(template)))
            if read and not is_longer(value, than=settings.APFLOW.limits.result_bytes):
                last = value  # places may use it in the middle of a text
            draft = round_draft(task, template, read, number=count + 1, last=last, room=room, now=self._claim.now())
            return await self._grown(task, draft)
        except (TooMuchToCompare, CannotGrow) as error:
            return failed(str(error))

    async def spawned(self, task: LoadedTask, outcome: Outcome) -> Growth | Outcome:
        """Return the tasks that the outcome adds, or a failure if they are refused."""
        spawn = outcome.spawn
        assert spawn is not None  # noqa: S101  (checked by the caller)
        own = None if spawn.join else replace(outcome, spawn=None)
        if not spawn.tasks:
            return own or await self.joined(task)
        level, room, now = self._family.level_of(task), self._room_for(task, len(spawn.tasks)), self._claim.now()
        try:
            make = partial(list_draft, task, spawn, level=level, outcome=own, room=room, now=now)
            return await self._grown(task, await asyncio.to_thread(make))
        except CannotGrow as error:
            return failed(str(error))

    async def joined(self, task: LoadedTask) -> Outcome:
        """Return the outcome of a task when all that it has spawned is over."""
        if (failures := list(self._family.failures(task.id))) and not self._collects(task):
            first = failures[0]
            return failed(
                f"{len(failures):,} of {len(self._family.children_of(task.id)):,} tasks below this one did not complete, "
                f"the first being '{first.id}': {first.error}"
            )
        return await self._completed(task, self._result_of(task))

    async def _completed(self, task: LoadedTask, result: Any) -> Outcome:
        try:
            return await completed_in_turn(result, max_bytes=self._most_bytes_of(task), is_composed=True)
        except ExecutorError as error:
            return failed(str(error))

    def _collects(self, task: LoadedTask) -> bool:
        for_each = for_each_of(task.params)
        return for_each is not None and for_each.collects

    def _result_of(self, task: LoadedTask) -> Any:
        if for_each_of(task.params) is not None:
            return self._parts_of(task)
        children = self._family.children_of(task.id)
        return {self._name_of(task, child): self._result_or_error(child) for child in children}

    def _parts_of(self, task: LoadedTask) -> list[Any]:
        """Return the result of each copy of the template."""
        names = self._names_in(self._family.template_of(task.id), task)
        children = self._family.children_of(task.id)
        size = max(1, len(names))
        return [self._part(children[start : start + size], names) for start in range(0, len(children), size)]

    def _part(self, children: Sequence[LoadedTask], names: Sequence[str]) -> Any:
        """Return the result of one copy of a template: that of its only task, or those of all by the ids of the template."""
        found = [self._result_or_error(child) for child in children]
        return found[0] if len(names) <= 1 else dict(zip(names, found, strict=True))

    def _names_in(self, template: Sequence[LoadedTask], task: LoadedTask) -> list[str]:
        """Return the ids of the tasks of a template that are right below its map or loop, as they were sent."""
        return [each.label or each.id for each in template if each.parent_id == task.id]

    def _result_or_error(self, task: LoadedTask) -> Any:
        """Return the result or the error of a task; a skipped one has neither."""
        if self._family.status_of(task) is Status.COMPLETED:
            return self._results[task.id]
        return {"error": task.error} if self._family.status_of(task) in (Status.FAILED, Status.CANCELLED) else None

    def _room_for(self, task: LoadedTask, count: int) -> Room:
        limits = settings.APFLOW.limits
        return Room(tasks=self._family.promise(task.id, count, most=limits.spawned_tasks), bytes=limits.run_bytes)

    async def _grown(self, task: LoadedTask, draft: Draft) -> Growth:
        """Make the tasks on a thread: there may be thousands, and the loop is everybody's. Raises CannotGrow."""
        in_use = await self._writer.call(partial(ids_in_use, list(draft.wanted.values())), user_id=task.user_id)
        ids = free_ids(draft.wanted, in_use, root_id=task.root_id)
        return await asyncio.to_thread(draft.grow, ids)
