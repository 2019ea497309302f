"""Outputs of crews that are JSON.

Imported only in worker processes, by `tasks.executors.llm.loading`.
"""

from typing import Any

import crewai
from crewai import Task
from crewai.utilities.converter import Converter
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from aipartnerupflow.executors import Json
from tasks.rules.schema import mismatch


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


def output_model(schema: Json) -> type[BaseModel]:
    """Return the class for an object that fits a JSON Schema: CrewAI takes nothing else."""

    class Output(BaseModel):
        model_config = ConfigDict(extra="allow")

        @model_validator(mode="before")
        @classmethod
        def fits(cls, value: Any) -> Any:
            if problem := mismatch(schema, value):
                raise ValueError(problem)
            return value

        @classmethod
        def model_json_schema(cls, *args: Any, **kwargs: Any) -> Json:
            return schema

    return Output


class OwnConverter(Converter):
    """Asks the crew's model for JSON. CrewAI's converter would make a client with a key from the environment."""

    def to_pydantic(self, current_attempt: int = 1) -> BaseModel:
        try:
            converted: BaseModel = self.model.model_validate_json(self.text)
        except ValidationError:
            return super().to_pydantic(current_attempt)
        return converted

    def to_json(self, current_attempt: int = 1) -> Any:
        return self.to_pydantic().model_dump_json()


def convert_by_crew(task: Task) -> None:
    """Let the crew's model convert the output of a task that wants JSON."""
    if task.output_json is not None and task.converter_cls is None:
        task.converter_cls = OwnConverter


def parsed(output: Any) -> Json:
    """Return `parsed`, the output of a crew whose last task has `output_json` or `output_pydantic`."""
    if output.json_dict is not None:
        return {"parsed": output.json_dict}
    return {} if output.pydantic is None else {"parsed": output.pydantic.model_dump(mode="json")}
