"""Files, their bytes in the store, what refers to them, and the space that users have taken."""

from typing import ClassVar, Self

from django.db import models

from accounts.callers import Caller
from tasks.ids import new_id
from tasks.rules.files import FILE, OF_NO_TYPE
from tasks.rules.strict_json import Json


class FileBytes(models.Model):
    """The bytes of files of one owner, an object in the store under `key`.

    `sha256` is null while they are written; `bytes` are then those that are reserved. From `doomed_at` on no file may
    refer to them, and the object is removed. `sealed_key` is the key of an encrypted object, encrypted (`llmkeys.cipher`).
    """

    key = models.CharField(primary_key=True, max_length=36, default=new_id)
    user_id = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64, null=True)
    bytes = models.BigIntegerField(default=0)
    sealed_key = models.TextField(null=True)
    doomed_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["user_id", "sha256"], condition=models.Q(doomed_at=None), name="bytes_once_per_owner"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["doomed_at"], name="doomed_bytes", condition=models.Q(doomed_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def context(self) -> str:
        """The context in which `sealed_key` is encrypted: it cannot be moved to another object."""
        return f"file:{self.key}"


class FileQuerySet(models.QuerySet["File"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the files that the caller may read and change."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)


class File(models.Model):
    """A file of one owner. It is complete from `completed_at` on; before, `bytes` and `sha256` are those that were announced.

    `touched_at` is when bytes last arrived, null once it is complete. `unused_since` is null while something refers to it.
    """

    id = models.CharField(primary_key=True, max_length=36, default=new_id)
    user_id = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    media_type = models.CharField(max_length=191, default=OF_NO_TYPE)
    bytes = models.BigIntegerField(null=True)
    sha256 = models.CharField(max_length=64, null=True)
    stored = models.ForeignKey(FileBytes, models.DO_NOTHING, related_name="files", db_constraint=False)
    created_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True)
    touched_at = models.DateTimeField(null=True)
    unused_since = models.DateTimeField(null=True)
    is_made = models.BooleanField(default=False)  # by a run: it goes with the last tree that names it

    objects = FileQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["user_id", "-id"], name="file_of_owner"),
            models.Index(fields=["touched_at"], name="file_that_arrives", condition=models.Q(touched_at__isnull=False)),
            models.Index(fields=["unused_since"], name="file_unused", condition=models.Q(unused_since__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"

    @property
    def value(self) -> Json:
        """The file as a value of JSON."""
        return {
            FILE: self.id,
            "name": self.name,
            "media_type": self.media_type,
            "bytes": self.bytes,
            "sha256": self.sha256,
        }


class FileReference(models.Model):
    """A file that something names: `holder` is `tree:` with the id of the root, `flow:`, `schedule:`, `dataset:` or `event:` with an id."""

    holder = models.CharField(max_length=261)
    file = models.ForeignKey(File, models.DO_NOTHING, related_name="references", db_constraint=False)

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["holder", "file"], name="reference_once"),
        ]

    def __str__(self) -> str:
        return f"{self.holder}: {self.file_id}"


class FileSpace(models.Model):
    """The bytes that the objects of a user take in the store, with those that are reserved."""

    user_id = models.CharField(primary_key=True, max_length=255)
    bytes = models.BigIntegerField(default=0)

    class Meta:
        app_label = "tasks"

    def __str__(self) -> str:
        return f"{self.bytes} bytes of {self.user_id}"
