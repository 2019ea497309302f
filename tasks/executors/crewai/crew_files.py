"""Files in the inputs of a crew. CrewAI puts inputs into texts, so a file that is a text stands for it, and others are refused by name."""

from typing import Any, Final

from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Files, Json
from aipartnerupflow.executors.files import is_file

MOST: Final = 16
READ_BEFORE: Final = "Let a task before it read the file, such as one of llm_executor with `files`, and use its answer"


async def with_texts(inputs: Json, files: Files) -> Json:
    """Return the inputs with the texts of their files. Raises ExecutorError, permanent, for what is no text, and for too many."""
    most_bytes: int = settings.APFLOW.limits.result_bytes
    count = 0

    async def read(value: Any, place: str) -> Any:
        nonlocal count
        if is_file(value):
            known = await files.info(value)
            kind = known["media_type"]
            if not (kind.startswith("text/") or kind == "application/json"):
                raise _refused(
                    f"{place}: '{known['name']}' is {kind}, and a crew reads only files that are texts. {READ_BEFORE}"
                )
            count += 1
            if count > MOST:
                raise _refused(f"{place}: a crew reads at most {MOST} files")
            return (await files.read(known, most_bytes=most_bytes)).decode("utf-8", "replace")
        if isinstance(value, dict):
            return {name: await read(each, f"{place}.{name[:100]}") for name, each in value.items()}
        if isinstance(value, list):
            return [await read(each, f"{place}[{number}]") for number, each in enumerate(value)]
        return value

    filled: Json = await read(inputs, "inputs")
    return filled


def _refused(why: str) -> ExecutorError:
    return ExecutorError(f"{why}.", permanent=True)
