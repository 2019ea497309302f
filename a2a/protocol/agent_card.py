"""The agent card, with the fields of A2A 1.0, of 0.3, or of both (a hybrid card).

The versions share only the fields `capabilities` and `securitySchemes`, whose members do not
conflict. The card is signed with a JWS (RFC 7515) over its canonical JSON (RFC 8785), with the key
in `a2a.signing_key`. Clients find the public key in the JSON Web Key Set. A key that is not in it
is revoked.
"""

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from a2a.core.exceptions import ExtendedCardNotConfigured, UnsupportedOperation
from a2a.core.process import software_version
from a2a.methods import METHODS
from a2a.protocol.parts import INPUT_MODES, OUTPUT_MODES
from a2a.protocol.skills import TREE_PREFIX, Skill, skills, takes_files
from a2a.protocol.versions import RESUME_EXTENSION, TASK_TREE_EXTENSION
from accounts.callers import Caller
from tasks.executors import describe, executor_ids
from tasks.models import Task
from tasks.rules.strict_json import Json
from tasks.services.trees import idempotency

HYBRID: Final = "hybrid"
MOST_TREES: Final = 50
"""The maximum number of a user's own trees in the extended card; the newest are listed."""
COORDINATE_BYTES: Final = 32
LARGEST_PLAIN: Final = 1e21
"""Numbers from here on have an exponent (ECMAScript, `Number::toString`)."""


def build_card(*, url: str, version: str = HYBRID) -> Json:
    """Return the public card.

    `url` is the base URL with a trailing slash; `version` is `hybrid`, `1.0` or `0.3`.
    """
    return _signed(_card(url, version, skills()), url)


def build_extended_card(*, caller: Caller, url: str, version: str) -> Json:
    """Return the card with the caller's own trees as skills. Raises UnsupportedOperation or ExtendedCardNotConfigured."""
    if not has_extended_card():
        raise UnsupportedOperation("This server has no extended card: its agent card declares none.")
    if not settings.APFLOW.auth.is_on:
        raise ExtendedCardNotConfigured("The extended card needs users, but authentication is off (auth.enabled).")
    found = skills()
    for root in Task.objects.for_caller(caller).filter(parent_id=None).order_by("-created_at", "-id")[:MOST_TREES]:
        skill_id = f"{TREE_PREFIX}{root.id}"
        about = f"Runs a copy of the stored tree '{root.name}'."
        found.append(
            Skill(id=skill_id, name=root.name, description=about, tags=("tree",), input_schema={}, example=skill_id)
        )
    return _signed(_card(url, version, found), url)


def has_extended_card() -> bool:
    chosen = settings.APFLOW.a2a.extended_card
    return bool(settings.APFLOW.auth.is_on if chosen is None else chosen)


def etag_of(body: bytes) -> str:
    return f'"{sha256(body).hexdigest()[:32]}"'


@cache
def last_modified() -> int:
    """Return the start time of this process in seconds since 1970: the card depends on its settings only."""
    return int(time())


def _card(url: str, version: str, offered: Iterable[Skill]) -> Json:
    chosen = settings.APFLOW.a2a
    card: Json = {
        "name": "aipartnerupflow",
        "description": "Runs trees of tasks on workers and streams their events.",
        "version": software_version(),
        "capabilities": {
            "streaming": chosen.streaming,
            "pushNotifications": chosen.push_notifications,
            "extensions": _extensions(),
        },
        "defaultInputModes": list(INPUT_MODES),
        "defaultOutputModes": list(OUTPUT_MODES),
        "skills": [
            {
                "id": skill.id,
                "name": skill.name,
                "description": skill.description,
                "tags": list(skill.tags),
                "examples": [] if skill.example is None else [skill.example],  # texts that work as they stand
                "inputModes": [*INPUT_MODES, *(["*/*"] if takes_files(skill.input_schema) else [])],
                "outputModes": list(OUTPUT_MODES),
            }
            for skill in offered
        ],
    }
    if version != "0.3":
        card["capabilities"]["extendedAgentCard"] = has_extended_card()
        card["supportedInterfaces"] = _interfaces(url, ("1.0",) if version == "1.0" else ("1.0", "0.3"))
    if version != "1.0":
        card["capabilities"]["stateTransitionHistory"] = False
        card |= {
            "protocolVersion": "0.3.0",
            "url": url,
            "preferredTransport": "JSONRPC",
            "additionalInterfaces": [
                {"url": url, "transport": "JSONRPC"},
                {"url": url.rstrip("/"), "transport": "HTTP+JSON"},
            ],
            "supportsAuthenticatedExtendedCard": has_extended_card(),
        }
    return card | (_security(version) if settings.APFLOW.auth.is_on else {})


