"""Words of a model as they arrive: events of the type `token`. Pure.

Clients that do not ask for this type get the same words as `log` events, which they have always been.
"""

from typing import Final

from tasks.rules.strict_json import Json

TOKEN: Final = "token"


def as_sent(event: Json, *, has_tokens: bool) -> Json:
    """Return the event as a client gets it; `has_tokens`: it has asked for the type `token`."""
    return event if has_tokens or event["type"] != TOKEN else event | {"type": "log", "result": None}
