"""Signatures of requests from outside: how GitHub, Stripe, Slack, Standard Webhooks and others sign with HMAC. Pure.

All of them sign the bytes of the body; those with a time sign it too, so that an old request cannot be sent again. The
id of a delivery is only as good as its place: in the body or in the signed text nobody can change it, in a header of
GitHub anybody can. So the digest of what was signed tells deliveries apart as well.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tasks.rules.conditions import ABSENT, value_at
from tasks.rules.strict_json import Json

GITHUB, STRIPE, SLACK, STANDARD, HMAC = VERIFIERS = ("github", "stripe", "slack", "standard", "hmac")
ALGORITHMS: Final = ("sha1", "sha256", "sha384", "sha512")
HEX, BASE64 = ENCODINGS = ("hex", "base64")
MOST_SIGNATURES: Final = 10
"""The number of signatures in one header that are compared: senders that rotate their secret send several."""
MOST_CHARACTERS: Final = 255
"""The width of the column for the id of a delivery."""
STANDARD_PREFIX: Final = "whsec_"
HEADERS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    GITHUB: ("x-github-",),
    STRIPE: (),
    SLACK: ("x-slack-retry-",),
    STANDARD: ("webhook-id", "webhook-timestamp"),
    HMAC: (),
}
"""The beginnings of the names of headers that filters and mappings may read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The signatures that a request brings, and the bytes that they are to be of. `timestamp` is None for senders without one."""

    signatures: Sequence[str]
    signed: bytes
    timestamp: str | None = None
    algorithm: str = "sha256"
    encoding: str = HEX

    def is_recent(self, now: float, *, tolerance_seconds: int) -> bool:
        """Return whether the time, in seconds since 1970, differs from now by no more than the tolerance."""
        if self.timestamp is None:
            return True
        is_number = self.timestamp.isascii() and self.timestamp.isdecimal() and len(self.timestamp) <= 15
        return is_number and abs(now - int(self.timestamp)) <= tolerance_seconds

    def is_by(self, keys: Sequence[bytes]) -> bool:
        """Return whether one of the signatures is by one of the keys. It takes as long if none is."""
        found = False
        for key in keys:
            expected = self._signature(key)
            for sent in self.signatures:
                found |= hmac.compare_digest(expected, sent.encode("latin-1", "replace"))
        return found

    @property
    def digest(self) -> str:
        """The SHA-256 of what was signed, in hexadecimal."""
        return hashlib.sha256(self.signed).hexdigest()

    def _signature(self, key: bytes) -> bytes:
        made = hmac.new(key, self.signed, self.algorithm)
        return base64.b64encode(made.digest()) if self.encoding == BASE64 else made.hexdigest().encode()


def proof_of(verifier: str, scheme: Json | None, headers: Mapping[str, str], body: bytes) -> Proof | None:
    """Read the proof of a request; None if a header is missing. `headers` are by names in lower case.

    `scheme` is of `hmac`: `header`, and optionally `algorithm`, `encoding`, `prefix` and `timestamp_header`; with the
    last one, `TIMESTAMP.BODY` is signed.
    """
    match verifier:
        case "github":
            return _with(_prefixed(headers.get("x-hub-signature-256"), "sha256="), signed=body)
        case "stripe":
            pairs = [part.strip().partition("=") for part in headers.get("stripe-signature", "").split(",")]
            stamp = next((value for name, _, value in pairs if name == "t"), None)
            sent = [value for name, _, value in pairs if name == "v1"]
            return None if stamp is None else _with(sent, signed=_dotted(stamp, body), timestamp=stamp)
        case "slack":
            stamp = headers.get("x-slack-request-timestamp")
            sent = _prefixed(headers.get("x-slack-signature"), "v0=")
            return None if stamp is None else _with(sent, signed=b"v0:%b:%b" % (_bytes(stamp), body), timestamp=stamp)
        case "standard":
            message_id, stamp = headers.get("webhook-id"), headers.get("webhook-timestamp")
            if message_id is None or stamp is None:
                return None
            sent = [value for each in headers.get("webhook-signature", "").split() for value in _prefixed(each, "v1,")]
            signed = _dotted(message_id, _dotted(stamp, body))
            return _with(sent, signed=signed, timestamp=stamp, encoding=BASE64)
    given = scheme or {}
    stamp = None
    if (name := given.get("timestamp_header")) is not None and (stamp := headers.get(name)) is None:
        return None
    return _with(
        _prefixed(headers.get(given["header"]), given.get("prefix") or ""),
        signed=body if stamp is None else _dotted(stamp, body),
        timestamp=stamp,
        algorithm=given.get("algorithm") or "sha256",
        encoding=given.get("encoding") or HEX,
    )


def key_of(verifier: str, secret: str) -> bytes:
    """Return the key that a secret stands for: of Standard Webhooks, the bytes behind `whsec_` in Base64. Raises ValueError."""
    if verifier != STANDARD:
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(
            "is not in Base64, as a secret of Standard Webhooks is, with or without whsec_ before it"
        ) from None


def delivery_id(verifier: str, scheme: Json | None, headers: Mapping[str, str], body: Any) -> str | None:
    """Return the id by which the sender knows a delivery that it repeats; None if it has none."""
    found: Any = None
    match verifier:
        case "github":
            found = headers.get("x-github-delivery")
        case "stripe":
            found = value_at("/id", body)
        case "slack":
            found = value_at("/event_id", body)
        case "standard":
            found = headers.get("webhook-id")
        case "hmac":
            given = scheme or {}
            if (name := given.get("id_header")) is not None:
                found = headers.get(name)
            elif (path := given.get("id_path")) is not None:
                found = value_at(path, body)
    if found is None or found is ABSENT or isinstance(found, bool | float | list | dict) or found == "":
        return None
    text = str(found)
    return text if len(text) <= MOST_CHARACTERS else hashlib.sha256(text.encode()).hexdigest()


def readable(verifier: str, scheme: Json | None, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that filters and mappings may read, and that are stored."""
    beginnings = (*HEADERS_OF[verifier], *(f"{name}" for name in (scheme or {}).get("headers") or ()))
    return {name: value for name, value in headers.items() if name.startswith(beginnings)} if beginnings else {}


def _with(sent: Sequence[str], *, signed: bytes, timestamp: str | None = None, **how: str) -> Proof | None:
    return Proof(signatures=sent[:MOST_SIGNATURES], signed=signed, timestamp=timestamp, **how) if sent else None


def _prefixed(value: str | None, prefix: str) -> list[str]:
    return [value.removeprefix(prefix)] if value is not None and value.startswith(prefix) else []


def _dotted(first: str, rest: bytes) -> bytes:
    return _bytes(first) + b"." + rest


def _bytes(header: str) -> bytes:
    return header.encode("latin-1", "replace")
