"""A2A 0.3 over HTTP+JSON in terms of 1.0: there it speaks the JSON of its own Protocol Buffers, and not of its JSON-RPC. Pure.

So the parts of a message are its `content`, data is wrapped, and states and roles have the names that 1.0 has, but for one.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from a2a.protocol.v0_3 import json_rpc
from tasks.rules.strict_json import Json

CANCELED, CANCELLED = "TASK_STATE_CANCELED", "TASK_STATE_CANCELLED"


def params_of(operation: str, params: Any) -> Any:
    """The parameters of the operation in the shape of 1.0."""
    return PARAMS.get(operation, _same)(params) if isinstance(params, dict) else params


def result_of(operation: str, result: Any) -> Any:
    """What an operation answers, or what its stream sends."""
    return RESULTS[operation](result)


def _same(value: Json) -> Json:
    return value


# --- in ---


def _send(params: Json) -> Json:
    """Who sends the JSON of JSON-RPC is understood too."""
    message = params.get("message")
    if not isinstance(message, dict) or "content" not in message:
        return json_rpc.send_params(params)
    return params | {
        "message": _message_in(message),
        "configuration": _configuration(params.get("configuration") or {}),
    }


def _configuration(given: Any) -> Any:
    if not isinstance(given, dict):
        return given
    config = given.get("pushNotification")
    renamed: Json = {"returnImmediately": not given.get("blocking", False)}
    if isinstance(config, dict):
        renamed["taskPushNotificationConfig"] = json_rpc.push_config_in(config)
    return renamed | {name: given[name] for name in ("acceptedOutputModes", "historyLength") if name in given}


def _message_in(message: Json) -> Json:
    parts = message["content"]
    rest = {name: value for name, value in message.items() if name != "content"}
    return rest | {"parts": [_part_in(part) for part in parts] if isinstance(parts, list) else parts}


def _part_in(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    rest = {name: value for name, value in part.items() if name not in ("file", "data")}
    if isinstance(part.get("data"), dict):
        return rest | {"data": part["data"].get("data", {})}
    file = part.get("file")
    if not isinstance(file, dict):
        return rest
    names = {"fileWithBytes": "raw", "fileWithUri": "url", "name": "filename", "mimeType": "mediaType"}
    return rest | {names[name]: value for name, value in file.items() if name in names}


def _create_push_config(params: Json) -> Json:
    config = params.get("config", params)
    inner = config.get("pushNotificationConfig", config) if isinstance(config, dict) else {}
    if not isinstance(inner, dict):
        inner = {}
    config_id = inner.get("id") or params.get("configId")
    return json_rpc.push_config_in(inner | {"id": config_id}) | {"taskId": params.get("taskId")}


def _list(params: Json) -> Json:
    return params | {"status": CANCELED} if params.get("status") == CANCELLED else params


PARAMS: Mapping[str, Callable[[Json], Json]] = MappingProxyType(
    {
        "SendMessage": _send,
        "SendStreamingMessage": _send,
        "ListTasks": _list,
        "CreateTaskPushNotificationConfig": _create_push_config,
    }
)


# --- out ---


def _response(response: Json) -> Json:
    (name,) = response
    return {name: RESPONSES[name](response[name])}


def _task(task: Json) -> Json:
    shown = task | {"status": _status(task["status"])}
    if "artifacts" in task:
        shown["artifacts"] = [_artifact(artifact) for artifact in task["artifacts"]]
    if "history" in task:
        shown["history"] = [_message_out(message) for message in task["history"]]
    return shown


def _status(status: Json) -> Json:
    shown = {"state": CANCELLED if status["state"] == CANCELED else status["state"], "timestamp": status["timestamp"]}
    return shown | {"message": _message_out(status["message"])} if "message" in status else shown


def _message_out(message: Json) -> Json:
    rest = {name: value for name, value in message.items() if name not in ("parts", "referenceTaskIds")}
    return rest | {"content": [_part_out(part) for part in message["parts"]]}


def _artifact(artifact: Json) -> Json:
    return artifact | {"parts": [_part_out(part) for part in artifact["parts"]]}


def _part_out(part: Json) -> Json:
    rest = {"metadata": part["metadata"]} if "metadata" in part else {}
    if "text" in part:
        return rest | {"text": part["text"]}
    if "data" in part:
        data = part["data"]
        return rest | {"data": {"data": data if isinstance(data, dict) else {"result": data}}}
    names = {"raw": "fileWithBytes", "url": "fileWithUri", "filename": "name", "mediaType": "mimeType"}
    return rest | {"file": {names[name]: value for name, value in part.items() if name in names}}


def _status_update(update: Json) -> Json:
    is_final = json_rpc.is_final(update["status"]["state"])
    return update | {"status": _status(update["status"]), "final": is_final}


def _artifact_update(update: Json) -> Json:
    return update | {"artifact": _artifact(update["artifact"])}


def _push_config_out(config: Json) -> Json:
    inner = json_rpc.push_config_out(config)["pushNotificationConfig"]
    return {"name": f"tasks/{config['taskId']}/pushNotificationConfigs/{config['id']}", "pushNotificationConfig": inner}


RESPONSES: Mapping[str, Callable[[Json], Json]] = MappingProxyType(
    {"task": _task, "message": _message_out, "statusUpdate": _status_update, "artifactUpdate": _artifact_update}
)
RESULTS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "SendMessage": _response,
        "SendStreamingMessage": _response,
        "SubscribeToTask": _response,
        "GetTask": _task,
        "CancelTask": _task,
        "ListTasks": lambda page: page | {"tasks": [_task(task) for task in page["tasks"]]},
        "CreateTaskPushNotificationConfig": _push_config_out,
        "GetTaskPushNotificationConfig": _push_config_out,
        "ListTaskPushNotificationConfigs": lambda page: (
            page | {"configs": list(map(_push_config_out, page["configs"]))}
        ),
        "DeleteTaskPushNotificationConfig": _same,
        "GetExtendedAgentCard": _same,
    }
)
