"""Which version of A2A a request speaks, and which extensions its client knows (A2A 1.0, sections 3.2.6, 3.6 and 4.6).

The names of the two versions' methods differ, so the name says the version; the header must not contradict it.
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
    """`methods` has the JSON-RPC name of each operation; `params` and `result` translate from and to 1.0."""

    name: str
    methods: Mapping[str, str]
    params: Callable[[str, Any], Any]
    result: Callable[[str, Any], Any]


TASK_TREE_EXTENSION: Final = "urn:aipartnerupflow:task-tree:v1"
"""Our dotted methods, and the schemas of the executors."""
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
    """Major and minor: patch numbers do not count (section 3.6.1)."""
    return ".".join(version.strip().split(".")[:2])


def check_version(spoken: Version, *, asked: str) -> None:
    """Raises VersionNotSupported. Without a header the request is what it looks like; a patch number means nothing."""
    asked = without_patch(asked)
    if asked in ("", spoken.name):
        return
    known = [version.name for version in VERSIONS]
    if asked not in known:
        raise VersionNotSupported(f"A2A {asked[:20]} is not spoken here. Known are {' and '.join(known)}.")
    raise VersionNotSupported(f"The request asks for A2A {asked}, and speaks {spoken.name}. Use the names of {asked}.")


def check_extensions(requested: Sequence[str]) -> None:
    """Raises ExtensionSupportRequired."""
    missing = [uri for uri in settings.APFLOW.a2a.required_extensions if uri not in requested]
    if missing:
        raise ExtensionSupportRequired(
            f"The client must support {', '.join(missing)}, and say so in the header {EXTENSIONS_HEADER}."
        )


def activated_extensions(requested: Sequence[str]) -> str:
    """Those of them that this server knows, as a header says it; empty for none."""
    known = {TASK_TREE_EXTENSION, *settings.APFLOW.a2a.required_extensions}
    return ", ".join(uri for uri in requested if uri in known)
