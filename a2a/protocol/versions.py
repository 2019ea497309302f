"""The A2A version and the extensions of a request (A2A 1.0, sections 3.2.6, 3.6 and 4.6).

Method names differ between the versions, so the name determines the version; the header must not
contradict it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from django.conf import settings

from a2a.core.exceptions import ExtensionSupportRequired, VersionNotSupported
from a2a.core.http import EXTENSIONS_HEADER
from tasks.rules.a2a_versions import (
    CANCELED,
    DEFAULT_CONFIG,
    HTTP_JSON,
    JSON_RPC,
    METHODS,
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


PARAMS: Mapping[Encoding, Mapping[str, Change]] = MappingProxyType(
    {
        JSON_RPC: MappingProxyType(
            {
                "SendMessage": partial(send_in, encoding=JSON_RPC),
                "SendStreamingMessage": partial(send_in, encoding=JSON_RPC),
                "CreateTaskPushNotificationConfig": _set_push_config,
                "GetTaskPushNotificationConfig": _of_push_config,
                "ListTaskPushNotificationConfigs": lambda params: {"taskId": params.get("id")},
                "DeleteTaskPushNotificationConfig": _of_push_config,
            }
        ),
        HTTP_JSON: MappingProxyType(
            {
                "SendMessage": _send_over_http,
                "SendStreamingMessage": _send_over_http,
                "ListTasks": lambda params: (
                    params | {"status": CANCELED} if params.get("status") == HTTP_JSON.canceled else params
                ),
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


@dataclass(frozen=True, slots=True)
class Version:
    """A version of A2A.

    `methods` maps JSON-RPC names to operations; `params` and `result` translate to and from 1.0.
    """

    name: str
    methods: Mapping[str, str]
    params: Callable[[str, Any], Any]
    result: Callable[[str, Any], Any]


TASK_TREE_EXTENSION: Final = "urn:aipartnerupflow:task-tree:v1"
"""The extension with our dotted methods and the schemas of the executors."""
RESUME_EXTENSION: Final = "urn:aipartnerupflow:resume:v1"
"""The extension with sequence numbers, subscriptions after an event, and messages that are safe to repeat."""
OPERATIONS: Final = tuple(METHODS)


def _as_it_is(operation: str, value: Any) -> Any:
    return value


V1_0: Final = Version("1.0", MappingProxyType({name: name for name in OPERATIONS}), _as_it_is, _as_it_is)
V0_3: Final = Version(
    "0.3",
    MappingProxyType({method: name for name, method in METHODS.items()}),
    partial(params_of, JSON_RPC),
    partial(result_of, JSON_RPC),
)
V0_3_OVER_HTTP: Final = Version(
    "0.3", MappingProxyType({}), partial(params_of, HTTP_JSON), partial(result_of, HTTP_JSON)
)
VERSIONS: Final = (V1_0, V0_3)


def without_patch(version: str) -> str:
    """Return the version as major.minor: patch numbers are ignored (section 3.6.1)."""
    return ".".join(version.strip().split(".")[:2])


def check_version(spoken: Version, *, asked: str) -> None:
    """Raise VersionNotSupported if the header names another version than the method.

    It may be absent.
    """
    asked = without_patch(asked)
    if asked in ("", spoken.name):
        return
    known = [version.name for version in VERSIONS]
    if asked not in known:
        raise VersionNotSupported(f"A2A {asked[:20]} is not supported. Supported versions: {' and '.join(known)}.")
    raise VersionNotSupported(
        f"The header requests A2A {asked}, but the request has the format of {spoken.name}. Use that of {asked}."
    )


def check_extensions(requested: Sequence[str]) -> None:
    """Raise ExtensionSupportRequired if a required extension is not among the requested ones."""
    missing = [uri for uri in settings.APFLOW.a2a.required_extensions if uri not in requested]
    if missing:
        raise ExtensionSupportRequired(
            f"This server requires the extensions {', '.join(missing)}. Request them in the header {EXTENSIONS_HEADER}."
        )


def activated_extensions(requested: Sequence[str]) -> str:
    """Return the requested extensions that this server supports, as a header value; may be empty."""
    known = {TASK_TREE_EXTENSION, RESUME_EXTENSION, *settings.APFLOW.a2a.required_extensions}
    return ", ".join(uri for uri in requested if uri in known)
