"""The values of columns that hold names."""

from enum import StrEnum

from tasks.status import Status


def choices_of(names: type[StrEnum]) -> list[tuple[str, str]]:
    return [(name.value, name.value) for name in names]


STATUS_CHOICES = choices_of(Status)
