"""A password hasher that is fast and counts what it is asked to do."""

from typing import ClassVar

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class CountingHasher(PBKDF2PasswordHasher):
    algorithm = "counting"
    iterations = 1
    encoded: ClassVar[list[str]] = []

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        self.encoded.append(password)
        return super().encode(password, salt, iterations)
