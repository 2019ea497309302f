"""The agent card, with the fields of A2A 1.0, of 0.3, or of both (a hybrid card).

The versions share only the fields `capabilities` and `securitySchemes`, whose members do not
conflict.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import sha256
from time import time
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings

from a2a.core.exceptions import ExtendedCardNotConfigured, UnsupportedOperation
from a2a.core.process import software_version
from a2a.methods import METHODS
from a2a.protocol.card.signature import signed
from a2a.protocol.parts import INPUT_MODES, OUTPUT_MODES
from a2a.protocol.skills import TREE_PREFIX, Skill, skills
from a2a.protocol.versions import RESUME_EXTENSION, TASK_TREE_EXTENSION
from accounts.callers import Caller
from tasks.executors import describe, executor_ids
from tasks.models import Task
from tasks.rules.strict_json import Json
from tasks.services.trees import idempotency

HYBRID: Final = "hybrid"
MOST_TREES: Final = 50
"""The maximum number of a user's own trees in the extended card; the newest are listed."""


def build_card(*, url: str, version: str = HYBRID) -> Json:
    """Return the public card.

    `url` is the base URL with a trailing slash; `version` is `hybrid`, `1.0` or `0.3`.
    """
    return _signed(_card(url, version, _skills()), url)


def build_extended_card(*, caller: Caller, url: str, version: str) -> Json:
    """Return the card with the caller's own trees as skills. Raises UnsupportedOperation or ExtendedCardNotConfigured."""
    if not has_extended_card():
        raise UnsupportedOperation("This server has no extended card: its agent card declares none.")
    if not settings.APFLOW.auth.is_on:
        raise ExtendedCardNotConfigured("The extended card needs users, but authentication is off (auth.enabled).")
    trees = Task.objects.for_caller(caller).filter(parent_id=None).order_by("-created_at", "-id")[:MOST_TREES]
    return _signed(_card(url, version, [*_skills(), *map(_stored_skill, trees)]), url)


def has_extended_card() -> bool:
    chosen = settings.APFLOW.a2a.extended_card
    return bool(settings.APFLOW.auth.is_on if chosen is None else chosen)


def etag_of(body: bytes) -> str:
    return f'"{sha256(body).hexdigest()[:32]}"'


@cache
def last_modified() -> int:
    """Return the start time of this process in seconds since 1970: the card depends on its settings only."""
    return int(time())


def _card(url: str, version: str, skills: Sequence[Json]) -> Json:
    card: Json = {
        "name": "aipartnerupflow",
        "description": "Runs trees of tasks on workers and streams their events.",
        "version": software_version(),
        "capabilities": _capabilities(version),
        "defaultInputModes": list(INPUT_MODES),
        "defaultOutputModes": list(OUTPUT_MODES),
        "skills": list(skills),
    }
    if version != "0.3":
        card["supportedInterfaces"] = _interfaces(url, ("1.0",) if version == "1.0" else ("1.0", "0.3"))
    if version != "1.0":
        card |= _where_in_0_3(url)
    return card | (_security(version) if settings.APFLOW.auth.is_on else {})


def _signed(card: Json, url: str) -> Json:
    return signed(card, key_path=settings.APFLOW.a2a.signing_key, url=url)


def _capabilities(version: str) -> Json:
    chosen = settings.APFLOW.a2a
    capabilities: Json = {
        "streaming": chosen.streaming,
        "pushNotifications": chosen.push_notifications,
        "extensions": [
            _tree_extension(),
            _resume_extension(),
            *(
                {"uri": uri, "description": "Required by the operator of this server.", "required": True}
                for uri in chosen.required_extensions
                if uri not in (TASK_TREE_EXTENSION, RESUME_EXTENSION)
            ),
        ],
    }
    if version != "0.3":
        capabilities["extendedAgentCard"] = has_extended_card()
    if version != "1.0":
        capabilities["stateTransitionHistory"] = False
    return capabilities


