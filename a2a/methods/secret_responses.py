"""LLM keys and named secrets in the results of methods, as types."""

from typing import Literal

from a2a.methods.response import Response


class LLMKeyStored(Response, frozen=True, kw_only=True):
    """The stored key. `last_four` is empty for a short key."""

    success: bool
    user_id: str
    provider: str
    last_four: str


class LLMKeyInfo(Response, frozen=True, kw_only=True):
    """The public facts about a stored key."""

    provider: str
    last_four: str
    created_at: str
    used_at: str | None


class LLMKeys(Response, frozen=True, kw_only=True):
    """The keys of a user, or that for one provider.

    `providers` has the last four characters of all keys.
    """

    has_key: bool
    user_id: str
    provider: str | None
    providers: dict[str, str]
    keys: list[LLMKeyInfo]


class LLMKeyDeleted(Response, frozen=True, kw_only=True):
    """`deleted` is false if there was no key."""

    success: bool
    user_id: str
    provider: str
    deleted: bool


class SecretInfo(Response, frozen=True, kw_only=True):
    """The public facts about a named secret; never its value.

    `users` of a shared one, and its `used_at`, are for administrators only. Without `allow_hosts` it
    may be sent anywhere, without `allow_in` be used in any input that takes secrets, and without
    `users` all may use it.
    """

    name: str
    scope: Literal["own", "shared"]
    allow_hosts: list[str]
    allow_in: list[str]
    users: list[str] | None
    created_at: str
    used_at: str | None


class Secrets(Response, frozen=True, kw_only=True):
    """The secrets that the user may use."""

    secrets: list[SecretInfo]


class SecretDeleted(Response, frozen=True, kw_only=True):
    """`deleted` is false if there was no such secret."""

    name: str
    scope: Literal["own", "shared"]
    deleted: bool
