"""`Tree`: the tasks of a tree to run, with places, conditions, maps, loops and questions."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NotRequired, Required, TypeVar, get_args, get_origin, get_type_hints

from .types import Json

NOT_IN_IDS: Final = re.compile(r"[^a-z0-9]+")
NAME: Final = r"[A-Za-z0-9_-]+"
PATH: Final = re.compile(rf"{NAME}(?:\.{NAME})*")
IN_TEXT: Final = re.compile(rf"\{{\{{\{{\{{|\{{\{{\s*(?P<path>{PATH.pattern})\s*\}}\}}")
"""A place in a text, or four braces that stand for two."""
WITHOUT_PLACES: Final = ("tasks", "history", "select")
"""Inputs in which double braces have another meaning."""
RUN: Final = "run"
SECRET: Final = "secret"
LAST: Final = "last"
ROUND: Final = "round"
INDEX: Final = "_index"
NAMED: Final = 10
"""The number of tasks that a refusal names."""
SIMILAR: Final = 0.75
"""The similarity from which a name in a text is meant as that of a task, as on the server."""
TYPES: Final = MappingProxyType({str: "string", float: "number", int: "integer", bool: "boolean"})


class Named:
    """A JSON object that names tasks."""

    def __init__(self, fields: Json, sources: Collection[str]) -> None:
        self.fields = fields
        """The object as it is sent."""
        self.sources = sources
        """The names of the tasks."""


class Condition(Named):
    """A condition about results. Join conditions with `&` and `|`, and negate one with `~`."""

    def __and__(self, other: "Condition") -> "Condition":
        return Condition({"all": [self.fields, other.fields]}, {*self.sources, *other.sources})

    def __or__(self, other: "Condition") -> "Condition":
        return Condition({"any": [self.fields, other.fields]}, {*self.sources, *other.sources})

    def __invert__(self) -> "Condition":
        return Condition({"not": self.fields}, self.sources)

    def __bool__(self) -> bool:
        """Raise TypeError: the value is known when the tree runs."""
        raise TypeError("The server evaluates a condition. Join conditions with &, | and ~, not with and, or and not.")


class Place:
    """A value in the result of a task: in inputs it stands for the value, also in a text such as `f"Hello {place}"`.

    `place == value`, the other comparisons and the methods make a Condition.
    """

    def __init__(self, source: str, path: str = "") -> None:
        self.source = source
        """The id of the task, or another name of a value such as `item`."""
        self.path = path

    def __str__(self) -> str:
        """Return the place as it is written in inputs. Raises ValueError if inputs cannot name it."""
        path = ".".join(filter(None, (self.source, self.path)))
        if not self.source or not PATH.fullmatch(path):
            raise ValueError(
                f"Inputs cannot name the place {path!r}: it must begin with the id of a task, and have parts of letters, digits, _ and -."
            )
        return f"{{{{{path}}}}}"

    def __repr__(self) -> str:
        return f"<Place {self.source!r} {self.path!r}>"

    def pointer(self) -> Json:
        """Return the place as conditions and maps name it."""
        keys = self.path.split(".") if self.path else []
        path = "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)
        return ({"task": self.source} if self.source else {}) | ({"path": path} if path else {})

    def _compared(self, operator: str, *value: Any) -> Condition:
        if value and isinstance(value[0], Place):
            raise TypeError(
                "A place is compared with a value, not with another place. transform_executor compares two results."
            )
        fields = {**self.pointer(), "op": operator, **({"value": value[0]} if value else {})}
        return Condition(fields, {self.source} if self.source else ())

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        return self._compared("eq", value)

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        return self._compared("ne", value)

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, value: float | str) -> Condition:
        return self._compared("lt", value)

    def __le__(self, value: float | str) -> Condition:
        return self._compared("le", value)

    def __gt__(self, value: float | str) -> Condition:
        return self._compared("gt", value)

    def __ge__(self, value: float | str) -> Condition:
        return self._compared("ge", value)

    def is_in(self, values: Iterable[Any]) -> Condition:
        """Return the condition that the value is one of these."""
        return self._compared("in", list(values))

    def contains(self, value: Any) -> Condition:
        """Return the condition that a list has this value, a text this part, or an object this field."""
        return self._compared("contains", value)

    def exists(self) -> Condition:
        """Return the condition that there is a value."""
        return self._compared("exists")

    def is_empty(self) -> Condition:
        """Return the condition that the value is absent, null, or an empty text, list or object."""
        return self._compared("empty")


T = TypeVar("T", bound="TreeTask")


class TreeTask:
    """A task of a `Tree`. `id` is unique in the tree, and `fields` is the task, with its places."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        self.id: str = fields["id"]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"

    def place(self, path: str = "") -> Place:
        """Return the place of the result of this task, or of the value at `path` in it, for a dependent."""
        return Place(self.id, path)

    def __rshift__(self, dependent: "TreeTask") -> "TreeTask":
        """Let another task run after this one: `fetch >> write >> send`. Returns the other task."""
        dependent.run_after(self)
        return dependent

    def run_after(self, *dependencies: "TreeTask") -> None:
        """Add dependencies of this task."""
        known = self.fields.setdefault("dependencies", [])
        known += [each.id for each in dependencies if each.id not in known]


