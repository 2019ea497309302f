"""Stores for users' keys: the database, Redis, or this process's memory (`llm.key_store`).

All store them encrypted.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from llmkeys.models import LLMKey

USED_STEP: Final = timedelta(minutes=1)
"""The precision of `used_at`: of many uses within it only one is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A user's key for a provider, encrypted."""

    user_id: str
    provider: str
    sealed: str
    last_four: str
    created_at: datetime
    used_at: datetime | None = None

    def is_used_now(self) -> bool:
        """Return whether `used_at` is recent enough not to be written again."""
        return self.used_at is not None and datetime.now(UTC) - self.used_at < USED_STEP


class KeyStore(Protocol):
    """Stores one key per user and provider."""

    def put(self, key: StoredKey) -> None: ...
    def get(self, user_id: str, provider: str) -> StoredKey | None: ...
    def of_user(self, user_id: str) -> list[StoredKey]:
        """Return all keys of a user, by provider."""
        ...

    def all(self) -> Iterator[StoredKey]: ...
    def delete(self, user_id: str, provider: str) -> bool:
        """Delete a key. False: there was none."""
        ...

    def change(self, key: StoredKey, **fields: Any) -> bool:
        """Change fields of the key as it was read. False: it has been replaced or deleted since."""
        ...


class DatabaseStore:
    def put(self, key: StoredKey) -> None:
        values = {name: getattr(key, name) for name in ("sealed", "last_four", "created_at", "used_at")}
        LLMKey.objects.update_or_create(user_id=key.user_id, provider=key.provider, defaults=values)

    def get(self, user_id: str, provider: str) -> StoredKey | None:
        row = LLMKey.objects.filter(user_id=user_id, provider=provider).first()
        return _stored(row) if row else None

    def of_user(self, user_id: str) -> list[StoredKey]:
        return [_stored(row) for row in LLMKey.objects.filter(user_id=user_id).order_by("provider")]

    def all(self) -> Iterator[StoredKey]:
        return map(_stored, LLMKey.objects.order_by("id").iterator())

    def delete(self, user_id: str, provider: str) -> bool:
        return LLMKey.objects.filter(user_id=user_id, provider=provider).delete()[0] == 1

    def change(self, key: StoredKey, **fields: Any) -> bool:
        same = LLMKey.objects.filter(user_id=key.user_id, provider=key.provider, sealed=key.sealed)
        return same.update(**fields) == 1


def _stored(row: LLMKey) -> StoredKey:
    return StoredKey(
        user_id=row.user_id,
        provider=row.provider,
        sealed=row.sealed,
        last_four=row.last_four,
        created_at=row.created_at,
        used_at=row.used_at,
    )


class MemoryStore:
    """Stores keys in this process only, for tests and for scripts that run tasks themselves."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], StoredKey] = {}

    def put(self, key: StoredKey) -> None:
        self._keys[key.user_id, key.provider] = key

    def get(self, user_id: str, provider: str) -> StoredKey | None:
        return self._keys.get((user_id, provider))

    def of_user(self, user_id: str) -> list[StoredKey]:
        return [key for (owner, _), key in sorted(self._keys.items()) if owner == user_id]

    def all(self) -> Iterator[StoredKey]:
        return iter(list(self._keys.values()))

    def delete(self, user_id: str, provider: str) -> bool:
        return self._keys.pop((user_id, provider), None) is not None

    def change(self, key: StoredKey, **fields: Any) -> bool:
        now = self._keys.get((key.user_id, key.provider))
        if now is None or now.sealed != key.sealed:
            return False
        self._keys[key.user_id, key.provider] = replace(now, **fields)
        return True


def _redis_store() -> KeyStore:
    store: KeyStore = import_string("llmkeys.redis_store.RedisStore")(settings.APFLOW.redis.url)
    return store


#: `llm.key_store` → a function that creates the store.
STORES: Final[Mapping[str, Callable[[], KeyStore]]] = MappingProxyType(
    {
        "database": DatabaseStore,
        "redis": _redis_store,
        "memory": MemoryStore,
    }
)


@cache
def _made(kind: str) -> KeyStore:
    return STORES[kind]()


def key_store() -> KeyStore:
    """Return the store that the operator has chosen."""
    return _made(settings.APFLOW_LLM.key_store)


def forget() -> None:
    """Create the store again at its next use: the settings have changed."""
    _made.cache_clear()
