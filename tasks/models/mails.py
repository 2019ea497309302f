"""The number of mails that each user has sent."""

from typing import ClassVar

from django.db import models


class MailCount(models.Model):
    """The number of addresses to which the tasks and notifications of a user have tried to send mails on a day (UTC)."""

    user_id = models.CharField(max_length=255)
    day = models.DateField(db_index=True)
    recipients = models.PositiveBigIntegerField(default=0)

    objects: ClassVar[models.Manager["MailCount"]] = models.Manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "day"], name="mails_of_user_and_day"),
        ]

    def __str__(self) -> str:
        return f"{self.recipients} of {self.user_id} on {self.day}"
