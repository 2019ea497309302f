"""A2A 0.3 in terms of 1.0, in both directions: the server translates requests in and answers out, the client the other way round. Pure.

0.3 has two encodings. JSON-RPC tells by `kind` what an object is. HTTP+JSON has the JSON of 0.3's Protocol Buffers: states and
roles have the names of 1.0, but for one, the parts of a message are its `content`, and data has a wrapper. A field that
cannot be translated stays as it is, and is refused where it is read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from tasks.rules.strict_json import Json

#: The states of 1.0.
STATE: Final = "TASK_STATE_"
COMPLETED: Final = "TASK_STATE_COMPLETED"
FAILED: Final = "TASK_STATE_FAILED"
CANCELED: Final = "TASK_STATE_CANCELED"
REJECTED: Final = "TASK_STATE_REJECTED"
INPUT_REQUIRED: Final = "TASK_STATE_INPUT_REQUIRED"
AUTH_REQUIRED: Final = "TASK_STATE_AUTH_REQUIRED"
TERMINAL: Final = frozenset({COMPLETED, FAILED, CANCELED, REJECTED})
INTERRUPTED: Final = frozenset({INPUT_REQUIRED, AUTH_REQUIRED})

#: The operations, and the names of their methods in the JSON-RPC of 0.3.
METHODS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "SendMessage": "message/send",
        "SendStreamingMessage": "message/stream",
        "GetTask": "tasks/get",
        "ListTasks": "tasks/list",
        "CancelTask": "tasks/cancel",
        "SubscribeToTask": "tasks/resubscribe",
        "CreateTaskPushNotificationConfig": "tasks/pushNotificationConfig/set",
        "GetTaskPushNotificationConfig": "tasks/pushNotificationConfig/get",
        "ListTaskPushNotificationConfigs": "tasks/pushNotificationConfig/list",
        "DeleteTaskPushNotificationConfig": "tasks/pushNotificationConfig/delete",
        "GetExtendedAgentCard": "agent/getAuthenticatedExtendedCard",
    }
)
KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {"task": "task", "message": "message", "statusUpdate": "status-update", "artifactUpdate": "artifact-update"}
)
"""The four objects that a response may hold, and their `kind`."""
DEFAULT_CONFIG: Final = "default"
"""The id of a push config to which the client gave none."""


def options_line(options: Sequence[str]) -> str:
    """Return the end of a question's text, for people whose client shows only text; `metadata.options` has the options for programs."""
    return f"\nOptions: {', '.join(options)}"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Encoding:
    """A way in which 0.3 writes objects. `file` has the names of a file's fields in 1.0, and here.

    `waits`: a message whose configuration does not say `blocking` is answered when its task is over.
    """

    has_kinds: bool
    parts: str
    push_config: str
    canceled: str
    waits: bool
    file: Mapping[str, str]


JSON_RPC: Final = Encoding(
    has_kinds=True,
    parts="parts",
    push_config="pushNotificationConfig",
    canceled="canceled",
    waits=True,  # it is up to the server; the official client expects so
    file=MappingProxyType({"raw": "bytes", "url": "uri", "filename": "name", "mediaType": "mimeType"}),
)
HTTP_JSON: Final = Encoding(
    has_kinds=False,
    parts="content",
    push_config="pushNotification",
    canceled="TASK_STATE_CANCELLED",
    waits=False,
    file=MappingProxyType({"raw": "fileWithBytes", "url": "fileWithUri", "filename": "name", "mediaType": "mimeType"}),
)
FILE_FIELDS: Final = {old: new for encoding in (JSON_RPC, HTTP_JSON) for new, old in encoding.file.items()}


# --- from 1.0 ---


def response_out(response: Json, encoding: Encoding) -> Json:
    """Return a StreamResponse, which is also what a message is answered with."""
    ((name, value),) = response.items()
    shown = OUT[name](value, encoding)
    return shown if encoding.has_kinds else {name: shown}


def task_out(task: Json, encoding: Encoding) -> Json:
    shown = _changed(
        task,
        status=partial(_status_out, encoding=encoding),
        artifacts=lambda artifacts: [_artifact_out(artifact, encoding) for artifact in artifacts],
        history=lambda history: [message_out(message, encoding) for message in history],
    )
    return shown | _kind("task", encoding)


