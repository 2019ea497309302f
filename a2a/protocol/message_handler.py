"""The default message handler: an A2A message runs a tree, or the server asks, rejects or replies.

The setting `a2a.message_handler` replaces it.
"""

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from a2a.core.exceptions import ContentTypeNotSupported
from aipartnerupflow import taken_name
from aipartnerupflow.a2a import Ask, AskForKey, Decision, Default, Incoming, Json, Reject, Reply, RunStored, RunTree
from tasks.executors import describe, executor_ids
from tasks.rules.exceptions import ExecutorNotFound, InvalidParams
from tasks.rules.strict_json import decode

#: `decide`, and the names of `aipartnerupflow.a2a`, which older message handlers import from here.
__all__ = ["Ask", "AskForKey", "Decision", "Incoming", "Reject", "Reply", "RunStored", "RunTree", "decide"]

Meaning = RunTree | RunStored | Ask | AskForKey | Reject | Reply
"""A decision after `Default` has been resolved."""
JSON_TYPE: Final = "application/json"
TEXT_TYPE: Final = "text/plain"
INPUT_MODES: Final = (JSON_TYPE, TEXT_TYPE)
TREE_SKILL: Final = "execute-task-tree"
TREE_PREFIX: Final = "tree:"
"""Prefix of the skill ids of stored trees; the task id follows."""
TEXT_INPUTS: Final = ("prompt", "text", "message", "requirement", "query", "question")
"""Names of text inputs. The first one in the input schema of the executor receives the text."""
MAX_NAME_CHARACTERS: Final = 60
LARGEST_EXACT: Final = 2**53
"""The largest value up to which floats represent all whole numbers."""
HELP: Final = (
    'Send a data part that names what to run. A new tree: {"tasks": [{"name": "hello", "schemas": {"method": '
    '"echo_executor"}, "inputs": {"say": "hello"}}]}. A stored tree: {"task_id": "…"}. A single skill: {"skill": '
    '"echo_executor", "inputs": {…}}. The agent card lists the skills.'
)


def meaning_of(incoming: Incoming) -> Meaning:
    """Return the decision of the message handler.

    Raises the errors of the handler and of `message_handler`.
    """
    decision = message_handler()(incoming)
    return decide(decision.incoming or incoming) if isinstance(decision, Default) else decision


def message_handler() -> Callable[[Incoming], Decision]:
    """Return the function in `a2a.message_handler`.

    Raises ImproperlyConfigured if it cannot be imported.
    """
    path = settings.APFLOW.a2a.message_handler
    try:
        handler: Callable[[Incoming], Decision] = import_string(path)
    except Exception as error:  # the operator's code may raise anything while it is imported
        name = error.name if isinstance(error, ImportError) else None
        remedy = taken_name(name or path) or "Correct the path, or install the package that has it."
        raise ImproperlyConfigured(
            f"a2a.message_handler: '{path}' cannot be imported: {type(error).__name__}: {error}. {remedy}"
        ) from error
    return handler


def decide(incoming: Incoming) -> Meaning:
    """Decide what a message does.

    A data part names a tree or a skill; text goes to the named or the configured skill; otherwise
    the client is asked. Raises InvalidParams, ExecutorNotFound or ContentTypeNotSupported.
    """
    parts = [readable(part, index) for index, part in enumerate(incoming.message["parts"])]
    data = next((part["data"] for part in parts if isinstance(part.get("data"), dict)), None)
    text = "\n".join(part["text"] for part in parts if "text" in part).strip()
    skill = _skill(data, incoming)
    if skill is not None and skill.startswith(TREE_PREFIX):
        return RunStored(task_id=skill.removeprefix(TREE_PREFIX), copy_execution=True, copy_children=True)
    if skill is not None and skill != TREE_SKILL:
        return _run_skill(skill, _inputs(data), text, incoming.references)
    if data is not None:
        return _run_data(data, incoming.references)
    return _run_text(text, incoming.references)


def _skill(data: Json | None, incoming: Incoming) -> str | None:
    """The skill that the data, the message or the request names, in this order; else None."""
    named: Sequence[Json] = (data or {}, incoming.message.get("metadata", {}), incoming.metadata)
    found = [place[name] for place in named for name in ("skill", "skillId", "skill_id") if name in place]
    if found and not isinstance(found[0], str):
        raise InvalidParams([("skill", "must be the id of a skill in the agent card")])
    return found[0] if found else None


def _inputs(data: Json | None) -> Json:
    """The member `inputs`, or else all members except the skill."""
    if data is None:
        return {}
    if "inputs" not in data:
        return {name: value for name, value in data.items() if name not in ("skill", "skillId", "skill_id")}
    if not isinstance(data["inputs"], dict):
        raise InvalidParams([("inputs", "must be an object")])
    return dict(data["inputs"])


