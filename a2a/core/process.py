"""The web process: its version, and its shutdown in two phases.

First it drains, then it stops. While it drains (`server.drain_seconds`), it answers every request, `GET /ready` returns 503,
and each response closes its connection, so that load balancers and clients move to other processes.
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def software_version() -> str:
    """Return the installed version, or "checkout" if the package is not installed."""
    try:
        return version("aipartnerupflow")
    except PackageNotFoundError:
        return "checkout"


class Drain:
    """The phase of this process. Plain attributes: a signal handler sets them and may not lock."""

    is_on = False
    is_over = False


@cache
def this_drain() -> Drain:
    """Return the drain of this process."""
    return Drain()
