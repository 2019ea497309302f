"""How to install an optional dependency: one sentence for all messages that say that it is missing."""

from typing import Final

NOT_IN_ALL: Final = frozenset({"ray"})
"""The extras that `make serve SET=all` leaves out."""


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra beside an installed wheel, and the one for a clone.

    The version keeps pip from installing the predecessor, which has the same name on PyPI.
    """
    in_clone = f".venv/bin/pip install -e '.[{extra}]'" if extra in NOT_IN_ALL else "make serve SET=all"
    return f"pip install 'aipartnerupflow[{extra}]>=1', or in a clone of the repository: {in_clone}"
