"""The checkpointer of one run of a graph: in memory, and each change of it in the database before the graph continues."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.pregel import Pregel

from tasks.executors.langgraph.graphs import Graph
from tasks.executors.states import States

T = TypeVar("T")
Part = tuple[str, tuple[Any, ...]]
"""The kind of a stored value, `checkpoint`, `blob` or `write`, and its key in the dictionary of InMemorySaver."""


class StoredSaver(InMemorySaver):
    """Keeps only the newest checkpoint of each namespace, unless a channel of the graph needs those before it.

    Use its async methods on the loop that made it; the others are for nodes on threads. The serializer is LangGraph's, without pickle:
    a state with a value that it does not know fails the task.
    """

    def __init__(self, states: States, *, keeps_history: bool) -> None:
        super().__init__(serde=JsonPlusSerializer(pickle_fallback=False))
        self._states = states
        self._keeps_history = keeps_history
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._stored: dict[Part, Any] = {}

    async def load(self) -> None:
        """Read what an earlier attempt stored. Await it before anything else."""
        for value in (await self._states.load()).values():
            kind, place, part = ormsgpack.unpackb(value)
            match kind, place:
                case ("checkpoint", (thread, namespace, checkpoint)):
                    self.storage[thread][namespace][checkpoint] = (_typed(part[0]), _typed(part[1]), part[2])
                case ("blob", (thread, namespace, channel, version)):
                    self.blobs[thread, namespace, channel, version] = _typed(part)
                case ("write", (thread, namespace, checkpoint, task, index)):
                    self.writes[thread, namespace, checkpoint][task, index] = (
                        part[0],
                        part[1],
                        _typed(part[2]),
                        part[3],
                    )
        self._stored = dict(self._parts())

    @property
    def is_empty(self) -> bool:
        return not any(self.storage.values())

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint."""
        after: RunnableConfig = super().put(config, checkpoint, metadata, new_versions)
        self._forget_before(after["configurable"], checkpoint)
        await self._store()
        return after

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a node wrote."""
        super().put_writes(config, writes, task_id, task_path)
        await self._store()

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Do what `aput` does, from another thread."""
        return self._there(lambda: self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Do what `aput_writes` does, from another thread."""
        self._there(lambda: self.aput_writes(config, writes, task_id, task_path))

    def _there(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result()

    async def _store(self) -> None:
        """Store what has changed. One at a time, so that nothing comes back that a later change deletes."""
        async with self._lock:
            parts = dict(self._parts())
            changed = {
                _key(part): ormsgpack.packb((*part, value))
                for part, value in parts.items()
                if self._stored.get(part) != value
            }
            deleted = [_key(part) for part in self._stored.keys() - parts.keys()]
            self._stored = parts
            if changed or deleted:
                await self._states.save(changed, deleted=deleted)

    def _parts(self) -> Iterator[tuple[Part, Any]]:
        for thread, namespaces in self.storage.items():
            for namespace, checkpoints in namespaces.items():
                for checkpoint, saved in checkpoints.items():
                    yield ("checkpoint", (thread, namespace, checkpoint)), saved
        for place, blob in self.blobs.items():
            yield ("blob", place), blob
        for where, writes in self.writes.items():
            for index, write in writes.items():
                yield ("write", (*where, *index)), write

    def _forget_before(self, newest: Mapping[str, Any], checkpoint: Checkpoint) -> None:
        """Forget the older checkpoints of the namespace, and the subgraphs that ran in the steps before this one."""
        thread, namespace = newest["thread_id"], newest["checkpoint_ns"]
        below = f"{namespace}|" if namespace else ""
        over = {
            each
            for each in self.storage[thread]
            if each != namespace and each.startswith(below) and ":" in each[len(below) :].partition("|")[0]
        }
        for each in over:
            del self.storage[thread][each]
        self._drop(self.blobs, lambda place: place[1] in over)
        self._drop(self.writes, lambda place: place[1] in over)
        if self._keeps_history:
            return
        versions = checkpoint["channel_versions"].items()
        self.storage[thread][namespace] = {
            newest["checkpoint_id"]: self.storage[thread][namespace][newest["checkpoint_id"]]
        }
        self._drop(self.blobs, lambda place: place[1] == namespace and place[2:] not in versions)
        self._drop(self.writes, lambda place: place[1] == namespace and place[2] != newest["checkpoint_id"])

    def _drop(self, places: dict[Any, Any], is_over: Callable[[Any], bool]) -> None:
        for place in [place for place in places if is_over(place)]:
            del places[place]


def needs_history(graph: Graph) -> bool:
    """Return whether a channel of the graph, or of a graph within it, is the sum of what was written since an older checkpoint."""
    graphs = [graph, *(each for _, each in graph.get_subgraphs(recurse=True) if isinstance(each, Pregel))]
    return any(isinstance(channel, DeltaChannel) for each in graphs for channel in each.channels.values())


def _key(part: Part) -> str:
    return hashlib.sha256(ormsgpack.packb(part)).hexdigest()


def _typed(pair: Sequence[Any]) -> tuple[str, bytes]:
    """MessagePack has no tuples."""
    kind, value = pair
    return kind, value
