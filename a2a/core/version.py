"""The version of the software."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def software_version() -> str:
    """Return the installed version, or "checkout" if the package is not installed."""
    try:
        return version("aipartnerupflow")
    except PackageNotFoundError:
        return "checkout"
