"""Names that users give to filtered lists of the dashboard."""

from typing import ClassVar

from django.db import models


class SavedView(models.Model):
    """The filters of a list, as its URL has them, under a name of its user. `place` is the list."""

    user_id = models.CharField(max_length=255)
    place = models.CharField(max_length=16)
    name = models.CharField(max_length=100)
    query = models.TextField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "place", "name"], name="saved_view_of_user"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.user_id}"
