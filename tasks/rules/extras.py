"""The optional dependencies: which are installed, and how to install the others."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from types import MappingProxyType
from typing import Final

EXTRAS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "llm": "litellm",
        "crewai": "crewai",
        "langgraph": "langgraph",
        "grpc": "grpc_health",
        "scrape": "trafilatura",
        "ssh": "asyncssh",
        "ray": "ray",
    }
)
"""Each extra of an executor or a setting, and the module whose presence shows that it is installed."""
NOT_IN_ALL: Final = frozenset({"ray"})
"""The extras that `make serve SET=all` leaves out."""


def is_installed(extra: str) -> bool:
    return find_spec(EXTRAS[extra]) is not None


@cache
def how_to_install(extra: str) -> str:
    """Return the command that installs an extra beside an installed wheel, and the one for a clone.

    The first has the requirements of the extra: pip would look for our name on PyPI, where it is the
    predecessor's.
    """
    in_clone = f".venv/bin/pip install -e '.[{extra}]'" if extra in NOT_IN_ALL else "make serve SET=all"
    try:
        needed = [each.partition(";") for each in requires("aipartnerupflow") or ()]
    except PackageNotFoundError:  # a clone whose packages are elsewhere
        return in_clone
    packages = [f"'{name.strip()}'" for name, _, marker in needed if f"extra == '{extra}'" in marker.replace('"', "'")]
    return f"pip install {' '.join(packages)}, or in a clone of the repository: {in_clone}"
