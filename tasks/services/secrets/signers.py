"""The time when each JWT secret last signed, so that `doctor` can say when an old one may be removed.

A secret is known by its fingerprint (`shared_secrets`). Every process that may sign notes its own,
again and again while it lives.
"""

from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db.models.functions import Now

from tasks.models import InstallationFact
from tasks.services.secrets.shared_secrets import FRESH_SECONDS, fingerprint, salt_of_installation

PREFIX: Final = "signed:"
FORGET_DAYS: Final = 400
"""Longer than the longest life of a token (`auth.refresh_days`)."""


def note_signer() -> None:
    """Note that a process with this `auth.jwt_secret` is alive."""
    auth = settings.APFLOW.auth
    if not auth.is_on or auth.jwt_secret is None:
        return
    noted = InstallationFact.objects.filter(name=_fact_name(auth.jwt_secret))
    if not noted.filter(updated_at__lt=Now() - timedelta(seconds=FRESH_SECONDS / 6)).update(updated_at=Now()):
        InstallationFact.objects.get_or_create(
            name=_fact_name(auth.jwt_secret), defaults={"value": {}, "updated_at": Now()}
        )
    old = Now() - timedelta(days=FORGET_DAYS)
    InstallationFact.objects.filter(name__startswith=PREFIX, updated_at__lt=old).delete()


def last_signed_at(secret: str) -> datetime | None:
    """Return the time when a live process last had this secret as `auth.jwt_secret`, up to twenty seconds ago. None: never."""
    noted = InstallationFact.objects.filter(name=_fact_name(secret))
    return noted.values_list("updated_at", flat=True).first()


def _fact_name(secret: str) -> str:
    return f"{PREFIX}{fingerprint(secret, salt_of_installation())[:32]}"
