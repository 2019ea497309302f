from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.utils.module_loading import import_string

from llmkeys.signals import key_is_set


class WireConfig(AppConfig):
    """The label is not the package's name: another `a2a` may be installed. The path is ours alone, as `__path__` may have two."""

    name = "a2a"
    label = "apflow_a2a"
    path = str(Path(__file__).parent)
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        key_is_set.connect(go_on_with_key, dispatch_uid="a2a")


def go_on_with_key(*, user_id: str, **_: Any) -> None:
    """Start what waits for the key. Imported only then: not every process that starts Django speaks A2A."""
    import_string("a2a.protocol.messages.go_on_with_key")(user_id=user_id)
