"""The declared settings by their dotted keys: their names in the environment, their defaults and what they allow."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from apflow_site.config.sections import Config
from apflow_site.config.values import Allowed, Section

PREFIX: Final = "AIPARTNERUPFLOW_"
FILE_VARIABLE: Final = f"{PREFIX}CONFIG"
#: With our prefix, but not settings: the file, and the server and the token of the command line client.
OTHER_VARIABLES: Final = frozenset({FILE_VARIABLE, f"{PREFIX}URL", f"{PREFIX}TOKEN"})
#: Short names of variables. They take precedence over the long ones.
SHORT_VARIABLES: Final = MappingProxyType(
    {
        "server.host": f"{PREFIX}HOST",
        "server.port": f"{PREFIX}PORT",
        "server.data_dir": f"{PREFIX}DATA_DIR",
        "auth.jwt_secret": f"{PREFIX}JWT_SECRET",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A declared setting. `limits` are the smallest and the largest whole number. Without an `example`, the default is one."""

    key: str
    default: Any
    example: Any
    description: str
    allowed: str
    limits: tuple[int, int] | None
    is_computed: bool
    is_secret: bool


@cache
def known_settings() -> Mapping[str, Setting]:
    """Every setting by its dotted key."""
    return MappingProxyType({key: _setting(key, field) for key, field in _fields(Config)})


def variables(key: str) -> tuple[str, ...]:
    """Return the environment variables of a key; the first one wins."""
    long = PREFIX + key.upper().replace(".", "_")
    return (SHORT_VARIABLES[key], long) if key in SHORT_VARIABLES else (long,)


def secret_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the environment whose values are secret."""
    names = [name for key, setting in known_settings().items() if setting.is_secret for name in variables(key)]
    return {name: environ[name] for name in names if name in environ}


@cache
def known_sections() -> frozenset[str]:
    """Return the dotted keys of the sections that have settings of their own."""
    return frozenset(key.rpartition(".")[0] for key in known_settings() if "." in key)


def sections_in(section: type[Section]) -> dict[str, type[Section]]:
    """Return the sections that a section has in it, by name."""
    kinds = {name: field.annotation for name, field in section.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}


def _fields(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    inner = sections_in(section)
    for name, field in section.model_fields.items():
        if name in inner:
            yield from _fields(inner[name], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _setting(key: str, field: FieldInfo) -> Setting:
    kind, marks = _unpacked(field)
    least, most = (next((getattr(mark, name) for mark in marks if hasattr(mark, name)), None) for name in ("ge", "le"))
    limits = None if least is None or most is None else (least, most)
    allowed = next((mark for mark in marks if isinstance(mark, Allowed)), None) or Allowed(_allowed(kind, limits))
    return Setting(
        key=key,
        default=field.default,
        example=field.examples[0] if field.examples else None,
        description=field.description or "",
        allowed=allowed.text,
        limits=limits,
        is_computed=field.is_required(),
        is_secret=allowed.is_secret,
    )


def _unpacked(field: FieldInfo) -> tuple[Any, list[Any]]:
    """Return the type without `| None`, and all that it is annotated with."""
    kind = next((each for each in _options(field.annotation) if each is not type(None)), None)
    if get_origin(kind) is Annotated:
        kind, *marks = get_args(kind)
        return kind, [*marks, *field.metadata]
    return kind, field.metadata


def _options(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _allowed(kind: Any, limits: tuple[int, int] | None) -> str:
    """Return the values that a plain type allows, as the end of the sentence "Give …"."""
    if limits:
        return f"a whole number from {limits[0]} to {limits[1]}"
    if get_origin(kind) is Literal:
        *others, last = get_args(kind)
        return f"{', '.join(others)} or {last}"
    return "true or false"
