"""The log of a run as events of AG-UI, a page at a time: `POST /ag-ui` and OpenAI's wires follow runs by it."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TypeVar

from a2a.agui import events as agui
from a2a.agui.events import Event
from a2a.agui.state import arguments_of, read_rows
from a2a.agui.translation import Translator
from a2a.protocol.updates import asks
from apflow_site.db import pools
from tasks import events
from tasks.rules.strict_json import Json

T = TypeVar("T")


async def follow(
    translator: Translator, *, after: int, render: Callable[[list[Event]], T]
) -> AsyncGenerator[tuple[T, Json]]:
    """Yield the rendered events of the run after number `after`, with the last of ours that they are made of.

    That is `final`, one by which a task asks a person, or the end of a page. It ends after `final`, or if this process stops.
    `render` may run on a thread.
    """
    tree = translator.tree

    def step(page: Sequence[Json]) -> tuple[T, int]:
        found, count = translate(page, translator)
        return render(found), count

    async with aclosing(events.pages(tree.run.id, after=after)) as log:
        async for page in log:
            left = page
            while left:
                first = left[0]
                is_known = first["type"] == "final" or first["task_id"] in tree.tasks
                is_small = len(left) == 1 and is_known and not translator.wants_arguments(first)
                rendered, count = step(left) if is_small else await pools.read(partial(step, left))
                last, left = left[count - 1], left[count:]
                yield rendered, last
                if last["type"] == "final":
                    return


def translate(page: Sequence[Json], translator: Translator) -> tuple[list[Event], int]:
    """Return the events of AG-UI for ours up to the first that asks a person, and the number of ours. Reads what they need."""
    found: list[Event] = []
    tree, count = translator.tree, 0
    for event in page:
        count += 1
        if event["type"] == "final":
            found += [*translator.close(interrupt_ids=[]), agui.StateDelta(delta=tree.operations(event))]
            break
        if event["task_id"] not in tree.tasks:
            found.append(agui.StateDelta(delta=tree.add(read_rows(tree.run, skip=len(tree.tasks)))))
        if translator.wants_arguments(event):  # the model took longer to ask for the call than this query takes
            translator.arguments = arguments_of(event["task_id"])
        found += translator.of(event)
        if asks(event):
            break
    return found, count
