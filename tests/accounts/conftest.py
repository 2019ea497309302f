import asyncio
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client

from apflow_site.config import Config
from apflow_site.db import pools
from tests.sections import replace

SECRET = "correct-horse-battery-staple-0123456789"
PASSWORD = "open sesame"


@pytest.fixture(autouse=True)
def auth_on(settings: LazySettings) -> None:
    settings.APFLOW = _with_auth(settings.APFLOW, enabled=True)
    settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, "SIGNING_KEY": SECRET}
    settings.PASSWORD_HASHERS = ["tests.accounts.hashers.CountingHasher"]


@pytest.fixture
def auth_off(settings: LazySettings) -> None:
    settings.APFLOW = _with_auth(settings.APFLOW, enabled=False)


def _with_auth(config: Config, *, enabled: bool) -> Config:
    return replace(config, auth=replace(config.auth, enabled=enabled, jwt_secret=SECRET))


@pytest.fixture
def served(transactional_db: None) -> Iterator[None]:
    """What the views do on their own threads is seen by the test; their connections end with it."""
    yield
    asyncio.run(_close_connections())


async def _close_connections() -> None:
    await pools.auth(connections.close_all)
    await pools.login(connections.close_all)


@pytest.fixture
def client(served: None) -> Client:
    return Client(enforce_csrf_checks=True, headers={"Host": "localhost"})


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", password=PASSWORD)


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_superuser("root", password=PASSWORD)


def minted(*, key: str = SECRET, headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token minted elsewhere: for an hour unless `exp` says otherwise (None: without)."""
    claims = {"exp": int(time.time()) + 3600} | claims
    return jwt.encode(
        {name: value for name, value in claims.items() if value is not None}, key, algorithm="HS256", headers=headers
    )
