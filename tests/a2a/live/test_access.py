"""Waits for changes of users within a process, and a Redis that is not there."""

import asyncio
import logging
import os
import subprocess
import sys
import threading

import pytest
from django.conf import LazySettings

from a2a.live.access import LAYER, AccessChanges, announce
from tests.ports import free_port

LONG_SECONDS = 60.0
WAITS = """
import django
django.setup()
from channels.layers import get_channel_layer
layer = get_channel_layer("access")
print(layer.brpop_timeout, layer.create_pool(0).connection_kwargs["socket_timeout"])
"""


async def test_a_change_ends_the_waits_of_its_user_only_from_any_thread() -> None:
    changes = AccessChanges()
    alice, also_alice, bob = (
        asyncio.create_task(changes.wait(user_id, most_seconds=LONG_SECONDS)) for user_id in ("alice", "alice", "bob")
    )
    await asyncio.sleep(0)
    threading.Thread(target=changes.tell, args=["alice"]).start()
    await asyncio.gather(alice, also_alice)
    assert not bob.done()
    changes.tell(None)
    await bob


async def test_a_wait_has_an_end() -> None:
    await AccessChanges().wait("alice", most_seconds=0.01)


def test_a_change_is_made_although_redis_is_not_there(settings: LazySettings, caplog: pytest.LogCaptureFixture) -> None:
    hosts = [f"redis://127.0.0.1:{free_port()}"]
    settings.CHANNEL_LAYERS = {
        LAYER: {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": hosts}},
    }
    with caplog.at_level(logging.WARNING, logger="a2a.live.access"):
        announce("alice")
    assert "Redis is unavailable" in caplog.text


def test_the_client_of_redis_waits_longer_than_the_layer_that_listens_with_it() -> None:
    with_redis = os.environ | {"AIPARTNERUPFLOW_REDIS_URL": f"redis://127.0.0.1:{free_port()}"}
    with_redis["DJANGO_SETTINGS_MODULE"] = "apflow_site.settings"
    done = subprocess.run([sys.executable, "-c", WAITS], env=with_redis, capture_output=True, text=True, check=True)
    layer, client = map(float, done.stdout.split())
    assert layer < client
