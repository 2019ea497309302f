"""The threads on which async code checks tokens and passwords; each keeps its database connection."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connection

P = ParamSpec("P")
T = TypeVar("T")


@cache
def _look_ups() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="auth")


@cache
def _logins() -> ThreadPoolExecutor:
    # Hashing a password is slow on purpose. With a thread of their own, logins hold up nobody who has a token,
    # and guessing passwords never takes more than one core.
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="login")


async def look_up(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a short sync function that uses the database."""
    return await _run(_look_ups(), function, *args, **kwargs)


async def log_in(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a sync function that hashes a password."""
    return await _run(_logins(), function, *args, **kwargs)


async def _run(pool: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    def call() -> T:
        # Outside of Django's request cycle nobody else drops a connection that the server has closed.
        connection.close_if_unusable_or_obsolete()
        return function(*args, **kwargs)

    return await sync_to_async(call, thread_sensitive=False, executor=pool)()
