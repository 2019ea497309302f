import secrets
from collections.abc import Mapping

import pytest

from accounts.secret import weak_secret
from apflow_site.config import known_settings

WEAK = {
    "": "an example|0 bytes",
    "your-secret-key": "an example",
    "Your_Secret_Key!": "an example",
    "your-secret-key-your-secret-key-your-secret-key": "an example",
    "a-string-secret-at-least-256-bits-long": "an example",
    "django-insecure-4k!2v9x#q0z7w5m8n3b6c1l_p": "an example",
    "please-changeme-please-0123456789-abcdef": "an example",
    **{
        secret: "an example"
        for setting in known_settings().values()
        if setting.is_secret and not isinstance(setting.example, Mapping)
        if not str(setting.example).startswith(("postgresql:", "redis:"))
        for secret in ([setting.example] if isinstance(setting.example, str) else setting.example)
    },
    "short": "5 bytes",
    "k7#Qz" * 6 + "x": "31 bytes",
    "a" * 64: "repeats",
    "abcabc" * 10: "repeats",
    " " * 40: "repeats",
}


@pytest.mark.parametrize(("secret", "reason"), WEAK.items())
def test_a_weak_secret_is_called_by_its_weakness(secret: str, reason: str) -> None:
    found = weak_secret(secret)
    assert found is not None
    assert any(piece in found for piece in reason.split("|"))


@pytest.mark.parametrize(
    "secret",
    [
        secrets.token_urlsafe(48),
        secrets.token_hex(32),
        "q7#Kz9!mW2@xR5$vT8^nB1&cJ4*pL6(d",
        "纸牌屋里的十二只猫在月光下跳舞唱歌",
    ],
    ids=["url-safe", "hexadecimal", "typed", "Chinese"],  # made anew each time: the tests' names must not be
)
def test_a_long_random_secret_will_do(secret: str) -> None:
    assert weak_secret(secret) is None


@pytest.mark.parametrize("text", ["{}", "postgresql://apflow:{}@localhost/apflow"])
def test_a_secret_is_for_one_thing_only(text: str) -> None:
    secret = secrets.token_urlsafe(48)
    found = weak_secret(secret, elsewhere=["", text.format(secret)])
    assert found is not None
    assert "something else" in found
    assert weak_secret(secret, elsewhere=["", text.format("another")]) is None
