"""A2A 0.3 in terms of 1.0, as a client needs it: messages on their way out, objects on their way in. Pure.

0.3 has two dialects: the JSON of JSON-RPC, which tells by `kind` what an object is, and over HTTP+JSON that of its Protocol Buffers, which
has the states' and roles' names that 1.0 has, `content` for the parts of a message, and data in a wrapping. What comes in says which one it is.
"""

from typing import Any, Final

from tasks.rules.strict_json import Json

#: The names of a file's fields in both dialects → the part's in 1.0.
FILE_FIELDS: Final = {
    "bytes": "raw",
    "fileWithBytes": "raw",
    "uri": "url",
    "fileWithUri": "url",
    "name": "filename",
    "mimeType": "mediaType",
}
KINDS: Final = {
    "task": "task",
    "message": "message",
    "status-update": "statusUpdate",
    "artifact-update": "artifactUpdate",
}


# --- out ---


def for_json_rpc(params: Json) -> Json:
    """The parameters of 1.0's SendMessage in those of message/send."""
    message = params["message"]
    sent = message | {"kind": "message", "role": "user", "parts": [_typed(part) for part in message["parts"]]}
    return {"message": sent, "configuration": _configuration(params)}


def for_http_json(params: Json) -> Json:
    """The parameters of 1.0's SendMessage in those of `POST /v1/message:send`."""
    message = {name: value for name, value in params["message"].items() if name != "parts"}
    parts = [part | {"data": {"data": _object(part["data"])}} if "data" in part else part for part in _parts(params)]
    return {"message": message | {"content": parts}, "configuration": _configuration(params)}


def _parts(params: Json) -> list[Json]:
    parts: list[Json] = params["message"]["parts"]
    return parts


def _configuration(params: Json) -> Json:
    return {"blocking": not params["configuration"]["returnImmediately"]}


def _typed(part: Json) -> Json:
    return {"kind": "data", "data": _object(part["data"])} if "data" in part else {"kind": "text", **part}


def _object(value: Any) -> Json:
    """0.3 knows only objects as data."""
    return value if isinstance(value, dict) else {"result": value}


# --- in ---


def response_of(value: Json) -> Json:
    """What a message is answered with, or what a stream sends: the object under the name of what it is."""
    if "kind" in value:
        name = KINDS.get(value["kind"], "")
        return {name: OBJECTS[name](value)} if name else {}
    named = {"message": value["msg"]} if "msg" in value else value
    return {name: OBJECTS[name](item) for name, item in named.items() if name in OBJECTS}


def task_of(task: Json) -> Json:
    shown = _without(task, "kind") | {"status": _status(task.get("status", {}))}
    shown["artifacts"] = [_artifact(artifact) for artifact in task.get("artifacts") or []]
    return _without(shown, "history")


def _message(message: Json) -> Json:
    parts = message.get("parts", message.get("content")) or []
    role = str(message.get("role", "agent"))
    shown = role if role.startswith("ROLE_") else f"ROLE_{role.upper()}"
    return _without(message, "kind", "content") | {"role": shown, "parts": [_part(part) for part in parts]}


def _status(status: Json) -> Json:
    state = str(status.get("state", "unknown")).upper().replace("-", "_").replace("CANCELLED", "CANCELED")
    shown = status | {"state": state if state.startswith("TASK_STATE_") else f"TASK_STATE_{state}"}
    if message := status.get("message", status.get("update")):
        shown["message"] = _message(message)
    return _without(shown, "update")


def _status_update(update: Json) -> Json:
    return _without(update, "kind", "final") | {"status": _status(update.get("status", {}))}


def _artifact_update(update: Json) -> Json:
    return _without(update, "kind") | {"artifact": _artifact(update.get("artifact", {}))}


def _artifact(artifact: Json) -> Json:
    return artifact | {"parts": [_part(part) for part in artifact.get("parts") or []]}


def _part(part: Json) -> Json:
    shown = _without(part, "kind", "file")
    if isinstance(file := part.get("file"), dict):
        return shown | {FILE_FIELDS[name]: value for name, value in file.items() if name in FILE_FIELDS}
    if "data" in part and "kind" not in part and isinstance(part["data"], dict):
        return shown | {"data": part["data"].get("data", part["data"])}
    return shown


def _without(value: Json, *names: str) -> Json:
    return {name: item for name, item in value.items() if name not in names}


OBJECTS: Final = {
    "task": task_of,
    "message": _message,
    "statusUpdate": _status_update,
    "artifactUpdate": _artifact_update,
}