class Map(TreeTask):
    """A task whose children run for each item of a list."""

    def item(self, path: str = "") -> Place:
        """Return the place of the item, or of the value at `path` in it, for the tasks below the map."""
        return Place(self.fields["params"]["for_each"].get("as", "item"), path)

    @property
    def index(self) -> Place:
        """The place of the number of the item, from 0."""
        return Place(self.item().source + INDEX)


class Loop(TreeTask):
    """A task that runs in rounds."""

    def last(self, path: str = "") -> Place:
        """Return the place of the result of the round before, or of the value at `path` in it."""
        return Place(LAST, path)

    @property
    def round(self) -> Place:
        """The place of the number of the round, from 1."""
        return Place(ROUND)


class Tree:
    """A tree to run: its root is a group of the tasks that are added to it.

    `fields` are further fields of the root, such as `params`.
    """

    def __init__(self, name: str, **fields: Any) -> None:
        self._tasks: list[TreeTask] = []
        self._ids: set[str] = set()
        self.root = TreeTask({"id": self._new_id(name), "name": name, **fields})
        self._add(self.root)

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """The tasks, as `Client.execute` and `Client.save_flow` take them. Raises ValueError for a place that names no task."""
        names = {*self._ids, RUN, SECRET}
        for task in self._tasks:
            names |= {task.fields["name"], *_names_of_values(task.fields)}
        return [_sent(task, names) for task in self._tasks]

    @staticmethod
    def run_input(name: str) -> Place:
        """Return the place of an input of the run."""
        return Place(RUN, f"inputs.{name}")

    @staticmethod
    def result(path: str = "") -> Place:
        """Return the place of the result of a round, or of the value at `path` in it, for the `until` of a loop."""
        return Place("", path)

    def task(
        self,
        name: str,
        executor: str | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        after: TreeTask | Iterable[TreeTask] = (),
        parent: TreeTask | None = None,
        when: Condition | None = None,
        **fields: Any,
    ) -> TreeTask:
        """Add a task, which runs after others. Without an `executor` it is a group of the tasks below it.

        `parent` is by default the root. The task is skipped unless `when` is true. `fields` are further fields of the task,
        such as `params` or an `id` of your own. Raises ValueError for an id that the tree has already.
        """
        return self._new(TreeTask, name, executor, inputs, after, parent, when, fields, {})

    def map(
        self,
        name: str,
        items: Place | Sequence[Any],
        *,
        item: str | None = None,
        max_parallel: int | None = None,
        max_items: int | None = None,
        on_failure: Literal["fail", "collect"] | None = None,
        after: TreeTask | Iterable[TreeTask] = (),
        parent: TreeTask | None = None,
        when: Condition | None = None,
        **fields: Any,
    ) -> Map:
        """Add a map: the tasks below it run for each of the items, a list or the place of one. `item` is its name, by default item."""
        source = Named(items.pointer(), {items.source}) if isinstance(items, Place) else list(items)
        options = {"items": source, "as": item, "max_parallel": max_parallel, "max_items": max_items}
        for_each = {key: value for key, value in (options | {"on_failure": on_failure}).items() if value is not None}
        return self._new(Map, name, None, None, after, parent, when, fields, {"for_each": for_each})

    def loop(
        self,
        name: str,
        executor: str | None = None,
        *,
        until: Condition,
        max: int | None = None,
        delay_seconds: float | None = None,
        first: Any = None,
        on_max: Literal["fail", "complete"] | None = None,
        inputs: Mapping[str, Any] | None = None,
        after: TreeTask | Iterable[TreeTask] = (),
        parent: TreeTask | None = None,
        when: Condition | None = None,
        **fields: Any,
    ) -> Loop:
        """Add a task that runs again `until` a condition about `Tree.result` is true; without an `executor`, the tasks below it."""
        options = {"until": until, "max": max, "delay_seconds": delay_seconds, "first": first, "on_max": on_max}
        repeat = {key: value for key, value in options.items() if value is not None}
        return self._new(Loop, name, executor, inputs, after, parent, when, fields, {"repeat": repeat})

    def ask(
        self,
        name: str,
        question: str | Place,
        *,
        options: Sequence[str] | None = None,
        form: type[Any] | Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        after: TreeTask | Iterable[TreeTask] = (),
        parent: TreeTask | None = None,
        when: Condition | None = None,
        **fields: Any,
    ) -> TreeTask:
        """Add a question to a person: with `options`, with a `form`, or for any text.

        A form is a TypedDict, whose fields are str, float, int, bool or a Literal, or a flat JSON Schema. `inputs` are
        others of approval_executor, such as `assignees`. Raises TypeError for a field of another type.
        """
        asked: Json = {"question": question} | ({} if options is None else {"options": list(options)})
        asked |= ({} if form is None else {"schema": _form_of(form)}) | dict(inputs or {})
        return self._new(TreeTask, name, "approval_executor", asked, after, parent, when, fields, {})

    def _new(
        self,
        kind: type[T],
        name: str,
        executor: str | None,
        inputs: Mapping[str, Any] | None,
        after: TreeTask | Iterable[TreeTask],
        parent: TreeTask | None,
        when: Condition | None,
        fields: Json,
        params: Json,
    ) -> T:
        task = {"id": fields.pop("id", None) or self._new_id(name), "name": name, "parent_id": (parent or self.root).id}
        if executor is not None:
            task["schemas"] = {"method": executor}
        if inputs is not None:
            task["inputs"] = dict(inputs)
        if params := {**(fields.pop("params", None) or {}), **params, **({} if when is None else {"when": when})}:
            task["params"] = params
        added = self._add(kind(task | fields))
        added.run_after(*([after] if isinstance(after, TreeTask) else after))
        return added

    def _add(self, task: T) -> T:
        if task.id in self._ids:
            raise ValueError(f"The tree has a task with the id {task.id!r} already.")
        self._ids.add(task.id)
        self._tasks.append(task)
        return task

    def _new_id(self, name: str) -> str:
        """Make an id of the name, with a number if another task has it."""
        base = NOT_IN_IDS.sub("-", name.lower()).strip("-") or "task"
        numbered = (f"{base}-{number}" for number in range(2, len(self._ids) + 3))
        return next(each for each in [base, *numbered] if each not in self._ids)


