"""A2A 0.3 in terms of 1.0: parameters translated on their way in, objects on their way out. Pure.

What cannot be translated is passed on as it is: the rules of 1.0 then refuse it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from a2a.protocol.serialize import INTERRUPTED, TERMINAL
from tasks.rules.strict_json import Json

DEFAULT_CONFIG: Final = "default"
"""The id of a push config that the client gave none."""


# --- in ---


def params_of(operation: str, params: Any) -> Any:
    """The parameters of the operation in the shape of 1.0."""
    return PARAMS.get(operation, _same)(params) if isinstance(params, dict) else params


def _same(params: Json) -> Json:
    return params


def send_params(params: Json) -> Json:
    """Those of a message."""
    return _changed(params, message=message_in, configuration=_configuration)


def _configuration(given: Json) -> Json:
    """`blocking` is up to the server where it is not given, or null; ours waits, as the official client expects."""
    config, blocking = given.get("pushNotificationConfig"), given.get("blocking")
    renamed: Json = {"returnImmediately": blocking is not None and not blocking}
    if isinstance(config, dict):
        renamed["taskPushNotificationConfig"] = push_config_in(config)
    return renamed | {name: given[name] for name in ("acceptedOutputModes", "historyLength") if name in given}


def message_in(message: Json) -> Json:
    return _changed(
        {name: value for name, value in message.items() if name != "kind"},
        role=lambda role: f"ROLE_{role.upper()}" if isinstance(role, str) else role,
        parts=lambda parts: [_part_in(part) for part in parts] if isinstance(parts, list) else parts,
    )


def _part_in(part: Any) -> Any:
    if not isinstance(part, dict) or "kind" not in part:
        return part
    rest = {name: value for name, value in part.items() if name not in ("kind", "file")}
    file = part.get("file")
    if not isinstance(file, dict):
        return rest
    names = {"bytes": "raw", "uri": "url", "name": "filename", "mimeType": "mediaType"}
    return rest | {names[name]: value for name, value in file.items() if name in names}


def push_config_in(config: Json) -> Json:
    """One without an id is called `default`. 0.3 names several schemes for one set of credentials; the first is taken."""
    if config.get("id") in (None, ""):
        config = config | {"id": DEFAULT_CONFIG}
    authentication = config.get("authentication")
    if not isinstance(authentication, dict):
        return config
    schemes = authentication.get("schemes")
    scheme = schemes[0] if isinstance(schemes, list) and schemes else None
    return config | {"authentication": {"scheme": scheme, "credentials": authentication.get("credentials")}}


def _set_push_config(params: Json) -> Json:
    config = params.get("pushNotificationConfig")
    known = push_config_in(config) if isinstance(config, dict) else {}
    return known | {"taskId": params.get("taskId")}


def _of_push_config(params: Json) -> Json:
    return {"taskId": params.get("id"), "id": params.get("pushNotificationConfigId") or DEFAULT_CONFIG}


def _list_push_configs(params: Json) -> Json:
    return {"taskId": params.get("id")}


PARAMS: Mapping[str, Callable[[Json], Json]] = MappingProxyType(
    {
        "SendMessage": send_params,
        "SendStreamingMessage": send_params,
        "CreateTaskPushNotificationConfig": _set_push_config,
        "GetTaskPushNotificationConfig": _of_push_config,
        "ListTaskPushNotificationConfigs": _list_push_configs,
        "DeleteTaskPushNotificationConfig": _of_push_config,
    }
)


# --- out ---


def result_of(operation: str, result: Any) -> Any:
    """What an operation answers, or what its stream sends, in the shape of 0.3."""
    return RESULTS[operation](result)


def response_of(response: Json) -> Json:
    """A StreamResponse: 0.3 tells by `kind` which of the four it is."""
    (name,) = response
    return RESPONSES[name](response[name])


def task_of(task: Json) -> Json:
    shown = _changed(
        task,
        status=_status,
        artifacts=lambda artifacts: [_artifact(artifact) for artifact in artifacts],
        history=lambda history: [message_out(message) for message in history],
    )
    return shown | {"kind": "task"}


def message_out(message: Json) -> Json:
    changed = _changed(message, role=lambda role: role.removeprefix("ROLE_").lower(), parts=_parts_out)
    return changed | {"kind": "message"}


def is_final(state: str) -> bool:
    """Whether a stream that a message began ends with this state."""
    return state in TERMINAL or state in INTERRUPTED


def _status_update(update: Json) -> Json:
    final = is_final(update["status"]["state"])
    return _changed(update, status=_status) | {"kind": "status-update", "final": final}


def _artifact_update(update: Json) -> Json:
    return _changed(update, artifact=_artifact) | {"kind": "artifact-update"}


def _status(status: Json) -> Json:
    return _changed(
        status,
        state=lambda state: state.removeprefix("TASK_STATE_").lower().replace("_", "-"),
        message=message_out,
    )


def _artifact(artifact: Json) -> Json:
    return _changed(artifact, parts=_parts_out)


def _parts_out(parts: list[Json]) -> list[Json]:
    return [_part_out(part) for part in parts]


def _part_out(part: Json) -> Json:
    rest = {"metadata": part["metadata"]} if "metadata" in part else {}
    if "text" in part:
        return rest | {"kind": "text", "text": part["text"]}
    if "data" in part:  # which in 0.3 holds an object
        data = part["data"]
        return rest | {"kind": "data", "data": data if isinstance(data, dict) else {"result": data}}
    names = {"raw": "bytes", "url": "uri", "filename": "name", "mediaType": "mimeType"}
    return rest | {"kind": "file", "file": {names[name]: value for name, value in part.items() if name in names}}


def push_config_out(config: Json) -> Json:
    """A config under the name of its task."""
    shown = {name: value for name, value in config.items() if name != "taskId"}
    if "authentication" in shown:
        authentication = dict(shown["authentication"])
        shown["authentication"] = {"schemes": [authentication.pop("scheme")], **authentication}
    return {"taskId": config["taskId"], "pushNotificationConfig": shown}


def _nothing(result: Any) -> None:
    return None


RESPONSES: Mapping[str, Callable[[Json], Json]] = MappingProxyType(
    {
        "task": task_of,
        "message": message_out,
        "statusUpdate": _status_update,
        "artifactUpdate": _artifact_update,
    }
)
RESULTS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "SendMessage": response_of,
        "SendStreamingMessage": response_of,
        "SubscribeToTask": response_of,
        "GetTask": task_of,
        "CancelTask": task_of,
        "ListTasks": lambda page: page | {"tasks": [task_of(task) for task in page["tasks"]]},
        "CreateTaskPushNotificationConfig": push_config_out,
        "GetTaskPushNotificationConfig": push_config_out,
        "ListTaskPushNotificationConfigs": lambda page: [push_config_out(config) for config in page["configs"]],
        "DeleteTaskPushNotificationConfig": _nothing,
        "GetExtendedAgentCard": _same,
    }
)


def _changed(value: Json, **changes: Callable[[Any], Any]) -> Json:
    """The object with these fields changed, where it has them. A field that should be an object and is none stays."""
    return value | {name: _if_fit(change, value[name]) for name, change in changes.items() if name in value}


def _if_fit(change: Callable[[Any], Any], value: Any) -> Any:
    try:
        return change(value)
    except (AttributeError, TypeError):  # not of the kind that this expects: refused where it is read
        return value
