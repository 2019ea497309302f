"""The optional dependencies: which are installed, and how to install the others."""

import re
import sys
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
        "s3": "obstore",
        "pdf": "pypdfium2",
        "ray": "ray",
    }
)
"""Each extra of an executor or a setting, and the module whose presence shows that it is installed."""
NOT_IN_ALL: Final = frozenset({"ray"})
"""The extras that `make serve SET=all` leaves out."""


def is_installed(extra: str) -> bool:
    return find_spec(EXTRAS[extra]) is not None


@cache
def how_to_install(extra: str, *, python: tuple[int, int] = sys.version_info[:2]) -> str:
    """Return the command that installs an extra beside an installed wheel, and the one for a clone.

    The first has the requirements of the extra: pip would look for our name on PyPI, where it is the
    predecessor's. If a package of the extra has no release for this Python, the text says so first.
    """
    in_clone = f".venv/bin/pip install -e '.[{extra}]'" if extra in NOT_IN_ALL else "make serve SET=all"
    try:
        needed = [each.partition(";") for each in requires("aipartnerupflow") or ()]
    except PackageNotFoundError:  # a clone whose packages are elsewhere
        return in_clone
    own = [(name.strip(), marker) for name, _, marker in needed if f"extra == '{extra}'" in marker.replace('"', "'")]
    command = " ".join(["pip install", *(f"'{name}'" for name, _ in own)])
    for name, marker in own:
        below = re.search(r"python_version < ['\"]3\.(\d+)", marker)
        if below and python >= (3, minor := int(below[1])):
            package, here = re.split("[<>=~!]", name)[0], ".".join(map(str, python))
            return (
                f"Python 3.{minor - 1} or older, because {package} has no release for Python {here}. With that Python: "
                f"{command}, or in a clone of the repository: rm -r .venv && {in_clone}"
            )
    return f"{command}, or in a clone of the repository: {in_clone}"
