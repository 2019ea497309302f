"""Which version of the software this is."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def software_version() -> str:
    """The version that is installed, or "checkout" when the sources run as they lie there."""
    try:
        return version("aipartnerupflow")
    except PackageNotFoundError:
        return "checkout"
