from typing import Any

from django.apps import AppConfig
from django.utils.module_loading import import_string

from llmkeys.signals import deleted_in_admin


class TasksConfig(AppConfig):
    name = "tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        deleted_in_admin.connect(record_deletion, dispatch_uid="audit")


def record_deletion(*, row: Any, actor: str, **_: Any) -> None:
    """Record the deletion of an LLM key or a secret in the audit log. Its code is imported late: models come first."""
    import_string("tasks.services.secrets.stored_secrets.record_deletion")(row=row, actor=actor)
