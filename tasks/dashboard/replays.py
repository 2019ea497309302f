"""The replay of a model call: the form of what may change, the task that makes the call again, and the flow with the changes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tasks.dashboard.conversation import files_in, text_of, who
from tasks.models import ModelCall, Task
from tasks.rules.exceptions import InvalidParams
from tasks.rules.places import OPENING, escaped
from tasks.rules.strict_json import Json
from tasks.rules.tags import REPLAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The parts of a call that a replay may change."""

    model: str
    temperature: str
    system: str
    prompt: str
    is_whole: bool
    """Whether the record of the call has all that was sent."""


def form_of(model: str, content: Json) -> Form:
    """Return the form with what the call had."""
    messages = content.get("messages", [])
    options = content.get("options") or {}
    system: Json = next((each for each in messages[:1] if _role_of(each) in ("system", "developer")), {})
    prompt: Json = next((each for each in reversed(messages) if _role_of(each) == "user"), {})
    return Form(
        model=model,
        temperature=str(options.get("temperature", "")),
        system=text_of(system.get("content")),
        prompt=text_of(prompt.get("content")),
        is_whole=not content.get("left_out_messages")
        and " characters left out) … " not in orjson.dumps(content).decode(),
    )


def _role_of(message: Any) -> str:
    return str(message.get("role", "")) if isinstance(message, dict) else ""


def tag_of(call_id: str) -> str:
    """Return the tag of the scratch runs that replay the call."""
    return f"{REPLAY}:{call_id}"


def replayed(task: Task, call: ModelCall, given: Mapping[str, str]) -> Json:
    """Return a task that makes the call again, with the changes of the form. Raises InvalidParams."""
    content = call.content or {}
    known = dict(files_in(task.inputs))
    messages = [_with_files(each, known) for each in content.get("messages", []) if isinstance(each, dict)]
    before = form_of(call.model, content)
    system, prompt = (_text_in(given, name) for name in ("system", "prompt"))
    if system != before.system:
        rest = messages[1:] if messages and _role_of(messages[0]) in ("system", "developer") else messages
        messages = [*([{"role": "system", "content": system}] if system else []), *rest]
    if prompt != before.prompt:
        places = [place for place, each in enumerate(messages) if _role_of(each) == "user"]
        if places:
            last = messages[places[-1]]
            parts = last["content"] if isinstance(last.get("content"), list) else []
            files = [part for part in parts if isinstance(part, dict) and part.get("type") != "text"]
            said = [{"type": "text", "text": prompt}] if prompt else []
            messages[places[-1]] = last | {"content": [*said, *files] if files else prompt}
        elif prompt:
            messages.append({"role": "user", "content": prompt})
    if not messages:
        raise InvalidParams([("prompt", "is empty, and there is no other message to send")])
    options: Json = {name: value for name, value in (content.get("options") or {}).items() if name != "temperature"}
    options |= _temperature_in(given)
    model = given.get("model", "").strip() or call.model
    base = (task.params or {}).get("api_base")
    return {
        "name": f"Replay of {who(call)} of {task.name}"[:255],
        "schemas": {"method": "llm_executor"},
        "inputs": {"history": messages, "model": escaped(model), **escaped(options)},
        **({"params": {"api_base": base}} if isinstance(base, str) else {}),
    }


def changed_definition(definition: Sequence[Json], task: Task, call: ModelCall, given: Mapping[str, str]) -> list[Json]:
    """Return the tasks of a flow, with the changes of the form in this task. Raises InvalidParams."""
    wanted, before = task.label or task.id, form_of(call.model, call.content or {})
    place = next((place for place, each in enumerate(definition) if each.get("id") == wanted), None)
    if place is None:
        raise InvalidParams([("flow", f"its newest version has no task '{wanted}'")])
    inputs: Json = dict(definition[place].get("inputs") or {})
    for name, old in (("system", before.system), ("prompt", before.prompt)):
        if (text := _text_in(given, name)) != old:
            inputs = _with_text(inputs, name, text)
    if (model := given.get("model", "").strip()) not in ("", before.model):
        inputs["model"] = escaped(model)
    if given.get("temperature", "").strip() != before.temperature:
        inputs.pop("temperature", None)
        inputs |= _temperature_in(given)
    changed = [*definition]
    changed[place] = definition[place] | {"inputs": inputs}
    return changed


def _with_text(inputs: Json, name: str, text: str) -> Json:
    """Return the inputs of a model task with another system prompt, or another message of the user (`prompt`).

    Raises InvalidParams.
    """
    messages = inputs.get("messages")
    said: list[Any] = messages if isinstance(messages, list) and name not in inputs else []
    roles = ("user",) if name == "prompt" else ("system", "developer")
    place = next((place for place in reversed(range(len(said))) if _role_of(said[place]) in roles), None)
    before = inputs.get(name, "") if place is None else said[place].get("content")
    if before == escaped(text):  # the flow has it already
        return inputs
    is_missing = name == "prompt" and place is None and name not in inputs
    if not isinstance(before, str) or OPENING in before or is_missing:
        raise InvalidParams([(name, "has places ({{…}}) or files in the flow, so that it can be changed only there")])
    if place is not None:
        changed = [*said]
        changed[place] = said[place] | {"content": escaped(text)}
        return inputs | {"messages": changed}
    rest = {field: value for field, value in inputs.items() if field != name}
    return rest | ({name: escaped(text)} if text else {})


def _text_in(given: Mapping[str, str], name: str) -> str:
    """Return a text of the form. Browsers end lines as Windows does."""
    return given.get(name, "").replace("\r\n", "\n").strip()


def _temperature_in(given: Mapping[str, str]) -> Json:
    """Return the temperature of the form as an option; nothing if it is empty. Raises InvalidParams."""
    text = given.get("temperature", "").strip()
    try:
        return {"temperature": float(text)} if text else {}
    except ValueError:
        raise InvalidParams([("temperature", "must be a number from 0 to 2, or empty")]) from None


def _with_files(message: Json, files: Mapping[str, str]) -> Json:
    """Return the message with the whole data of its files; a file of which only a part is known is replaced by a note."""
    if not isinstance(message.get("content"), list):
        return message
    parts = []
    for part in message["content"]:
        inner = part.get(str(part.get("type"))) if isinstance(part, dict) else None
        if isinstance(inner, dict):
            whole = {
                name: files.get(value, value) if isinstance(value, str) else value for name, value in inner.items()
            }
            is_cut = any(isinstance(value, str) and value.endswith(" more characters)") for value in whole.values())
            part = {"type": "text", "text": f"[{part['type']} left out]"} if is_cut else part | {part["type"]: whole}
        parts.append(part)
    return message | {"content": parts}
