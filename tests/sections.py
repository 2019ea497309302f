"""Other values for the settings of a test."""

from typing import Any, TypeVar

from pydantic import BaseModel

SectionType = TypeVar("SectionType", bound=BaseModel)


def replace(section: SectionType, **values: Any) -> SectionType:
    """The section with these values, which are not checked."""
    assert values.keys() <= type(section).model_fields.keys()
    return section.model_copy(update=values)
