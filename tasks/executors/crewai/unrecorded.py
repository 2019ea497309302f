"""Keeps CrewAI from writing what crews did into files that all users share.

Imported only in worker processes, by `tasks.executors.llm.loading`.
"""

import crewai

from aipartnerupflow.executors import Json


class NoRecord:
    """Replaces CrewAI's record of outputs for `replay`.

    That record is a file in the home folder, which is unsuitable for tasks of many users.
    """

    def reset(self) -> None:
        return

    def load(self) -> list[Json]:
        return []

    def update(self, task_index: int, log: Json) -> None:
        return


def unrecord() -> None:
    """Let each crew of this process have no record, those that a flow creates too."""
    crewai.Crew.__private_attributes__["_task_output_handler"].default_factory = NoRecord