def _signed(card: Json, url: str) -> Json:
    return signed(card, key_path=settings.APFLOW.a2a.signing_key, url=url)


def _extensions() -> list[Json]:
    """Return the extensions of this server: that of task trees, that of lost connections, and those that the operator requires."""
    described = {executor_id: describe(executor_id) for executor_id in sorted(executor_ids())}
    schemas = {  # skills have no field for them
        executor_id: {"inputSchema": each["input_schema"], "resultSchema": each["result_schema"]}
        for executor_id, each in described.items()
    }
    required = settings.APFLOW.a2a.required_extensions
    tree: Json = {
        "uri": TASK_TREE_EXTENSION,
        "description": "JSON-RPC methods that store, run and read trees of tasks, and the schemas of each executor.",
        "required": TASK_TREE_EXTENSION in required,
        "params": {"methods": list(METHODS), "executors": schemas},
    }
    resume: Json = {
        "uri": RESUME_EXTENSION,
        "description": (
            "Updates and Tasks have their sequence number in metadata.seq. SubscribeToTask takes `after`, the number of the last update "
            "that the client has. SendMessage and SendStreamingMessage take the header Idempotency-Key."
        ),
        "required": RESUME_EXTENSION in required,
        "params": {"sequence": "metadata.seq", "after": "after", "idempotencyKey": idempotency.HEADER},
    }
    others = [
        {"uri": uri, "description": "Required by the operator of this server.", "required": True}
        for uri in required
        if uri not in (TASK_TREE_EXTENSION, RESUME_EXTENSION)
    ]
    return [tree, resume, *others]


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


# --- its signature ---


def signed(card: Json, *, key_path: str | None, url: str) -> Json:
    """Return the card with its signature; unchanged without a key. `url` is the base URL of this server."""
    if key_path is None:
        return card
    key = signing_key(key_path)
    protected = {"alg": "ES256", "typ": "JOSE", "kid": key_id(key.public_key()), "jku": f"{url}.well-known/jwks.json"}
    header = _base64(orjson.dumps(protected))
    unsigned = {name: value for name, value in card.items() if name != "signatures"}
    signature = key.sign(
        f"{header}.{_base64(canonical(unsigned))}".encode(), ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    )
    numbers = b"".join(number.to_bytes(COORDINATE_BYTES) for number in decode_dss_signature(signature))
    return card | {"signatures": [{"protected": header, "signature": _base64(numbers)}]}


def key_set(*, key_path: str | None) -> Json:
    """Return the JSON Web Key Set (RFC 7517) with the current signing key only; empty without one."""
    if not key_path:
        return {"keys": []}
    key = signing_key(key_path).public_key()
    return {"keys": [_members(key) | {"kid": key_id(key), "alg": "ES256", "use": "sig"}]}


@cache
def signing_key(path: str) -> ec.EllipticCurvePrivateKey:
    """Load the private key (P-256, PEM).

    Raises ImproperlyConfigured; the message names the setting and never contains the key.
    """
    try:
        key = load_pem_private_key(Path(path).expanduser().read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ImproperlyConfigured(f"a2a.signing_key: {path!r} cannot be read as a private key in PEM.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ImproperlyConfigured(f"a2a.signing_key: {path!r} is not a key on the curve P-256 (prime256v1).")
    return key


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """Return the key's thumbprint (RFC 7638)."""
    return _base64(sha256(orjson.dumps(_members(key))).digest())


def canonical(value: Any) -> bytes:
    """Encode a value as canonical JSON (RFC 8785)."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return b"{" + b",".join(orjson.dumps(name) + b":" + canonical(value[name]) for name in names) + b"}"
    if isinstance(value, list | tuple):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    if not isinstance(value, float):
        return orjson.dumps(value)
    if value.is_integer() and abs(value) < LARGEST_PLAIN:
        return b"%d" % int(value)
    digits, _, exponent = repr(value).partition("e")
    if not exponent:
        return digits.encode()
    if -7 < int(exponent) < 0:  # Python uses exponents from 1e-05, ECMAScript from 1e-07
        places = len(digits.replace("-", "").partition(".")[2])
        return f"{value:.{places - int(exponent)}f}".encode()
    return f"{digits}e{int(exponent):+d}".encode()


def _members(key: ec.EllipticCurvePublicKey) -> Json:
    """Return the members of a thumbprint (RFC 7638), in lexicographic order."""
    point = key.public_numbers()
    x, y = (_base64(number.to_bytes(COORDINATE_BYTES)) for number in (point.x, point.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
