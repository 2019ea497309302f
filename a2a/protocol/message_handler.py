"""The default message handler: an A2A message runs a tree, or the server asks, rejects or replies.

The setting `a2a.message_handler` replaces it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

import orjson
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from a2a.core.exceptions import ContentTypeNotSupported
from a2a.protocol.conversation import as_prompt
from a2a.protocol.parts import is_file_part, readable
from a2a.protocol.skills import (
    FILES,
    TEXT_INPUTS,
    TREE_PREFIX,
    TREE_SKILL,
    Named,
    Skill,
    inputs_of,
    named_in,
    object_in,
    skills,
    takes_files,
    text_input,
)
from aipartnerupflow import taken_name
from aipartnerupflow.a2a import (
    Ask,
    AskForKey,
    Decision,
    Default,
    Incoming,
    Json,
    Reject,
    Reply,
    RunFlow,
    RunStored,
    RunTree,
)
from tasks.executors import describe, executor_ids
from tasks.rules.exceptions import ExecutorNotFound, InvalidParams
from tasks.rules.schema import mismatch
from tasks.rules.specs import explicit_executor
from tasks.rules.strict_json import MalformedJson, decode
from tasks.rules.templates import DOUBLE

#: `decide`, and the names of `aipartnerupflow.a2a`, which older message handlers import from here.
__all__ = ["Ask", "AskForKey", "Decision", "Incoming", "Reject", "Reply", "RunFlow", "RunStored", "RunTree", "decide"]

Meaning = RunTree | RunFlow | RunStored | Ask | AskForKey | Reject | Reply
"""A decision after `Default` has been resolved."""
FETCHER: Final = "rest_executor"
"""The executor that fetches a file of another server."""
CHAT_EXECUTOR: Final = "llm_executor"
"""The executor that also gets the earlier messages of the context."""
SKILL_FIELDS: Final = ("skill", "skillId", "skill_id")
TASK_FIELDS: Final = ("task_id", "taskId", "treeId", "root_task_id")
MORE: Final = (
    'Programs can send data parts: a tree {"tasks": [...]}, a stored tree {"task_id": "..."}, or a skill {"skill": "...", '
    '"inputs": {...}}. The agent card has their schemas.'
)
MAX_NAME_CHARACTERS: Final = 60


def meaning_of(incoming: Incoming) -> Meaning:
    """Return the decision of the message handler.

    Raises the errors of the handler and of `message_handler`.
    """
    decision = message_handler()(incoming)
    if isinstance(decision, Default):
        return decide(decision.incoming or incoming)
    if not isinstance(decision, RunTree) or not decision.with_history or not incoming.history:
        return decision
    tasks = [decision.tasks] if isinstance(decision.tasks, dict) else decision.tasks
    if not isinstance(tasks, list):  # it is refused later
        return decision
    history = {"history": as_prompt(incoming.history)}
    return replace(
        decision,
        tasks=[
            task | {"inputs": history | task["inputs"]} if _reads_history(task, incoming.text) else task
            for task in tasks
        ],
    )


def _reads_history(task: Any, text: str) -> bool:
    """Return whether the task asks a language model this text, and has no conversation of its own."""
    if not isinstance(task, dict) or explicit_executor(task) != CHAT_EXECUTOR:
        return False
    inputs, params = task.get("inputs"), task.get("params")
    has_own = isinstance(params, dict) and params.get("conversation") is not None
    return (
        isinstance(inputs, dict)
        and is_prompt(inputs, text)
        and not has_own
        and inputs.keys().isdisjoint({"history", "messages"})
    )


def is_prompt(inputs: Json, text: str) -> bool:
    """Return whether the prompt of these inputs is the text."""
    return bool(text) and (
        inputs.get("prompt") == text or (inputs.get("prompt") == "{{text}}" and inputs.get("text") == text)
    )


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


class Request(NamedTuple):
    """The content of a message. `data_text` is the text that the data was read from, if it came as text.

    `files` are its file parts: files of the caller, and those that another server has.
    """

    data: Json | None
    text: str
    data_text: str | None = None
    files: Sequence[Json] = ()


def decide(incoming: Incoming) -> Meaning:
    """Decide what a message does.

    A data part, or a text that is a JSON object, names a tree or a skill; a text may begin with the
    name of a skill, or goes to the named or the configured skill; otherwise the client is asked.
    Raises InvalidParams, ExecutorNotFound or ContentTypeNotSupported.
    """
    request = _read(incoming)
    skill = _skill(request.data, incoming)
    if skill is not None and skill.startswith(TREE_PREFIX):
        meaning: Meaning = _copy_of(skill)
    elif skill is not None and skill != TREE_SKILL:
        meaning = _run_skill(skill, request, incoming)
    elif request.data is not None:
        meaning = _run_data(request.data, incoming.references)
    else:
        meaning = _run_text(request.text, incoming)
    return _with_files(meaning, request.files) if request.files else meaning


def _with_files(meaning: Meaning, parts: Sequence[Json]) -> Meaning:
    """Give the files of a message to what it runs: as `files` of its only task, if that has such an input and names none, else as
    `files` of the run.

    Raises ContentTypeNotSupported, and InvalidParams for two files with one name.
    """
    tasks = meaning.tasks if isinstance(meaning, RunTree) else None
    task = tasks[0] if isinstance(tasks, list) and len(tasks) == 1 else None
    skill = explicit_executor(task) if isinstance(task, dict) else None
    inputs = task.get("inputs", {}) if isinstance(task, dict) and skill in executor_ids() else None
    if isinstance(meaning, RunTree) and isinstance(task, dict) and isinstance(inputs, dict):
        schema = describe(str(skill))["input_schema"]
        if takes_files(schema) and FILES not in inputs and b"run.inputs.files" not in orjson.dumps(inputs):
            return replace(meaning, tasks=_task_with_files(task | {"inputs": inputs}, parts, schema))
    if any("url" in part for part in parts):
        raise ContentTypeNotSupported(
            "Files by URL are supported only for a skill with the input `files`. Send the content, or a tree in which a task "
            "fetches the file."
        )
    if not isinstance(meaning, RunTree | RunFlow | RunStored):
        raise ContentTypeNotSupported(
            "The message has files, and nothing in it says what to do with them. Name a skill that has the input `files`, or "
            "send a tree with {{run.inputs.files}}."
        )
    return replace(meaning, inputs={FILES: [part["data"] for part in parts]} | meaning.inputs)


def _task_with_files(task: Json, parts: Sequence[Json], schema: Json) -> list[Json]:
    """Return a task with these files, and before it a task for each file that another server has: it fetches the file within the
    rules for requests of tasks.
    """
    given, fetching = list[tuple[str, Any]](), list[Json]()
    for number, part in enumerate(parts, 1):
        name, file = part.get("filename") or f"file{number}", part.get("data")
        if "url" in part:
            fetch: Json = {"id": f"fetch{number}", "parent_id": "root", "name": f"Fetch {name}"}
            fetching.append(fetch | {"schemas": {"method": FETCHER}, "inputs": {"url": part["url"], "save": True}})
            file = f"{{{{fetch{number}.file}}}}"
        given.append((name, file))
    by_name = dict(given)
    if len(by_name) < len(given):
        raise InvalidParams([("message.parts", "two files have the same name")])
    is_list = schema["properties"][FILES].get("type") == "array"
    root = task | {"inputs": task["inputs"] | {FILES: list(by_name.values()) if is_list else by_name}}
    if fetching:
        root |= {"id": "root", "dependencies": [each["id"] for each in fetching]}
    return [root, *fetching]


def _read(incoming: Incoming) -> Request:
    given = incoming.message["parts"]
    files = [part for part in given if "url" in part or is_file_part(part)]
    read = _read_words([readable(part, index) for index, part in enumerate(given) if part not in files], incoming)
    return read._replace(files=files)


def _read_words(parts: Sequence[Json], incoming: Incoming) -> Request:
    data = next((part["data"] for part in parts if isinstance(part.get("data"), dict)), None)
    text = "\n".join(part["text"] for part in parts if "text" in part).strip()
    if data is not None:
        return Request(data, text)
    try:
        found = object_in(text, nesting=settings.APFLOW.limits.nesting)
    except MalformedJson:
        found = None
    if found is None:
        return Request(None, text)
    names_task = not {"tasks", *TASK_FIELDS}.isdisjoint(found)
    if _takes_texts() and not names_task and _skill(found, incoming) is None:
        return Request(None, text)  # data that does not name what to run is a text for the configured skill
    return Request(found, "", data_text=text)


def _takes_texts() -> bool:
    """Return whether the operator has chosen what any text runs."""
    return bool(settings.APFLOW.a2a.text_executor or settings.APFLOW.a2a.text_flow)


def _skill(data: Json | None, incoming: Incoming) -> str | None:
    """Return the skill that the data, the message or the request names, in this order; else None."""
    named: Sequence[Json] = (data or {}, incoming.message.get("metadata", {}), incoming.metadata)
    found = [place[name] for place in named for name in SKILL_FIELDS if name in place]
    if found and not isinstance(found[0], str):
        raise InvalidParams([("skill", "must be the id of a skill in the agent card")])
    return found[0] if found else None


def _copy_of(skill: str) -> RunStored:
    return RunStored(task_id=skill.removeprefix(TREE_PREFIX), copy_execution=True, copy_children=True)


def _run_skill(skill: str, request: Request, incoming: Incoming) -> RunTree:
    """Return a tree of one task that runs the skill. Raises ExecutorNotFound or InvalidParams."""
    if skill not in executor_ids():
        raise ExecutorNotFound(
            skill, close_matches=get_close_matches(skill[:100], [TREE_SKILL, *sorted(executor_ids())])
        )
    if request.data_text is not None and not any(name in (request.data or {}) for name in SKILL_FIELDS):
        inputs = _text_inputs(skill, request.data_text)
        return _tree(skill, inputs, _text_in(inputs, request.data_text), incoming)
    data = request.data or {}
    inputs = data.get("inputs", {name: value for name, value in data.items() if name not in SKILL_FIELDS})
    if not isinstance(inputs, dict):
        raise InvalidParams([("inputs", "must be an object")])
    of_text = _text_inputs(skill, request.text) if request.text else {}
    return _tree(skill, of_text | inputs, request.text, incoming)


def _text_inputs(skill: str, text: str) -> Json:
    """Return the inputs that a text gives to a skill that is named beside it: prose is no mistake there."""
    schema = describe(skill)["input_schema"]
    with suppress(MalformedJson):
        inputs = inputs_of(text, schema, nesting=settings.APFLOW.limits.nesting)
        if mismatch(schema, inputs) is None or text_input(schema) in TEXT_INPUTS:
            return inputs
    return {"text": text}


def _tree(skill: str, inputs: Json, text: str, incoming: Incoming) -> RunTree:
    """Return a tree of one task, named after the first line of the text or else after the skill."""
    name = text.partition("\n")[0][:MAX_NAME_CHARACTERS].strip() or describe(skill)["name"]
    if skill == CHAT_EXECUTOR and inputs.get("prompt") == text and not incoming.references:
        # Braces in the text are no placeholders: there is nothing to fill in.
        inputs = inputs | ({"prompt": "{{text}}", "text": text} if DOUBLE.search(text) else {"prompt": text})
    if skill == CHAT_EXECUTOR and text and incoming.history and "messages" not in inputs:
        inputs = {"history": as_prompt(incoming.history)} | inputs
    references = dict(incoming.references)
    if skill == CHAT_EXECUTOR:  # a model is given no other inputs than those that its texts name
        named = {place["path"].partition(".")[0] for place in DOUBLE.finditer(orjson.dumps(inputs).decode())}
        references = {name: value for name, value in references.items() if name in named}
    return RunTree(tasks=[{"name": name, "schemas": {"method": skill}, "inputs": inputs | references}])


def _run_data(data: Json, references: Mapping[str, Any]) -> Meaning:
    if "tasks" in data:
        tasks = [data["tasks"]] if isinstance(data["tasks"], dict) else data["tasks"]
        if references and isinstance(tasks, list):
            tasks = [_with_references(task, references) for task in tasks]
        return RunTree(tasks=tasks)
    task_id = next((data[name] for name in TASK_FIELDS if name in data), None)
    if task_id is None:
        return Ask(text=f"The data names nothing to run.\n{_welcome(skills())}")
    if not isinstance(task_id, str) or not task_id:
        raise InvalidParams([("task_id", "must be the id of a stored task")])
    return RunStored(
        task_id=task_id,
        copy_execution=bool(data.get("copy_execution", data.get("copyExecution"))),
        copy_children=bool(data.get("copy_children", data.get("copyChildren"))),
    )


def _run_text(text: str, incoming: Incoming) -> Meaning:
    """Run the skill that the text begins with, or else the configured one."""
    executor = settings.APFLOW.a2a.text_executor
    if text.startswith(TREE_PREFIX) and len(text.split()) == 1:
        return _copy_of(text)
    known = skills()
    named = named_in(text, [(skill.id, skill.name) for skill in known], needs_colon=_takes_texts())
    if named is not None:
        return _run_named(next(skill for skill in known if skill.id == named.skill_id), named, incoming)
    if text and (flow := settings.APFLOW.a2a.text_flow):
        history = as_prompt(incoming.history)
        offered = {"history": history, "context_id": incoming.context_id}
        return RunFlow(name=flow, inputs={"message": text}, offered=offered)
    if executor and text:
        return _run_skill(executor, Request(None, text), incoming)
    fault = ""
    if text.startswith("{"):
        try:
            decode(text.encode(), nesting=settings.APFLOW.limits.nesting)
        except MalformedJson as error:
            fault = f"Your text is no valid JSON: {error.message.rstrip('.')}.\n"
    return Ask(text=fault + _welcome(known))


def _run_named(skill: Skill, named: Named, incoming: Incoming) -> Meaning:
    """Run the skill with the rest of the text, or ask again if that is not its input."""
    try:
        inputs = inputs_of(named.rest, skill.input_schema, nesting=settings.APFLOW.limits.nesting)
        problem = mismatch(skill.input_schema, inputs)
    except MalformedJson as error:
        inputs, problem = {}, error.message
    if problem:
        example = f" For example:\n{skill.example}" if skill.example else ""
        return Ask(text=f"{skill.name} cannot use this input: {problem.rstrip('.')}.{example}")
    if skill.id == TREE_SKILL:
        return _run_data(inputs, incoming.references)
    return _tree(skill.id, inputs, _text_in(inputs, named.rest), incoming)


def _text_in(inputs: Json, text: str) -> str:
    """Return the text, if it is an input as it is; else it was JSON."""
    return text if text in inputs.values() else ""


def _welcome(known: Sequence[Skill]) -> str:
    """Return an answer for people: the skills, with an example of each."""
    lines = ["I run tasks. Send me one of these examples, or the same with your own input:"]
    for skill in known:
        first_sentence = re.split(r"(?<=\.) ", skill.description)[0]
        example = f"Example: {skill.example}" if skill.example else f"Send {skill.name}: and its inputs as JSON."
        lines.append(f"- {skill.name}: {first_sentence}\n  {example}")
    return "\n".join([*lines, MORE])


def _with_references(task: Any, references: Mapping[str, Any]) -> Any:
    """Replace dependencies of a task on referenced ones by inputs, since their results are known."""
    if not isinstance(task, dict):
        return task
    dependencies, inputs = task.get("dependencies"), task.get("inputs", {})
    if not isinstance(dependencies, list) or not isinstance(inputs, dict):
        return task
    known = {name: references[name] for name in map(_id_of, dependencies) if name in references}
    rest = [each for each in dependencies if _id_of(each) not in references]
    return task | {"dependencies": rest, "inputs": inputs | known}


def _id_of(dependency: Any) -> str:
    """Return the id in a dependency; empty if it is malformed, which the validation of the tree rejects."""
    named = dependency.get("id") if isinstance(dependency, dict) else dependency
    return named if isinstance(named, str) else ""