def message_out(message: Json, encoding: Encoding) -> Json:
    parts = _parts_out(message["parts"], encoding)
    if not encoding.has_kinds:
        return _without(message, "parts", "referenceTaskIds") | {encoding.parts: parts}
    return message | {"role": message["role"].removeprefix("ROLE_").lower(), "parts": parts, "kind": "message"}


def is_final(state: str) -> bool:
    """Return whether a stream that a message began ends with this state."""
    return state in TERMINAL or state in INTERRUPTED


def _status_update_out(update: Json, encoding: Encoding) -> Json:
    shown = update | {"status": _status_out(update["status"], encoding)} | _kind("statusUpdate", encoding)
    return shown | {"final": is_final(update["status"]["state"])}


def _kind(name: str, encoding: Encoding) -> Json:
    return {"kind": KINDS[name]} if encoding.has_kinds else {}


def _status_out(status: Json, encoding: Encoding) -> Json:
    message = partial(message_out, encoding=encoding)
    return _changed(status, state=partial(_state_out, encoding=encoding), message=message)


def _state_out(state: str, encoding: Encoding) -> str:
    if state == CANCELED:
        return encoding.canceled
    return state.removeprefix(STATE).lower().replace("_", "-") if encoding.has_kinds else state


def _artifact_out(artifact: Json, encoding: Encoding) -> Json:
    return artifact | {"parts": _parts_out(artifact["parts"], encoding)}


def _parts_out(parts: list[Json], encoding: Encoding) -> list[Json]:
    shown = []
    for part in parts:
        rest: Json = {"metadata": part["metadata"]} if "metadata" in part else {}
        name, value = _content_out(part, encoding)
        shown.append(rest | ({"kind": name} if encoding.has_kinds else {}) | {name: value})
    return shown


def _content_out(part: Json, encoding: Encoding) -> tuple[str, Any]:
    if "text" in part:
        return "text", part["text"]
    if "data" in part:  # which in 0.3 is an object
        data = part["data"] if isinstance(part["data"], dict) else {"result": part["data"]}
        return "data", data if encoding.has_kinds else {"data": data}
    return "file", {encoding.file[name]: value for name, value in part.items() if name in encoding.file}


def send_out(params: Json, encoding: Encoding) -> Json:
    """Return the parameters of SendMessage."""
    configuration = configuration_out(params["configuration"], encoding)
    return {"message": message_out(params["message"], encoding), "configuration": configuration}


def configuration_out(given: Json, encoding: Encoding) -> Json:
    shown: Json = {"blocking": not given["returnImmediately"]}
    if "taskPushNotificationConfig" in given:
        shown[encoding.push_config] = push_config_out(given["taskPushNotificationConfig"])
    return shown | {name: given[name] for name in SAME_CONFIGURATION if name in given}


def push_config_out(config: Json) -> Json:
    """Return the config itself: its task is named beside it."""
    shown = _without(config, "taskId")
    if "authentication" in shown:
        authentication = dict(shown["authentication"])
        shown["authentication"] = {"schemes": [authentication.pop("scheme")], **authentication}
    return shown


# --- to 1.0 ---


def response_in(value: Json) -> Json:
    """Return the answer to a message, or the content of a stream: the object under its name. Its fields show its encoding."""
    if "kind" in value:
        name = next((name for name, kind in KINDS.items() if kind == value["kind"]), None)
        return {name: IN[name](value)} if name else {}
    named = {"message": value["msg"]} if "msg" in value else value
    return {name: IN[name](item) for name, item in named.items() if name in IN}


def task_in(task: Json) -> Json:
    shown = _without(task, "kind") | {"status": _status_in(task.get("status", {}))}
    return _changed(
        shown,
        artifacts=lambda artifacts: [_artifact_in(artifact) for artifact in artifacts],
        history=lambda history: [_answer_in(message) for message in history],
    )


def _status_in(status: Json) -> Json:
    name = str(status.get("state", "unknown")).upper().replace("-", "_").replace("CANCELLED", "CANCELED")
    shown = _without(status, "update") | {"state": name if name.startswith(STATE) else f"{STATE}{name}"}
    if message := status.get("message", status.get("update")):
        shown["message"] = _answer_in(message)
    return shown


def _artifact_in(artifact: Json) -> Json:
    return artifact | {"parts": _parts_in(artifact.get("parts") or [])}