def _run_skill(skill: str, inputs: Json, text: str, references: Mapping[str, Any]) -> RunTree:
    """A tree of one task that runs the skill. Raises ExecutorNotFound."""
    if skill not in executor_ids():
        raise ExecutorNotFound(
            skill, close_matches=get_close_matches(skill[:100], [TREE_SKILL, *sorted(executor_ids())])
        )
    if text:
        inputs = {_text_input(skill): text} | inputs
    name = text.partition("\n")[0][:MAX_NAME_CHARACTERS].strip() or describe(skill)["name"]
    return RunTree(tasks=[{"name": name, "schemas": {"method": skill}, "inputs": inputs | dict(references)}])


def _text_input(skill: str) -> str:
    properties = describe(skill)["input_schema"].get("properties", {})
    return next((name for name in TEXT_INPUTS if name in properties), "text")


def _run_data(data: Json, references: Mapping[str, Any]) -> Meaning:
    if "tasks" in data:
        return RunTree(tasks=_with_references(data["tasks"], references))
    task_id = next((data[name] for name in ("task_id", "taskId", "treeId", "root_task_id") if name in data), None)
    if task_id is None:
        return Ask(text=f"The data part names nothing to run. {HELP}")
    if not isinstance(task_id, str) or not task_id:
        raise InvalidParams([("task_id", "must be the id of a stored task")])
    copies = {name: bool(_flag(data, name)) for name in ("copy_execution", "copy_children")}
    return RunStored(task_id=task_id, **copies)


def _flag(data: Json, name: str) -> Any:
    first, *rest = name.split("_")
    return data.get(name, data.get(first + "".join(map(str.capitalize, rest)), False))


def _run_text(text: str, references: Mapping[str, Any]) -> Meaning:
    skill = settings.APFLOW.a2a.text_executor
    return _run_skill(skill, {}, text, references) if skill and text else Ask(text=HELP)


def _with_references(tasks: Any, references: Mapping[str, Any]) -> Any:
    """Replace dependencies on referenced tasks by inputs, since their results are known."""
    if isinstance(tasks, dict):
        tasks = [tasks]
    if not references or not isinstance(tasks, list):
        return tasks
    return [_resolved(task, references) if isinstance(task, dict) else task for task in tasks]


def _resolved(task: Json, references: Mapping[str, Any]) -> Json:
    dependencies, inputs = task.get("dependencies"), task.get("inputs", {})
    if not isinstance(dependencies, list) or not isinstance(inputs, dict):
        return task
    known = {name: references[name] for name in map(_id_of, dependencies) if name in references}
    rest = [each for each in dependencies if _id_of(each) not in references]
    return task | {"dependencies": rest, "inputs": inputs | known}


def _id_of(dependency: Any) -> str:
    """The id in a dependency; empty if it is malformed, which the validation of the tree rejects."""
    named = dependency.get("id") if isinstance(dependency, dict) else dependency
    return named if isinstance(named, str) else ""


def readable(part: Json, index: int) -> Json:
    """Convert a part to text or data. Files must be included, as JSON or plain text.

    Raises ContentTypeNotSupported, or InvalidParams for malformed content.
    """
    media_type = part.get("mediaType", "").partition(";")[0].strip().lower()
    if media_type and media_type not in INPUT_MODES and not ("text" in part and media_type.startswith("text/")):
        raise ContentTypeNotSupported(
            f"message.parts[{index}]: the media type {media_type!r} is not supported. Send {' or '.join(INPUT_MODES)}."
        )
    if "data" in part:
        return part | {"data": _with_whole_numbers(part["data"])}
    if "url" in part:
        raise ContentTypeNotSupported(f"message.parts[{index}]: files by URL are not supported. Send the content.")
    return _content(part["raw"], media_type, index) if "raw" in part else part


def _with_whole_numbers(value: Any) -> Any:
    """The value with 2 for 2.0: Protocol Buffers, as in the official clients, have only floats."""
    if isinstance(value, dict):
        return {name: _with_whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_EXACT
    return int(value) if is_whole else value


def _content(raw: str, media_type: str, index: int) -> Json:
    try:
        content = b64decode(raw, validate=True)
        if media_type == JSON_TYPE:
            return {"data": decode(content, nesting=settings.APFLOW.limits.nesting)}
        return {"text": content.decode().replace("\0", "")}
    except (NotBase64, ValueError) as error:
        raise InvalidParams(
            [(f"message.parts[{index}].raw", f"is not {media_type or TEXT_TYPE} in base64: {error}")]
        ) from None
