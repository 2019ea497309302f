"""The states that tasks keep while they run (`TaskState`): read as a whole, and written in the commits of the worker."""

from typing import Final

from tasks.models import TaskState

KEEPERS: Final = frozenset({"crewai_executor", "langgraph_executor"})
"""The executors whose tasks keep a state."""
STORE: Final = (
    "INSERT INTO tasks_taskstate (run_id, task_id, key, value) VALUES (%s, %s, %s, %s) "
    "ON CONFLICT (run_id, task_id, key) DO UPDATE SET value = excluded.value"
)
DELETE: Final = "DELETE FROM tasks_taskstate WHERE run_id = %s AND task_id = %s AND key = %s"
DELETE_ALL: Final = "DELETE FROM tasks_taskstate WHERE run_id = %s AND task_id = %s"


def load(run_id: str, task_id: str) -> dict[str, bytes]:
    """Return what the task has stored in this run, by key."""
    found = TaskState.objects.filter(run_id=run_id, task_id=task_id).values_list("key", "value")
    return {key: bytes(value) for key, value in found}
