"""Secrets that all machines of an installation must share, compared by fingerprints in the database.

A machine with another `auth.jwt_secret` rejects the tokens of the others, and one with other
`llm.encryption_keys` cannot decrypt what they store. Without a comparison this is noticed late.

A fingerprint is made with scrypt and a random salt: it is slow to compute on purpose, so that not
even a weak secret can be guessed from a copy of the database. Each machine publishes its own while
its processes live, so a secret can be changed once no process with the old one is left.

Every process that may sign also notes when the JWT secret that it has last signed, again and again while it
lives, so that `doctor` can say when an old one may be removed.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from tasks.models import InstallationFact
from tasks.queue import leases

FRESH_SECONDS: Final = 60
"""A machine that has not published for this long has stopped."""
FORGET_HOURS: Final = 24
SALT: Final = "secret_salt"
PREFIX: Final = "secret:"
COST: Final = {"n": 2**14, "r": 8, "p": 1}
FIXES: Final[Mapping[str, str]] = {
    "auth.jwt_secret": "Set the same AIPARTNERUPFLOW_JWT_SECRET on all machines.",
    "llm.encryption_keys": "Set the same AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS on all machines; "
    "the file llm_key in the data folder of the other one has the key that it generated.",
    "a2a.signing_key": "Copy the same key file to all machines.",
}
#: How a value changes while processes with the old one live.
CHANGES: Final[Mapping[str, str]] = {
    "auth.jwt_secret": "To change the value while processes run, first add the new one to auth.accepted_jwt_secrets "
    "of all of them, and keep the old one there; see docs/how-to/accounts.md.",
    "llm.encryption_keys": "To change the value while processes run, first add the new one to the end of the list on all "
    "machines; see docs/how-to/llm-keys.md.",
}
SIGNED: Final = "signed:"
FORGET_DAYS: Final = 400
"""Longer than the longest life of a token (`auth.refresh_days`)."""


class SecretsDiffer(Exception):
    """A secret of this process is not the one that a live process of the installation has."""

    def __init__(self, name: str, *, host: str) -> None:
        self.message = f"{name}: another value than that of the processes on {host}, which use the same database."
        self.fix = (
            f"{FIXES[name]} {CHANGES.get(name, 'To change the value, stop all processes that have the old one first.')}"
        )
        super().__init__(f"{self.message}\n{self.fix}")


@dataclass(frozen=True, slots=True)
class Published:
    """The fingerprints of one secret on one machine, the one in use first, and the last process that published them."""

    name: str
    host: str
    process: str
    fingerprints: Sequence[str]

    @property
    def is_alive(self) -> bool:
        """Whether the process lives: exactly for one of this machine; for others, whether the row is fresh."""
        return not leases.dead_owners([self.process])


def join() -> None:
    """Compare the secrets of this process with those of live processes, then publish its own.

    Call it when a server or worker starts. Raises SecretsDiffer.
    """
    mine = _own_fingerprints(salt_of_installation())
    with transaction.atomic():
        InstallationFact.objects.select_for_update().get(name=SALT)  # processes that start together take turns
        _raise_if_different(mine)
        for name, fingerprints in mine.items():
            value = {"host": leases.this_host(), "process": leases.process_name(), "fingerprints": fingerprints}
            InstallationFact.objects.update_or_create(
                name=_fact_name(name, fingerprints), defaults={"value": value, "updated_at": Now()}
            )


def compare() -> None:
    """Compare without publishing. Raises SecretsDiffer."""
    salt = InstallationFact.objects.filter(name=SALT).values_list("value", flat=True).first()
    if salt is not None:
        _raise_if_different(_own_fingerprints(salt))


def keep_fresh() -> None:
    """Publish that processes of this machine are alive, and forget machines that have stopped long ago."""
    due = Now() - timedelta(seconds=FRESH_SECONDS / 6)
    mine = [_fact_name(*each) for each in _own_fingerprints(salt_of_installation()).items()]
    for fact in InstallationFact.objects.filter(name__in=mine, updated_at__lt=due):
        fact.value = fact.value | {"process": leases.process_name()}
        fact.updated_at = Now()
        fact.save(update_fields=["value", "updated_at"])
    old = Now() - timedelta(hours=FORGET_HOURS)
    InstallationFact.objects.filter(name__startswith=PREFIX, updated_at__lt=old).delete()


def _raise_if_different(mine: Mapping[str, Sequence[str]]) -> None:
    fresh = Now() - timedelta(seconds=FRESH_SECONDS)
    facts = InstallationFact.objects.filter(name__startswith=PREFIX, updated_at__gte=fresh)
    for name, value in facts.order_by("name").values_list("name", "value"):
        other = Published(name=name.split(":")[1], **value)
        own, theirs = mine.get(other.name), other.fingerprints
        # Also the reverse for tokens: a client may send each request to another machine.
        if not own or (theirs[0] in own and (other.name != "auth.jwt_secret" or own[0] in theirs)):
            continue
        if other.is_alive:
            raise SecretsDiffer(other.name, host=other.host)


def _own_fingerprints(salt: str) -> dict[str, list[str]]:
    config = settings.APFLOW
    key_file = config.a2a.signing_key
    secrets = {  # with those that this process still accepts
        "auth.jwt_secret": list(config.auth.jwt_secrets) if config.auth.is_on else [],
        "llm.encryption_keys": list(settings.APFLOW_ENCRYPTION_KEYS),
        "a2a.signing_key": [Path(key_file).expanduser().read_text()] if key_file else [],
    }
    return {name: [fingerprint(each, salt) for each in values] for name, values in secrets.items() if values}


def salt_of_installation() -> str:
    """Return the salt of the installation: equal secrets must have equal fingerprints on all machines."""
    fact, _ = InstallationFact.objects.get_or_create(
        name=SALT, defaults={"value": secrets.token_hex(16), "updated_at": Now()}
    )
    salt: str = fact.value
    return salt


@cache
def fingerprint(secret: str, salt: str) -> str:
    """Return the scrypt hash of a secret as hex. Takes about 50 ms, once in a process."""
    return hashlib.scrypt(secret.encode(), salt=bytes.fromhex(salt), **COST).hex()


def _fact_name(name: str, fingerprints: Sequence[str]) -> str:
    """Return the name of the fact. Processes of one machine that have different secrets, as during a change, have different facts."""
    place = " ".join((leases.this_host(), *fingerprints))
    return f"{PREFIX}{name}:{hashlib.sha256(place.encode()).hexdigest()[:16]}"


def note_signer() -> None:
    """Note that a process with this `auth.jwt_secret` is alive."""
    auth = settings.APFLOW.auth
    if not auth.is_on or auth.jwt_secret is None:
        return
    noted = InstallationFact.objects.filter(name=_signer_name(auth.jwt_secret))
    if not noted.filter(updated_at__lt=Now() - timedelta(seconds=FRESH_SECONDS / 6)).update(updated_at=Now()):
        InstallationFact.objects.get_or_create(
            name=_signer_name(auth.jwt_secret), defaults={"value": {}, "updated_at": Now()}
        )
    old = Now() - timedelta(days=FORGET_DAYS)
    InstallationFact.objects.filter(name__startswith=SIGNED, updated_at__lt=old).delete()


def last_signed_at(secret: str) -> datetime | None:
    """Return the time when a live process last had this secret as `auth.jwt_secret`, up to twenty seconds ago. None: never."""
    noted = InstallationFact.objects.filter(name=_signer_name(secret))
    return noted.values_list("updated_at", flat=True).first()


def _signer_name(secret: str) -> str:
    return f"{SIGNED}{fingerprint(secret, salt_of_installation())[:32]}"
