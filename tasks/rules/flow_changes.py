"""The differences between two versions of a flow. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.rules.strict_json import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`what` was added, removed or changed: a task or an input by its name, or the description. `fields` are what changed in it."""

    kind: str
    verb: str
    what: str
    fields: Sequence[str] = ()

    def __str__(self) -> str:
        inside = f" ({', '.join(self.fields)})" if self.fields else ""
        return f"{self.kind} {self.what} {self.verb}{inside}".replace("  ", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The content of a version."""

    tasks: Sequence[Json]
    inputs_schema: Json | None
    description: str


def changes(old: Content, new: Content) -> list[Change]:
    """Return what was changed from the old version to the new one: tasks, then inputs, then the rest."""
    found = [*_of_named("task", _by_id(old.tasks), _by_id(new.tasks))]
    before, after = (each.inputs_schema or {} for each in (old, new))
    found += _of_named("input", before.get("properties", {}), after.get("properties", {}))
    if rest := _changed(_without_properties(before), _without_properties(after)):
        found.append(Change(kind="schema", verb="changed", what="", fields=rest))
    if old.description != new.description:
        found.append(Change(kind="description", verb="changed", what=""))
    if not found and list(_by_id(old.tasks)) != list(_by_id(new.tasks)):
        found.append(Change(kind="order", verb="changed", what="of the tasks"))
    return found


def _of_named(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    yield from (Change(kind=kind, verb="added", what=name) for name in new if name not in old)
    yield from (Change(kind=kind, verb="removed", what=name) for name in old if name not in new)
    for name, value in new.items():
        if name in old and old[name] != value:
            yield Change(kind=kind, verb="changed", what=name, fields=_changed(old[name], value))


def _changed(old: Any, new: Any) -> list[str]:
    """Return the names of the fields of two objects that differ; none for other values."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return []
    return [name for name in {**old, **new} if old.get(name) != new.get(name)]


def _by_id(tasks: Sequence[Json]) -> dict[str, Json]:
    return {str(task["id"]): task for task in tasks}


def _without_properties(schema: Json) -> Json:
    return {name: value for name, value in schema.items() if name != "properties"}
