"""Page tokens: the sort key of the last row of a page, a time and an id."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime, timedelta

from tasks.rules.exceptions import InvalidParams


def token_of(moment: datetime, row_id: str) -> str:
    return urlsafe_b64encode(f"{moment.isoformat()} {row_id}".encode()).decode()


def place_of(token: str) -> tuple[datetime, str]:
    """Return the time and the id in a token. Raises InvalidParams if it is not a token of this server."""
    try:
        text, row_id = urlsafe_b64decode(token.encode()).decode().split(" ", 1)
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment, row_id = datetime.min, ""
    if moment.utcoffset() != timedelta(0) or "\0" in row_id:
        raise InvalidParams([("pageToken", "is not a token of this server: omit it to start at the first page")])
    return moment, row_id
