"""The form of a valid named secret: its name, its value, and the hosts to which it may be sent. Pure."""

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Final

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
PLAIN: Final = "http://"
HOST: Final = re.compile(
    r"(http://)?((\*\.)?[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_-]{1,63})*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)"
)
"""A host name, all names below one (`*.example.com`), or an address; after `http://` also over plain HTTP."""
INPUT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
CREDENTIALS: Final = ("auth", "headers")
"""The inputs in which tasks may use a secret that is bound to hosts, unless it names others."""
HOST_CHARACTERS: Final = 253
SHORTEST: Final = 8
"""A shorter value could not be masked without masking ordinary words."""
MOST_LINES: Final = 100
"""The greatest number of lines in the values that one run uses: everything that comes back is searched for each line."""
MOST_HOSTS: Final = 50
MOST_USERS: Final = 1_000

TOO_SHORT: Final = (
    f"has fewer than {SHORTEST} characters. So short a value is not masked reliably in results and logs, because it "
    "may occur in ordinary text"
)


class MalformedSecret(Exception):
    """A secret cannot be stored. `field` is the parameter, `message` the reason, without the value."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(message)


def checked_name(name: str) -> str:
    """Return the name. Raises MalformedSecret."""
    if not NAME.fullmatch(name):
        raise MalformedSecret("name", "must have 1 to 64 letters, digits and underscores, and not begin with a digit")
    return name


def checked_value(value: str, *, max_bytes: int) -> str:
    """Return the value. Raises MalformedSecret."""
    if len(value.strip()) < SHORTEST:
        raise MalformedSecret("value", TOO_SHORT)
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise MalformedSecret("value", "contains a lone surrogate, which is not text") from None
    if len(value.splitlines()) > MOST_LINES:
        raise MalformedSecret("value", f"has more than {MOST_LINES} lines")
    if "\0" in value:
        raise MalformedSecret("value", "contains a NUL character")
    if size > max_bytes:
        raise MalformedSecret("value", f"has more than the {max_bytes:,} bytes that limits.secret_bytes allows")
    return value


def checked_hosts(hosts: Iterable[str]) -> list[str]:
    """Return the hosts in lower case, each once. Raises MalformedSecret."""
    found = list(dict.fromkeys(host.lower().rstrip(".") for host in hosts))
    if len(found) > MOST_HOSTS:
        raise MalformedSecret("allow_hosts", f"names more than {MOST_HOSTS} hosts")
    for position, host in enumerate(found):
        if len(host) > HOST_CHARACTERS or not HOST.fullmatch(host):
            raise MalformedSecret(
                f"allow_hosts[{position}]",
                "must be a host name such as api.github.com, *.example.com for all names below example.com, or an IP "
                "address; without port and path, and an international name in its xn-- form. http:// before it also "
                "allows plain HTTP",
            )
    return found


def checked_inputs(names: Iterable[str]) -> list[str]:
    """Return the names of inputs, each once. Raises MalformedSecret."""
    found = list(dict.fromkeys(names))
    if len(found) > MOST_HOSTS:
        raise MalformedSecret("allow_in", f"names more than {MOST_HOSTS} inputs")
    for position, name in enumerate(found):
        if not INPUT.fullmatch(name):
            raise MalformedSecret(f"allow_in[{position}]", "must be the name of an input, such as headers or json")
    return found


def may_be_sent_to(host: str, hosts: Sequence[str], *, is_encrypted: bool = True) -> bool:
    """Check whether a secret that is bound to `hosts` may be sent to this host; without hosts it is not bound.

    Without encryption it may only stay on this machine, or go to a host that is written with `http://`.
    """
    host = host.lower().rstrip(".")
    plain = [each.removeprefix(PLAIN) for each in hosts if is_encrypted or each.startswith(PLAIN) or _is_loopback(host)]
    return not hosts or any(host.endswith(each[1:]) if each.startswith("*.") else host == each for each in plain)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