def _tree_extension() -> Json:
    """Return the extension with the schemas of the executors, for which skills have no field."""
    described = {executor_id: describe(executor_id) for executor_id in sorted(executor_ids())}
    schemas = {
        executor_id: {"inputSchema": each["input_schema"], "resultSchema": each["result_schema"]}
        for executor_id, each in described.items()
    }
    return {
        "uri": TASK_TREE_EXTENSION,
        "description": "JSON-RPC methods that store, run and read trees of tasks, and the schemas of each executor.",
        "required": TASK_TREE_EXTENSION in settings.APFLOW.a2a.required_extensions,
        "params": {"methods": list(METHODS), "executors": schemas},
    }


def _resume_extension() -> Json:
    """Return the extension for clients that lose their connection."""
    return {
        "uri": RESUME_EXTENSION,
        "description": (
            "Updates and Tasks have their sequence number in metadata.seq. SubscribeToTask takes `after`, the number of the last update "
            "that the client has. SendMessage and SendStreamingMessage take the header Idempotency-Key."
        ),
        "required": RESUME_EXTENSION in settings.APFLOW.a2a.required_extensions,
        "params": {"sequence": "metadata.seq", "after": "after", "idempotencyKey": idempotency.HEADER},
    }


def _interfaces(url: str, versions: Iterable[str]) -> list[Json]:
    """Return the interfaces in order of preference; gRPC for 1.0 only.

    Clients append paths to the URL of HTTP+JSON, so it has no trailing slash.
    """
    addresses = {"JSONRPC": url, "HTTP+JSON": url.rstrip("/")}
    found = [
        {"url": address, "protocolBinding": binding, "protocolVersion": version}
        for version in versions
        for binding, address in addresses.items()
    ]
    if port := settings.APFLOW.a2a.grpc_port:
        place = f"{urlsplit(url).hostname}:{port}"
        found.insert(len(addresses), {"url": place, "protocolBinding": "GRPC", "protocolVersion": "1.0"})
    return found


def _where_in_0_3(url: str) -> Json:
    return {
        "protocolVersion": "0.3.0",
        "url": url,
        "preferredTransport": "JSONRPC",
        "additionalInterfaces": [
            {"url": url, "transport": "JSONRPC"},
            {"url": url.rstrip("/"), "transport": "HTTP+JSON"},
        ],
        "supportsAuthenticatedExtendedCard": has_extended_card(),
    }


def _security(version: str) -> Json:
    """Return the security scheme: a bearer token, which is a JWT or an API key."""
    in_0_3: Json = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    in_1_0: Json = {"httpAuthSecurityScheme": {"scheme": "Bearer", "bearerFormat": "JWT"}}
    scheme = {"0.3": in_0_3, "1.0": in_1_0}.get(version, in_0_3 | in_1_0)
    security: Json = {"securitySchemes": {"bearer": scheme}}
    if version != "0.3":
        security["securityRequirements"] = [{"schemes": {"bearer": {"list": []}}}]
    if version != "1.0":
        security["security"] = [{"bearer": []}]
    return security


def _skills() -> list[Json]:
    return list(map(_shown, skills()))


def _stored_skill(root: Task) -> Json:
    skill_id = f"{TREE_PREFIX}{root.id}"
    about = f"Runs a copy of the stored tree '{root.name}'."
    return _shown(
        Skill(id=skill_id, name=root.name, description=about, tags=("tree",), input_schema={}, example=skill_id)
    )


def _shown(skill: Skill) -> Json:
    """Return the skill of a card. Examples are texts that work as they stand."""
    return {
        "id": skill.id,
        "name": skill.name,
        "description": skill.description,
        "tags": list(skill.tags),
        "examples": [] if skill.example is None else [skill.example],
        "inputModes": list(INPUT_MODES),
        "outputModes": list(OUTPUT_MODES),
    }
