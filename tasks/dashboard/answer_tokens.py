"""Signed links to answer one question, once, without logging in.

The answer is recorded as the user for whom the link was created, so links are created only for users who may answer.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from django.conf import settings
from django.core import signing

from tasks.models import Question

SALT: Final = "tasks.answer_links"  # part of every signature: another salt invalidates all existing links
LINK_SECONDS: Final = 7 * 86_400
MAX_NAME_CHARACTERS: Final = 200


class BadLink(Exception):
    """The link has no valid signature of this server, or has expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerToken:
    """The content of a link: the question, and the user for whom it was created."""

    question_id: str
    user_id: str

    @property
    def by(self) -> str:
        """The author of the answer, as recorded."""
        return f"{self.user_id[:MAX_NAME_CHARACTERS]} (by link)"


def link_to(question: Question, *, user_id: str) -> str:
    """Return the answer URL: absolute if `server.public_url` is set, else a path."""
    token = signing.dumps([question.id, user_id], salt=SALT)
    return f"{(settings.APFLOW.server.public_url or '').rstrip('/')}/answer/{quote(token)}"


def read_link(token: str) -> AnswerToken:
    """Verify and read a token. Raises BadLink."""
    try:
        question_id, user_id = signing.loads(token, salt=SALT, max_age=LINK_SECONDS)
    except signing.BadSignature:
        raise BadLink from None
    return AnswerToken(question_id=question_id, user_id=user_id)
