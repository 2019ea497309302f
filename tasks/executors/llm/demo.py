"""The demo model, `demo/<any name>`: canned, repeatable answers without a key or a network.

With it the first crew runs on a laptop that has no key yet. Each answer states that it is not a
real model, unless JSON is asked for: then it is an example. Given tools, it calls the first of them
once, and then answers with its result.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import orjson
from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Json, Stopped
from tasks.executors.llm.prompt import TREE_WANTED, Completion, Prompt, wanted_in
from tasks.telemetry import metrics

PREFIX: Final = "demo/"
QUOTED_CHARACTERS: Final = 160
SECONDS_EACH_WORD: Final = 0.01
MOST_DEPTH: Final = 6
"""The depth from which lists of an example are empty: a type may contain itself."""
PRESENCE: Final = "This is the built-in demo model: it understands nothing and costs nothing."


def is_demo(model: str) -> bool:
    return model.startswith(PREFIX)


def check() -> None:
    """Raise ExecutorError if the operator has disabled the demo model."""
    if not settings.APFLOW_LLM.demo:
        raise ExecutorError(
            "The demo model is disabled (llm.demo). Name a model of a provider, such as openai/gpt-4o.", permanent=True
        )


async def answer(prompt: Prompt, *, spent: Callable[[Json], None], heard: Callable[[str], None]) -> Completion:
    """Answer word by word.

    If cancelled, raise Stopped with the words so far. Raises what `check` raises.
    """
    check()
    if call := _call(prompt):
        called = replace(_said(prompt, [], "tool_calls"), content=None, tool_calls=[call])
        spent(called.usage)
        return called
    shown = _shown(prompt.messages[-1])
    if TREE_WANTED in _content(prompt.messages[0]):  # a tree that runs, but only echoes the requirement
        echo = {"schemas": {"method": "echo_executor"}, "inputs": {"note": PRESENCE, "wanted": shown}}
        tree = [
            {"id": "demo", "name": "Demo: a tree of the demo model"},
            {"id": "demo-wanted", "name": "Say what was wanted", "parent_id": "demo", **echo},
        ]
        text = orjson.dumps({"tasks": tree}).decode()
    elif (schema := wanted_in(prompt.options)) is not None:
        schema = schema or {"type": "object", "required": ["answer"]}
        text = orjson.dumps(_example(schema, shown, schema.get("$defs") or {})).decode()
    elif prompt.messages[-1].get("role") == "tool":
        text = f"{PRESENCE} The tool returned: {shown}"
    else:
        text = f"{PRESENCE} You asked: {shown}"
    words: list[str] = []
    try:
        for word in text.split(" "):
            await asyncio.sleep(SECONDS_EACH_WORD)
            words.append(word)
            heard(f"{word} ")
    except asyncio.CancelledError:
        raise Stopped(result=_said(prompt, words).as_result()) from None
    finally:
        usage = _said(prompt, words).usage
        metrics.llm_used("demo", prompt.model, usage)
        spent(usage)
    return _said(prompt, words, "stop")


def _call(prompt: Prompt) -> Json | None:
    """Return the call of the first tool; None without tools, or after its result."""
    tools = [tool["function"] for tool in prompt.options.get("tools", ()) if isinstance(tool.get("function"), dict)]
    if not tools or prompt.options.get("tool_choice") == "none" or prompt.messages[-1].get("role") == "tool":
        return None
    schema = tools[0].get("parameters") or {}
    shown = _shown(prompt.messages[-1])
    required = schema.get("required", list(schema.get("properties") or {}))
    values = _example(schema | {"type": "object", "required": required}, shown, schema.get("$defs") or {})
    function = {"name": tools[0].get("name", ""), "arguments": orjson.dumps(values).decode()}
    return {"id": f"demo_{len(prompt.messages)}", "type": "function", "function": function}


def _example(schema: Any, text: str, defs: Json, depth: int = 0) -> Any:
    """Return a value that fits a schema as types have it, or nearly: the model understands nothing."""
    if not isinstance(schema, dict):
        return text
    if "$ref" in schema:
        return _example(defs.get(str(schema["$ref"]).rpartition("/")[2]), text, defs, depth + 1)
    for given in ("const", "default"):
        if given in schema:
            return schema[given]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return _example(options[0], text, defs, depth)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            rules = schema.get("properties") or {}
            names = schema.get("required", list(rules) if depth < MOST_DEPTH else [])
            return {name: _example(rules.get(name), text, defs, depth + 1) for name in names}
        case "array":
            least = schema.get("minItems", 0)
            number = max(least, 2) if depth < MOST_DEPTH and "items" in schema else least
            return [_example(schema.get("items"), text, defs, depth + 1) for _ in range(number)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
    return text[: schema.get("maxLength")]


def _said(prompt: Prompt, words: list[str], finish_reason: str | None = None) -> Completion:
    asked = sum(len(_content(message).split()) for message in prompt.messages)
    counts = {"prompt_tokens": asked, "completion_tokens": len(words), "total_tokens": asked + len(words)}
    usage = {**counts, "cached_tokens": 0, "reasoning_tokens": 0, "cost_usd": 0.0}
    return Completion(content=" ".join(words), model=prompt.model, usage=usage, finish_reason=finish_reason)


def _shown(message: Json) -> str:
    lines = _content(message).strip().splitlines() or [""]
    text = " ".join(lines[0].split())
    return text if len(text) <= QUOTED_CHARACTERS else f"{text[:QUOTED_CHARACTERS]}…"


def _content(message: Json) -> str:
    """Return the text of a message, whose content may also be a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content)
    return content or ""
