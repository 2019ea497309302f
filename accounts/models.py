"""Tables beside Django's users: API keys, one-time links, revoked tokens, failed logins and the audit log."""

from datetime import datetime
from typing import ClassVar

from django.contrib.auth.models import User
from django.db import models
from django.utils import timezone

from accounts.callers import Role

HASH_CHARACTERS = 64  # of SHA-256, as hexadecimal digits


class SpentTokens(models.Manager["SpentToken"]):
    def spend(self, jti: str, *, expires_at: datetime) -> bool:
        """Mark the token as used. Returns False if it was used before."""
        self.filter(expires_at__lt=timezone.now()).delete()
        return self.get_or_create(jti=jti, defaults={"expires_at": expires_at})[1]


class SpentToken(models.Model):
    """The id of a used refresh token, of a login that has ended, or of a used signature; deleted after it would expire.

    simplejwt's blacklist app stores every refresh token in plain text; an id alone is useless to a
    thief.
    """

    jti = models.CharField(primary_key=True, max_length=255)
    expires_at = models.DateTimeField(db_index=True)

    objects: ClassVar[SpentTokens] = SpentTokens()

    class Meta:
        app_label = "accounts"

    def __str__(self) -> str:
        return self.jti


class APIKey(models.Model):
    """An API key of a user, with at most the user's role.

    Only its SHA-256 hash is stored. `prefix`, its first characters, identifies it in lists.
    """

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
        app_label = "accounts"
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"


class LoginLink(models.Model):
    """A link that logs its user in once. Only its SHA-256 hash is stored."""

    hash = models.CharField(primary_key=True, max_length=HASH_CHARACTERS)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    expires_at = models.DateTimeField()

    class Meta:
        app_label = "accounts"

    def __str__(self) -> str:
        return f"for {self.user}"


class LoginTry(models.Model):
    """A failed login of the last minute. `scope` is the hash of an address, or of it and a user name."""

    scope = models.CharField(max_length=HASH_CHARACTERS)
    at = models.DateTimeField(db_index=True)

    class Meta:
        app_label = "accounts"
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["scope", "at"], name="tries_of_scope")]

    def __str__(self) -> str:
        return f"{self.scope[:8]} at {self.at:%H:%M:%S}"


class AuditEntry(models.Model):
    """A change by a user or program, as `accounts.audit` records it. It never contains a secret."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    action = models.CharField(max_length=32)
    actor = models.CharField(max_length=255)  # the id of the user; empty if unknown
    address = models.CharField(max_length=255)
    target = models.CharField(max_length=255)
    details = models.JSONField(default=dict)

    class Meta:
        app_label = "accounts"
        verbose_name_plural = "audit entries"
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["actor", "at"], name="audit_of_actor")]

    def __str__(self) -> str:
        return f"{self.action} at {self.at:%Y-%m-%d %H:%M:%S}"
