"""Users' keys in Redis: one hash per user, with a field per provider."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import orjson
from django.db import OperationalError
from redis import Redis
from redis.exceptions import RedisError

from llmkeys.stores import StoredKey

PREFIX: Final = "apflow:llm_keys:"


@contextmanager
def _reached() -> Iterator[None]:
    """Raise the error of an unavailable database if Redis is unavailable: the response is the same."""
    try:
        yield
    except RedisError as error:
        raise OperationalError(f"The key store (redis.url) does not answer: {type(error).__name__}") from error


class RedisStore:
    """Stores one hash per user, with a field per provider."""

    def __init__(self, url: str) -> None:
        self._redis: Any = Redis.from_url(url)  # its own annotations do not say whether a call must be awaited

    @_reached()
    def put(self, key: StoredKey) -> None:
        self._redis.hset(_name(key.user_id), key.provider, orjson.dumps(key))

    @_reached()
    def get(self, user_id: str, provider: str) -> StoredKey | None:
        return _loaded(self._redis.hget(_name(user_id), provider))

    @_reached()
    def of_user(self, user_id: str) -> list[StoredKey]:
        values = self._redis.hgetall(_name(user_id)).values()
        return sorted(filter(None, map(_loaded, values)), key=lambda key: key.provider)

    def all(self) -> Iterator[StoredKey]:
        for name in self._redis.scan_iter(f"{PREFIX}*"):
            yield from self.of_user(name.decode().removeprefix(PREFIX))

    @_reached()
    def delete(self, user_id: str, provider: str) -> bool:
        return bool(self._redis.hdel(_name(user_id), provider))

    @_reached()
    def change(self, key: StoredKey, **fields: Any) -> bool:
        name = _name(key.user_id)

        def set_fields(pipe: Any) -> bool:
            now = _loaded(pipe.hget(name, key.provider))
            pipe.multi()
            if now is None or now.sealed != key.sealed:
                return False
            pipe.hset(name, key.provider, orjson.dumps(replace(now, **fields)))
            return True

        return bool(self._redis.transaction(set_fields, name, value_from_callable=True))


def _name(user_id: str) -> str:
    return f"{PREFIX}{user_id}"


def _loaded(value: bytes | None) -> StoredKey | None:
    if value is None:
        return None
    fields = orjson.loads(value)
    for name in ("created_at", "used_at"):
        if fields[name] is not None:
            fields[name] = datetime.fromisoformat(fields[name])
    return StoredKey(**fields)
