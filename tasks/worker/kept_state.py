"""The state that one task keeps until it ends: bounded, without named secrets, and written by the owner of the run only."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from django.conf import settings

from aipartnerupflow.executors import ExecutorError
from apflow_site.db import pools
from tasks.services.trees import task_states
from tasks.worker.load_run import LoadedTask
from tasks.worker.run_recorder import RunRecorder
from tasks.worker.secrets_of_run import SecretsOfRun

KEY_CHARACTERS: Final = 64
TOO_LARGE: Final = (
    "The state of the task has {size:,} bytes, more than the {most:,} that executors.langgraph.state_bytes allows. Keep large values "
    "elsewhere, and their addresses in the state."
)
HAS_SECRET: Final = (
    "The state of the task has the value of a named secret, which must not be stored. Read it in the node that needs it, and return it "
    "from none."
)


class KeptState:
    """The state of one task. Use it on the loop of the worker."""

    def __init__(self, task: LoadedTask, *, run_id: str, recorder: RunRecorder, secrets: SecretsOfRun) -> None:
        self._task = task
        self._run_id = run_id
        self._recorder = recorder
        self._secrets = secrets
        self._sizes: dict[str, int] = {}

    async def load(self) -> dict[str, bytes]:
        found = await pools.read(task_states.load, self._run_id, self._task.id)
        self._sizes = {key: len(value) for key, value in found.items()}
        return found

    async def save(self, stored: Mapping[str, bytes], *, deleted: Sequence[str] = ()) -> None:
        """Raise ExecutorError, permanent, and LeaseLost."""
        sizes = {key: size for key, size in self._sizes.items() if key not in deleted}
        sizes |= {key: len(value) for key, value in stored.items()}
        size, most = sum(sizes.values()), settings.APFLOW_LANGGRAPH.state_bytes
        if size > most:
            raise ExecutorError(TOO_LARGE.format(size=size, most=most), permanent=True)
        if not all(0 < len(key) <= KEY_CHARACTERS for key in stored):
            raise ValueError(f"A key of a state has 1 to {KEY_CHARACTERS} characters.")
        if await self._has_secret(b"".join(stored.values())):
            raise ExecutorError(HAS_SECRET, permanent=True)
        await self._recorder.state_stored(self._task, stored, deleted=deleted)
        self._sizes = sizes

    async def _has_secret(self, value: bytes) -> bool:
        masker = self._secrets.masker
        if not masker.size:
            return False
        text = value.decode(errors="replace")
        look = partial(masker.text, text)
        return await self._secrets.in_turn(self._task, look, size=len(text)) != text
