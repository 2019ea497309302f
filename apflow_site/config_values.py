"""What the value of a setting may be, and how it is read. Each description completes the sentence "Give …"."""

import ipaddress
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, cast, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

BOOLEANS: Final = MappingProxyType({"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False})
HOST_NAME: Final = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?"


def whole(least: int, most: int) -> Meta:
    return Meta(ge=least, le=most, description=f"a whole number from {least} to {most}")


def text(
    allowed: str, pattern: str = "", *, is_secret: bool = False, check: Callable[[str], object] | None = None
) -> Meta:
    """`check` raises ValueError with the reason, which never repeats a secret."""
    return Meta(min_length=1, pattern=pattern, description=allowed, extra={"is_secret": is_secret, "check": check})


def several(allowed: str, *, is_secret: bool = False, check: Callable[[tuple[str, ...]], object] | None = None) -> Meta:
    return Meta(description=f"a list of {allowed}", extra={"is_secret": is_secret, "check": check})


def pairs(allowed: str) -> Meta:
    return Meta(description=f"a mapping of {allowed} (in the environment: name=value, separated by commas)")


def check_host(value: str) -> None:
    """Raises ValueError unless it is a host name or an IP address, without port or brackets."""
    if re.fullmatch(HOST_NAME, value):
        return
    try:
        ipaddress.ip_address(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is neither a name nor an address") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def check_targets(values: tuple[str, ...]) -> None:
    """Raises ValueError unless each is a host name, an IP address or a network."""
    for value in values:
        if "/" in value:
            ipaddress.ip_network(value)
        else:
            check_host(value)


def check_folder(value: str) -> None:
    """Raises ValueError when the path begins with a home folder that does not exist."""
    try:
        Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError("the home folder is not known") from error


def check_paths(values: tuple[str, ...]) -> None:
    """Raises ValueError unless each is absolute and written the shortest way, so that it can be compared as text."""
    for value in values:
        if "\0" in value or not Path(value).is_absolute() or os.path.normpath(value) != value:
            raise ValueError(f"{value!r} is not absolute, or not written the shortest way")


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the configuration; its fields are the keys."""

    def __repr__(self) -> str:
        """Without values: some are secret, and a repr ends up in logs."""
        return f"<{type(self).__name__}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key and what its value may be."""

    key: str
    annotation: Any
    is_optional: bool
    default: Any

    @property
    def meta(self) -> Meta:
        return cast("Meta", get_args(self.annotation)[1])

    @property
    def is_secret(self) -> bool:
        return bool((self.meta.extra or {}).get("is_secret"))

    def convert(self, raw: Any) -> Any:
        """The value in its type; text is read as in the environment.

        Raises ValueError, without a text when the description of what is allowed says all.
        """
        if raw is None and self.is_optional:
            return None
        try:
            value = msgspec.convert(self._from_text(raw), self.annotation, strict=False)
        except msgspec.ValidationError as error:
            raise ValueError from error
        check = (self.meta.extra or {}).get("check")
        if check:
            check(value)
        return value

    def _from_text(self, raw: Any) -> Any:
        if not isinstance(raw, str):
            return raw
        kind = get_args(self.annotation)[0]
        if kind is bool:
            return BOOLEANS.get(raw.lower(), raw)
        if get_origin(kind) is tuple:
            return [part.strip() for part in raw.split(",") if part.strip()]
        if get_origin(kind) is dict:
            return {name.strip(): value.strip() for name, _, value in _pairs(raw)}
        return raw


def _pairs(raw: str) -> Iterator[tuple[str, str, str]]:
    return (part.partition("=") for part in raw.split(",") if part.strip())


def walk(section: type[Section], prefix: str = "") -> Iterator[Setting]:
    """Every setting of a section and of the sections in it."""
    for field in msgspec.structs.fields(section):
        key = f"{prefix}{field.name}"
        if is_section(field.type):
            yield from walk(field.type, f"{key}.")
            continue
        is_optional = get_origin(field.type) is not Annotated
        annotation = get_args(field.type)[0] if is_optional else field.type
        yield Setting(key=key, annotation=annotation, is_optional=is_optional, default=field.default)


def is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)
