"""The rows: keys and named secrets that users store, and keys sent with a request.

All contain the secret only in encrypted form.
"""

from typing import ClassVar

from django.db import models

from llmkeys.secret_forms import CREDENTIALS


class LLMKey(models.Model):
    """A user's key for a provider. `last_four` identifies it to the user."""

    user_id = models.CharField(max_length=255)
    provider = models.CharField(max_length=64)
    sealed = models.TextField()
    last_four = models.CharField(max_length=4)
    created_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "llmkeys"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "provider"], name="one_llm_key_per_provider"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} …{self.last_four} of {self.user_id}"


class RunSecret(models.Model):
    """A key that `user_id` sent for one run of a tree; `run_id` is null until that run is created.

    `model_names` are the models that the tree uses, to infer the provider of a key sent without
    one.
    """

    tree_id = models.CharField(max_length=255)
    run_id = models.CharField(max_length=36, null=True, unique=True)
    user_id = models.CharField(max_length=255)
    provider = models.CharField(max_length=64, null=True)
    model_names = models.JSONField(default=list)
    sealed = models.TextField()
    expires_at = models.DateTimeField()

    class Meta:
        app_label = "llmkeys"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["tree_id"], name="secret_of_tree"),
            models.Index(fields=["expires_at"], name="secret_age"),
        ]

    def __str__(self) -> str:
        return f"a key for {self.run_id or 'the next run'} of {self.tree_id}"


class NamedSecret(models.Model):
    """A named secret of a user or, if `user_id` is empty, one that the operator shares.

    A shared one is for `users`, or for all users without any. It may only be sent to `allow_hosts`,
    if there are any, and used in the inputs `allow_in`; None stands for the default.
    """

    user_id = models.CharField(max_length=255, blank=True)
    name = models.CharField(max_length=64)
    sealed = models.TextField()
    allow_hosts = models.JSONField(default=list)
    allow_in = models.JSONField(null=True)
    users = models.JSONField(default=list)
    created_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "llmkeys"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "name"], name="one_secret_per_name"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.user_id or 'the operator'}"

    @property
    def inputs_allowed(self) -> list[str]:
        """The names of the inputs in which tasks may use it; empty: any."""
        allowed: list[str] | None = self.allow_in
        return allowed if allowed is not None else [*CREDENTIALS] if self.allow_hosts else []
