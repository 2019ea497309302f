"""The address of a wait for an event: `/hooks/{token}`. It ends the wait, once, and needs no login.

A token is the id of the wait with a signature. It is not stored, and shown only to those who may
operate the task.
"""

from typing import Final

from django.conf import settings
from django.core import signing

from accounts.users import is_disabled
from tasks.models import Question
from tasks.status import WaitKind

SALT: Final = "tasks.hooks"  # part of every signature: another salt invalidates all existing addresses
PATH: Final = "/hooks/"


def hook_url(wait: Question) -> str | None:
    """Return the address: absolute if `server.public_url` is set, else a path. None for a wait for a time."""
    if wait.kind != WaitKind.EVENT:
        return None
    return f"{(settings.APFLOW.server.public_url or '').rstrip('/')}{PATH}{_signer().sign(wait.id)}"


def wait_of(token: str) -> Question | None:
    """Return the wait of this token. None: it is none, or the wait is over, or its owner is disabled."""
    try:
        wait_id = _signer().unsign(token)
    except signing.BadSignature:
        return None
    waits = Question.objects.filter(kind=WaitKind.EVENT).unanswered().in_open_runs()
    wait = waits.filter(id=wait_id).first()
    return None if wait is None or is_disabled(str(wait.user_id)) else wait


def _signer() -> signing.Signer:
    return signing.Signer(salt=SALT, sep=".")
