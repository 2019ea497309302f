"""Signs the agent card: a JWS (RFC 7515) over its canonical JSON (RFC 8785), with the key in
`a2a.signing_key`.

Clients find the public key in the JSON Web Key Set. A key that is not in it is revoked.
"""

from base64 import urlsafe_b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.core.exceptions import ImproperlyConfigured

from tasks.rules.strict_json import Json

COORDINATE_BYTES: Final = 32
LARGEST_PLAIN: Final = 1e21
"""Numbers from here on have an exponent (ECMAScript, `Number::toString`)."""


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
    return {"keys": [_public(signing_key(key_path).public_key())] if key_path else []}


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
    return _number(value) if isinstance(value, float) else orjson.dumps(value)


def _number(value: float) -> bytes:
    if value.is_integer() and abs(value) < LARGEST_PLAIN:
        return b"%d" % int(value)
    digits, _, exponent = repr(value).partition("e")
    if not exponent:
        return digits.encode()
    if -7 < int(exponent) < 0:  # Python uses exponents from 1e-05, ECMAScript from 1e-07
        places = len(digits.replace("-", "").partition(".")[2])
        return f"{value:.{places - int(exponent)}f}".encode()
    return f"{digits}e{int(exponent):+d}".encode()


def _public(key: ec.EllipticCurvePublicKey) -> Json:
    return _members(key) | {"kid": key_id(key), "alg": "ES256", "use": "sig"}


def _members(key: ec.EllipticCurvePublicKey) -> Json:
    """Return the members of a thumbprint (RFC 7638), in lexicographic order."""
    point = key.public_numbers()
    x, y = (_base64(number.to_bytes(COORDINATE_BYTES)) for number in (point.x, point.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