def _answer_in(message: Json) -> Json:
    """Return a message of an agent, which may leave out what is empty."""
    parts = message.get("parts", message.get("content")) or []
    return message_in(_without(message, "content") | {"role": message.get("role", "agent"), "parts": parts})


def message_in(message: Json, encoding: Encoding | None = None) -> Json:
    """Without an encoding, each part shows which one it has."""
    name = encoding.parts if encoding else JSON_RPC.parts
    changes: dict[str, Callable[[Any], Any]] = {"role": _role_in, name: partial(_parts_in, encoding=encoding)}
    shown = _changed(_without(message, "kind"), **changes)
    return shown if name == "parts" or name not in shown else _without(shown, name) | {"parts": shown[name]}


def _role_in(role: Any) -> Any:
    return role if not isinstance(role, str) or role.startswith("ROLE_") else f"ROLE_{role.upper()}"


def _parts_in(parts: Any, encoding: Encoding | None = None) -> Any:
    return [_part_in(part, encoding) for part in parts] if isinstance(parts, list) else parts


def _part_in(part: Any, encoding: Encoding | None) -> Any:
    if not isinstance(part, dict):
        return part
    has_kind = "kind" in part
    if encoding is JSON_RPC and not has_kind:
        return part
    is_wrapped = encoding is HTTP_JSON or not has_kind
    if is_wrapped and isinstance(data := part.get("data"), dict):
        return _without(part, "kind", "file") | {"data": data.get("data", data)}
    file = part.get("file")
    fields = file if isinstance(file, dict) else {}
    named = {FILE_FIELDS[name]: value for name, value in fields.items() if name in FILE_FIELDS}
    return _without(part, "kind", "file") | named


def send_in(params: Json, encoding: Encoding) -> Json:
    """Return the parameters of SendMessage."""
    return _changed(
        params,
        message=partial(message_in, encoding=encoding),
        configuration=partial(configuration_in, encoding=encoding),
    )


def configuration_in(given: Json, encoding: Encoding) -> Json:
    blocking, config = given.get("blocking"), given.get(encoding.push_config)
    shown: Json = {"returnImmediately": not (encoding.waits if blocking is None else blocking)}
    if isinstance(config, dict):
        shown["taskPushNotificationConfig"] = push_config_in(config)
    return shown | {name: given[name] for name in SAME_CONFIGURATION if name in given}


def push_config_in(config: Json) -> Json:
    """One without an id is called `default`. 0.3 names several schemes for one set of credentials;
    the first is taken, and without any there is no authentication."""
    if config.get("id") in (None, ""):
        config = config | {"id": DEFAULT_CONFIG}
    authentication = config.get("authentication")
    if not isinstance(authentication, dict):
        return config
    schemes = authentication.get("schemes")
    if schemes in (None, []):
        return {name: value for name, value in config.items() if name != "authentication"}
    scheme = schemes[0] if isinstance(schemes, list) else None
    return config | {"authentication": {"scheme": scheme, "credentials": authentication.get("credentials")}}


SAME_CONFIGURATION: Final = ("acceptedOutputModes", "historyLength")
OUT: Final[Mapping[str, Callable[[Json, Encoding], Json]]] = MappingProxyType(
    {
        "task": task_out,
        "message": message_out,
        "statusUpdate": _status_update_out,
        "artifactUpdate": lambda update, encoding: (
            update | {"artifact": _artifact_out(update["artifact"], encoding)} | _kind("artifactUpdate", encoding)
        ),
    }
)
IN: Final[Mapping[str, Callable[[Json], Json]]] = MappingProxyType(
    {
        "task": task_in,
        "message": _answer_in,
        "statusUpdate": lambda update: (
            _without(update, "kind", "final") | {"status": _status_in(update.get("status", {}))}
        ),
        "artifactUpdate": lambda update: (
            _without(update, "kind") | {"artifact": _artifact_in(update.get("artifact", {}))}
        ),
    }
)


def _changed(value: Json, **changes: Callable[[Any], Any]) -> Json:
    """Return the object with these fields changed, where it has them. A field that should be an object and is none stays."""
    return value | {name: _if_fit(change, value[name]) for name, change in changes.items() if name in value}


def _if_fit(change: Callable[[Any], Any], value: Any) -> Any:
    try:
        return change(value)
    except (AttributeError, TypeError):  # not of the kind that this expects: refused where it is read
        return value


def _without(value: Json, *names: str) -> Json:
    return {name: item for name, item in value.items() if name not in names}
