"""Links by which one question can be answered, once, without logging in: for a message to whoever has to decide.

Who has the link may answer, as from whom it was made for; so it is made only for those who may answer anyhow.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from django.conf import settings
from django.core import signing

from tasks.models import Question

SALT: Final = "tasks.dashboard.answer_tokens"
LINK_SECONDS: Final = 7 * 86_400
MAX_NAME_CHARACTERS: Final = 200


class BadLink(Exception):
    """The link is not one of this server's, or is too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerToken:
    """What a link says: which question, and for whom the link was made."""

    question_id: str
    user_id: str

    @property
    def by(self) -> str:
        """Who has answered then, as far as we know."""
        return f"{self.user_id[:MAX_NAME_CHARACTERS]} (by link)"


def link_to(question: Question, *, user_id: str) -> str:
    """The address at which it can be answered: whole where `server.public_url` is set, else a path."""
    token = signing.dumps([question.id, user_id], salt=SALT)
    return f"{(settings.APFLOW.server.public_url or '').rstrip('/')}/answer/{quote(token)}"


def read_link(token: str) -> AnswerToken:
    """Raises BadLink."""
    try:
        question_id, user_id = signing.loads(token, salt=SALT, max_age=LINK_SECONDS)
    except signing.BadSignature:
        raise BadLink from None
    return AnswerToken(question_id=question_id, user_id=user_id)
