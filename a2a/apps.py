from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.utils.module_loading import import_string

from llmkeys.signals import key_is_set


class WireConfig(AppConfig):
    """Sets its own label and path: the A2A SDK is a package `a2a`, too, and shares our `__path__`."""

    name = "a2a"
    label = "apflow_a2a"
    path = str(Path(__file__).parent)
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts.recent import user_changed  # noqa: PLC0415  models cannot be imported before

        key_is_set.connect(go_on_with_key, dispatch_uid="a2a")
        user_changed.connect(check_streams, dispatch_uid="a2a")


def go_on_with_key(*, user_id: str, **_: Any) -> None:
    """Resume A2A Tasks that wait for this LLM key.

    Imports A2A code late: not every process needs it.
    """
    import_string("a2a.protocol.messages.go_on_with_key")(user_id=user_id)


def check_streams(*, user_id: str, **_: Any) -> None:
    """Let the open streams of a user be checked. Imports Channels late: not every process needs it."""
    import_string("a2a.live.access.announce")(user_id)