def _names_of_values(fields: Json) -> Iterator[str]:
    """Yield the names that a task gives to values: of items, of rounds, and of results of its dependencies."""
    params = fields.get("params") or {}
    if "for_each" in params:
        item = params["for_each"].get("as", "item")
        yield from (item, item + INDEX)
    if "repeat" in params:
        yield from (LAST, ROUND)
    yield from (each["as"] for each in fields.get("dependencies", ()) if isinstance(each, Mapping) and "as" in each)


def _sent(task: TreeTask, names: Collection[str]) -> Json:
    """Return a task as it is sent, with its places and conditions written out. Raises ValueError for one that names no task."""
    known = {*names, *task.fields.get("inputs", {})}

    def check(source: str, *, is_place: bool) -> None:
        """Refuse a name that is no task's; in a text, only one that is nearly a task's or an input's."""
        if source in names or (not is_place and source in known):
            return
        close = get_close_matches(source, known, n=1, **({} if is_place else {"cutoff": SIMILAR}))
        if is_place or close:
            hint = f" Did you mean {close[0]!r}?" if close else f" Its tasks: {', '.join(sorted(names)[:NAMED])}."
            raise ValueError(f"Task {task.id!r} names no task of the tree: there is no {source!r}.{hint}")

    def written(value: Any, *, has_places: bool) -> Any:
        if isinstance(value, Named):
            for source in value.sources:
                check(source, is_place=True)
            return value.fields
        if isinstance(value, Place):
            check(value.source, is_place=True)
            return str(value)
        if isinstance(value, Mapping):
            return {
                key: written(each, has_places=has_places and key not in WITHOUT_PLACES) for key, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [written(each, has_places=has_places) for each in value]
        for found in IN_TEXT.finditer(value) if has_places and isinstance(value, str) else ():
            if path := found["path"]:
                check(path.partition(".")[0], is_place=found[0] == value and "." in path)
        return value

    return {field: written(value, has_places=field == "inputs") for field, value in task.fields.items()}


def _form_of(form: type[Any] | Mapping[str, Any]) -> Json:
    """Return the flat JSON Schema of a form."""
    if isinstance(form, Mapping):
        return dict(form)
    fields = {name: _field_of(hint, name) for name, hint in get_type_hints(form, include_extras=True).items()}
    return {
        "type": "object",
        "properties": fields,
        "required": [name for name in fields if name in form.__required_keys__],
    }


def _field_of(hint: Any, name: str) -> Json:
    origin = get_origin(hint)
    if origin in (Required, NotRequired):
        return _field_of(get_args(hint)[0], name)
    if origin is Annotated:
        kind, *more = get_args(hint)
        return _field_of(kind, name) | {
            key: value for each in more if isinstance(each, Mapping) for key, value in each.items()
        }
    if origin is Literal:
        return {"enum": list(get_args(hint))}
    if hint not in TYPES:
        raise TypeError(f"The field {name!r} of a form is a str, float, int, bool or Literal, not {hint!r}.")
    return {"type": TYPES[hint]}
