"""A poll for work, on the writer's thread: claim runs, load their trees, and read what running ones have to know."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from django.db import connection

from tasks.queue.leases import ANY_REQUEST, ANY_WEBHOOK, Claim
from tasks.services.runs.cancels import Cancel, pending_cancels
from tasks.services.waits.questions import OpenQuestion, open_of
from tasks.worker.load_run import LoadedTask, load_trees, memory_of, tree_sizes
from tasks.worker.shares import TreeMemory

ClaimedTree = tuple[Claim, list[LoadedTask], list[OpenQuestion]]
PART_BYTES: Final = 2**20
"""The bytes of JSON of several trees that are loaded at once."""
LOOK: Final = f"SELECT {ANY_REQUEST}, {ANY_WEBHOOK}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The result of a poll: claimed runs and, by run, cancel requests and questions with replies."""

    claimed: list[ClaimedTree]
    cancels: defaultdict[str, list[Cancel]]
    replies: dict[str, list[OpenQuestion]]
    is_any_webhook: bool


def poll(
    claim: Callable[[], list[Claim]], release: Callable[..., None], *, memory: TreeMemory, waiting: Sequence[str]
) -> Found:
    """Claim runs for which there is memory. `waiting`: runs that have asked a question."""
    claims = claim()
    is_any_request, is_any_webhook = _seen_by(claims[0]) if claims else _look()
    trees = _loaded([claimed.root_id for claimed in claims], memory) if claims else {}
    if left := [claimed.run_id for claimed in claims if claimed.root_id not in trees]:
        release(run_ids=left)
        claims = [claimed for claimed in claims if claimed.root_id in trees]
    questions = open_of([*waiting, *(claimed.run_id for claimed in claims if not claimed.is_first)])
    return Found(
        claimed=[(claimed, trees[claimed.root_id], questions[claimed.run_id]) for claimed in claims],
        cancels=pending_cancels() if is_any_request else defaultdict(list),
        replies={run_id: [each for each in questions[run_id] if each.reply is not None] for run_id in waiting},
        is_any_webhook=is_any_webhook,
    )


def _seen_by(claim: Claim) -> tuple[bool, bool]:
    return claim.is_any_request, claim.is_any_webhook


def _look() -> tuple[bool, bool]:
    with connection.cursor() as cursor:
        cursor.execute(LOOK)
        is_any_request, is_any_webhook = cursor.fetchone()
    return bool(is_any_request), bool(is_any_webhook)


def _loaded(root_ids: Sequence[str], memory: TreeMemory) -> dict[str, list[LoadedTask]]:
    """Load the trees for which there is memory, in order, the large ones one by one."""
    sizes = tree_sizes(root_ids) if len(root_ids) > 1 else {}
    trees: dict[str, list[LoadedTask]] = {}
    for part in _parts(root_ids, sizes):
        for root_id, tasks in load_trees(part).items():
            if not memory.has_room(tasks[0].user_id):
                continue
            trees[root_id] = tasks
            memory.take(tasks[0].user_id, memory_of(tasks))
        if memory.is_full:
            break
    return trees


def _parts(root_ids: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Divide the trees into parts of at most PART_BYTES, or of one tree."""
    part, size = list[str](), 0
    for root_id in root_ids:
        if part and size + sizes.get(root_id, 0) > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(root_id)
        size += sizes.get(root_id, 0)
    yield part
