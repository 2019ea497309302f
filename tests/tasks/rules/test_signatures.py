"""Signatures of GitHub, Stripe, Slack and Standard Webhooks, with the examples that their documentation and libraries have."""

from datetime import UTC, datetime
from typing import Any, Final

import pytest
from standardwebhooks import Webhook

from tasks.rules.signatures import delivery_id, key_of, proof_of, readable

Json = dict[str, Any]
SLACK_BODY: Final = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
STRIPE_BODY: Final = b'{"id": "evt_test_webhook", "object": "event"}'
STRIPE_SIGNATURE: Final = "64776382e3b272a50ff9d6821bb74452794757d5dd79f1b091f36be25190d080"
"""By `WebhookSignature` of Stripe's Python library 16.1."""
VECTORS: Final = {
    "GitHub: Validating webhook deliveries": (
        "github",
        None,
        {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
        b"Hello, World!",
        "It's a Secret to Everybody",
        None,
    ),
    "Slack: Verifying requests from Slack": (
        "slack",
        None,
        {
            "x-slack-request-timestamp": "1531420618",
            "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        },
        SLACK_BODY,
        "8f742231b10e8888abcd99yyyzzz85a5",
        1531420618,
    ),
    "Stripe: one signature": (
        "stripe",
        None,
        {"stripe-signature": f"t=1614265330,v1={STRIPE_SIGNATURE}"},
        STRIPE_BODY,
        "whsec_test_secret",
        1614265330,
    ),
    "Stripe: of two secrets, with one of the test mode": (
        "stripe",
        None,
        {"stripe-signature": f"t=1614265330, v0={'6' * 64}, v1={'5' * 64}, v1={STRIPE_SIGNATURE}"},
        STRIPE_BODY,
        "whsec_test_secret",
        1614265330,
    ),
    "Standard Webhooks: the example of the specification": (
        "standard",
        None,
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v1a,x v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        b'{"test": 2432232314}',
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        1614265330,
    ),
    "HMAC: RFC 4231, test case 2, in hexadecimal": (
        "hmac",
        {"header": "x-signature", "algorithm": "sha512"},
        {
            "x-signature": "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        },
        b"what do ya want for nothing?",
        "Jefe",
        None,
    ),
    "HMAC: RFC 2202, test case 2, in Base64": (
        "hmac",
        {"header": "x-signature", "algorithm": "sha1", "encoding": "base64", "prefix": "mac="},
        {"x-signature": "mac=7/zfauXrL6LSdBbV8YTfnCWafHk="},
        b"what do ya want for nothing?",
        "Jefe",
        None,
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_documented_signatures_are_valid_and_every_change_makes_them_wrong(name: str) -> None:
    verifier, scheme, headers, body, secret, at = VECTORS[name]
    keys = [key_of("standard", "whsec_AAAA") if verifier == "standard" else b"another", key_of(verifier, secret)]
    proof = proof_of(verifier, scheme, headers, body)
    assert proof is not None
    assert proof.is_by(keys)
    assert not proof.is_by(keys[:1])
    assert not proof.is_by([])
    changed = proof_of(verifier, scheme, headers, body + b" ")
    assert changed is not None
    assert not changed.is_by(keys)
    assert changed.digest != proof.digest
    if at is not None:
        assert [proof.is_recent(at + seconds, tolerance_seconds=300) for seconds in (-301, -300, 0, 300, 301)] == [
            False,
            True,
            True,
            True,
            False,
        ]
    for missing in headers:
        assert (
            proof_of(verifier, scheme, {key: value for key, value in headers.items() if key != missing}, body) is None
        )


def test_a_time_that_is_signed_cannot_be_changed() -> None:
    for verifier, scheme, headers, body, secret, at in VECTORS.values():
        if at is not None:
            later = {key: value.replace(str(at), str(at + 1)) for key, value in headers.items()}
            proof = proof_of(verifier, scheme, later, body)
            assert proof is not None
            assert not proof.is_by([key_of(verifier, secret)])


@pytest.mark.parametrize("stamp", ["", "-1", "1e9", "１５", "9" * 400, "1614265330.0", "0x10"])
def test_what_is_no_time_is_never_recent(stamp: str) -> None:
    proof = proof_of("stripe", None, {"stripe-signature": f"t={stamp},v1={STRIPE_SIGNATURE}"}, STRIPE_BODY)
    assert proof is not None
    assert not proof.is_recent(1614265330, tolerance_seconds=3600)


def test_a_time_of_a_header_of_ones_own_is_signed_before_the_body() -> None:
    scheme = {"header": "x-signature", "timestamp_header": "x-time"}
    headers = {"x-signature": STRIPE_SIGNATURE, "x-time": "1614265330"}
    proof = proof_of("hmac", scheme, headers, STRIPE_BODY)
    assert proof is not None
    assert proof.is_by([b"whsec_test_secret"])
    assert proof_of("hmac", scheme, {"x-signature": STRIPE_SIGNATURE}, STRIPE_BODY) is None


def test_only_the_first_signatures_of_many_are_compared() -> None:
    many = ",".join([f"v1={'5' * 64}"] * 10 + [f"v1={STRIPE_SIGNATURE}"])
    proof = proof_of("stripe", None, {"stripe-signature": f"t=1614265330,{many}"}, STRIPE_BODY)
    assert proof is not None
    assert not proof.is_by([b"whsec_test_secret"])


def test_the_official_library_signs_as_we_verify() -> None:
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", '{"a": "ä"}'
    at = datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", at, body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}
    proof = proof_of("standard", None, headers, body.encode())
    assert proof is not None
    assert proof.is_by([key_of("standard", secret)])


@pytest.mark.parametrize(
    ("verifier", "scheme", "headers", "body", "found"),
    [
        ("github", None, {"x-github-delivery": "72d3162e"}, {}, "72d3162e"),
        ("stripe", None, {}, {"id": "evt_1"}, "evt_1"),
        ("stripe", None, {}, [], None),
        ("slack", None, {}, {"event_id": "Ev1"}, "Ev1"),
        ("slack", None, {}, {"type": "block_actions"}, None),
        ("standard", None, {"webhook-id": "msg_1"}, None, "msg_1"),
        ("hmac", {"header": "x", "id_header": "x-id"}, {"x-id": "7"}, {"id": "8"}, "7"),
        ("hmac", {"header": "x", "id_path": "/event/id"}, {"x-id": "7"}, {"event": {"id": 8}}, "8"),
        ("hmac", {"header": "x", "id_path": "/id"}, {}, {"id": True}, None),
        ("hmac", {"header": "x", "id_path": "/id"}, {}, {"id": ""}, None),
        ("hmac", {"header": "x"}, {"x-id": "7"}, {"id": 8}, None),
    ],
)
def test_the_id_of_a_delivery(
    verifier: str, scheme: Json | None, headers: dict[str, str], body: Any, found: str | None
) -> None:
    assert delivery_id(verifier, scheme, headers, body) == found


def test_a_long_id_is_shortened_and_stays_distinct() -> None:
    first, second = (delivery_id("stripe", None, {}, {"id": "e" * 300 + end}) for end in "ab")
    assert first is not None
    assert len(first) == 64
    assert first != second


def test_signatures_and_credentials_are_not_read() -> None:
    headers = {
        "authorization": "Bearer x",
        "x-github-event": "push",
        "x-hub-signature-256": "sha256=1",
        "x-slack-signature": "v0=1",
        "x-slack-retry-num": "1",
        "webhook-id": "msg_1",
        "webhook-signature": "v1,x",
        "x-kind": "a",
    }
    assert readable("github", None, headers) == {"x-github-event": "push"}
    assert readable("stripe", None, headers) == {}
    assert readable("slack", None, headers) == {"x-slack-retry-num": "1"}
    assert readable("standard", None, headers) == {"webhook-id": "msg_1"}
    assert readable("hmac", {"header": "x-hub-signature-256"}, headers) == {}
    assert readable("hmac", {"header": "x", "headers": ["x-kind"]}, headers) == {"x-kind": "a"}


@pytest.mark.parametrize("secret", ["whsec_not base64", "short!"])
def test_a_secret_of_standard_webhooks_is_base64(secret: str) -> None:
    with pytest.raises(ValueError, match="Base64"):
        key_of("standard", secret)
