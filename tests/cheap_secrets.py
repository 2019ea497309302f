"""Hashes of passwords and of shared secrets that cost next to nothing to make.

They are slow on purpose, so that a stolen database does not give them away. Those of tests are no secrets, and a run of
the suite makes hundreds.
"""

from typing import Final

ITERATIONS: Final = 1_000
BLOCKS: Final = 2


def make_hashes_cheap() -> None:
    """For this process and those that it forks. It is too late for what has been hashed already."""
    from django.contrib.auth.hashers import PBKDF2PasswordHasher  # noqa: PLC0415  needs a configured project

    from tasks.services import shared_secrets  # noqa: PLC0415

    PBKDF2PasswordHasher.iterations = ITERATIONS
    shared_secrets.COST["n"] = BLOCKS
