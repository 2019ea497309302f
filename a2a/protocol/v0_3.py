"""Translates the parameters and results of A2A 0.3 operations from and to 1.0. Pure.

`tasks.rules.a2a_versions` translates the objects in them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from tasks.rules.a2a_versions import (
    CANCELED,
    DEFAULT_CONFIG,
    HTTP_JSON,
    JSON_RPC,
    Encoding,
    push_config_in,
    push_config_out,
    response_out,
    send_in,
    task_out,
)
from tasks.rules.strict_json import Json

Change = Callable[[Any], Any]


def params_of(encoding: Encoding, operation: str, params: Any) -> Any:
    """Return the parameters of an operation, translated to 1.0."""
    return PARAMS[encoding].get(operation, _same)(params) if isinstance(params, dict) else params


def result_of(encoding: Encoding, operation: str, result: Any) -> Any:
    """Return the result of an operation, or an item of its stream, translated to 0.3."""
    return RESULTS[encoding][operation](result)


def _same(value: Any) -> Any:
    return value


# --- in ---


def _send_over_http(params: Json) -> Json:
    """Translate a message over HTTP+JSON. Clients may also send the JSON of the JSON-RPC binding."""
    message = params.get("message")
    if not isinstance(message, dict) or HTTP_JSON.parts not in message:
        return send_in(params, JSON_RPC)
    return send_in(params | {"configuration": params.get("configuration") or {}}, HTTP_JSON)


def _list_over_http(params: Json) -> Json:
    return params | {"status": CANCELED} if params.get("status") == HTTP_JSON.canceled else params


def _set_push_config(params: Json) -> Json:
    config = params.get("pushNotificationConfig")
    known = push_config_in(config) if isinstance(config, dict) else {}
    return known | {"taskId": params.get("taskId")}


def _set_push_config_over_http(params: Json) -> Json:
    config = params.get("config", params)
    inner = config.get("pushNotificationConfig", config) if isinstance(config, dict) else {}
    if not isinstance(inner, dict):
        inner = {}
    config_id = inner.get("id") or params.get("configId")
    return push_config_in(inner | {"id": config_id}) | {"taskId": params.get("taskId")}


def _of_push_config(params: Json) -> Json:
    return {"taskId": params.get("id"), "id": params.get("pushNotificationConfigId") or DEFAULT_CONFIG}


def _list_push_configs(params: Json) -> Json:
    return {"taskId": params.get("id")}


PARAMS: Mapping[Encoding, Mapping[str, Change]] = MappingProxyType(
    {
        JSON_RPC: MappingProxyType(
            {
                "SendMessage": partial(send_in, encoding=JSON_RPC),
                "SendStreamingMessage": partial(send_in, encoding=JSON_RPC),
                "CreateTaskPushNotificationConfig": _set_push_config,
                "GetTaskPushNotificationConfig": _of_push_config,
                "ListTaskPushNotificationConfigs": _list_push_configs,
                "DeleteTaskPushNotificationConfig": _of_push_config,
            }
        ),
        HTTP_JSON: MappingProxyType(
            {
                "SendMessage": _send_over_http,
                "SendStreamingMessage": _send_over_http,
                "ListTasks": _list_over_http,
                "CreateTaskPushNotificationConfig": _set_push_config_over_http,
            }
        ),
    }
)


# --- out ---


def _push_config(config: Json) -> Json:
    return {"taskId": config["taskId"], "pushNotificationConfig": push_config_out(config)}


def _push_config_over_http(config: Json) -> Json:
    name = f"tasks/{config['taskId']}/pushNotificationConfigs/{config['id']}"
    return {"name": name, "pushNotificationConfig": push_config_out(config)}


def _of_tasks(encoding: Encoding) -> Mapping[str, Change]:
    task, response = partial(task_out, encoding=encoding), partial(response_out, encoding=encoding)
    return {
        "SendMessage": response,
        "SendStreamingMessage": response,
        "SubscribeToTask": response,
        "GetTask": task,
        "CancelTask": task,
        "ListTasks": lambda page: page | {"tasks": list(map(task, page["tasks"]))},
        "GetExtendedAgentCard": _same,
    }


RESULTS: Mapping[Encoding, Mapping[str, Change]] = MappingProxyType(
    {
        JSON_RPC: MappingProxyType(
            {
                **_of_tasks(JSON_RPC),
                "CreateTaskPushNotificationConfig": _push_config,
                "GetTaskPushNotificationConfig": _push_config,
                "ListTaskPushNotificationConfigs": lambda page: list(map(_push_config, page["configs"])),
                "DeleteTaskPushNotificationConfig": lambda nothing: None,
            }
        ),
        HTTP_JSON: MappingProxyType(
            {
                **_of_tasks(HTTP_JSON),
                "CreateTaskPushNotificationConfig": _push_config_over_http,
                "GetTaskPushNotificationConfig": _push_config_over_http,
                "ListTaskPushNotificationConfigs": lambda page: (
                    page | {"configs": list(map(_push_config_over_http, page["configs"]))}
                ),
                "DeleteTaskPushNotificationConfig": _same,
            }
        ),
    }
)
