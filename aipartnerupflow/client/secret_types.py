"""Types of the server's replies about LLM keys and named secrets."""

from typing import Literal, TypedDict


class KeyStored(TypedDict):
    """The reply to `set_llm_key`. `last_four` is empty for a short key."""

    success: bool
    user_id: str
    provider: str
    last_four: str


class KeyInfo(TypedDict):
    """The public facts about a stored key."""

    provider: str
    last_four: str
    created_at: str
    used_at: str | None


class Keys(TypedDict):
    """The stored keys of a user."""

    has_key: bool
    user_id: str
    provider: str | None
    providers: dict[str, str]
    keys: list[KeyInfo]


class KeyDeleted(TypedDict):
    """The reply to `delete_llm_key`. `deleted` is False if there was no key."""

    success: bool
    user_id: str
    provider: str
    deleted: bool


class SecretInfo(TypedDict):
    """The public facts about a named secret; never its value.

    `users`, and `used_at` of a shared one, are None for users who are no administrators.
    """

    name: str
    scope: Literal["own", "shared"]
    allow_hosts: list[str]
    allow_in: list[str]
    users: list[str] | None
    created_at: str
    used_at: str | None


class Secrets(TypedDict):
    """The secrets that the user may use."""

    secrets: list[SecretInfo]


class SecretDeleted(TypedDict):
    """The reply to `delete_secret`. `deleted` is False if there was no such secret."""

    name: str
    scope: Literal["own", "shared"]
    deleted: bool
