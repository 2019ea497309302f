"""Threads on which async code checks tokens and passwords.

Each thread keeps its database connection.
"""

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
    # Password hashing is slow on purpose. On a thread of their own, logins do not delay requests
    # with a token, and password guessing uses at most one core.
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="login")


async def look_up(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a short synchronous function that uses the database."""
    return await _run(_look_ups(), function, *args, **kwargs)


async def log_in(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a synchronous function that hashes a password."""
    return await _run(_logins(), function, *args, **kwargs)


async def _run(pool: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    def call() -> T:
        # Outside of Django's request cycle, Django does not replace connections that have broken.
        connection.close_if_unusable_or_obsolete()
        return function(*args, **kwargs)

    return await sync_to_async(call, thread_sensitive=False, executor=pool)()
