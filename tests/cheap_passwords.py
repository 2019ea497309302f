"""Passwords whose hashes cost next to nothing.

A hash is slow on purpose, so that a stolen database does not give the passwords away. Those of tests are no secret, and
a run of the suite hashes more than a hundred, for a quarter of a second each.
"""

from typing import Final

ITERATIONS: Final = 1_000


def make_passwords_cheap() -> None:
    """For what this process and those that it forks hash from now on. Older hashes stay valid: each names its cost."""
    from django.contrib.auth.hashers import PBKDF2PasswordHasher  # noqa: PLC0415  needs a configured project

    PBKDF2PasswordHasher.iterations = ITERATIONS
