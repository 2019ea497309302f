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
from a2a.protocol import v0_3
from tasks.rules.a2a_versions import HTTP_JSON, JSON_RPC, METHODS


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
    partial(v0_3.params_of, JSON_RPC),
    partial(v0_3.result_of, JSON_RPC),
)
V0_3_OVER_HTTP: Final = Version(
    "0.3", MappingProxyType({}), partial(v0_3.params_of, HTTP_JSON), partial(v0_3.result_of, HTTP_JSON)
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
