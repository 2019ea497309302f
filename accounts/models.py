"""Rows beside Django's own users: API keys, links and tokens that must not work again, tries to log in."""

from datetime import datetime
from typing import ClassVar

from django.contrib.auth.models import User
from django.db import models
from django.utils import timezone

from accounts.callers import Role

HASH_CHARACTERS = 64  # of SHA-256, as hexadecimal digits


class SpentTokens(models.Manager["SpentToken"]):
    def spend(self, jti: str, *, expires_at: datetime) -> bool:
        """Use it up. False: somebody did before."""
        self.filter(expires_at__lt=timezone.now()).delete()
        return self.get_or_create(jti=jti, defaults={"expires_at": expires_at})[1]


class SpentToken(models.Model):
    """The id of a refresh token or of a whole login that must not work again, kept until it would not work anyway.

    simplejwt's own blacklist app keeps every refresh token in plain text; an id is of no use to a thief.
    """

    jti = models.CharField(primary_key=True, max_length=255)
    expires_at = models.DateTimeField(db_index=True)

    objects: ClassVar[SpentTokens] = SpentTokens()

    def __str__(self) -> str:
        return self.jti


class APIKey(models.Model):
    """A key that speaks for its owner, with at most the owner's role. Only its hash is kept; `prefix` is what people know it by."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12, unique=True)
    hash = models.CharField(max_length=HASH_CHARACTERS, unique=True)
    role_limit = models.PositiveSmallIntegerField(choices=[(role.value, str(role)) for role in Role])
    is_read_only = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"


class LoginLink(models.Model):
    """A link that logs its user in once. Only its hash is kept."""

    hash = models.CharField(primary_key=True, max_length=HASH_CHARACTERS)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"for {self.user}"


class LoginTry(models.Model):
    """A password that was tried within the last minute. `scope` is the hash of a user name or an address."""

    scope = models.CharField(max_length=HASH_CHARACTERS)
    at = models.DateTimeField(db_index=True)

    class Meta:
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["scope", "at"], name="tries_of_scope")]

    def __str__(self) -> str:
        return f"{self.scope[:8]} at {self.at:%H:%M:%S}"
