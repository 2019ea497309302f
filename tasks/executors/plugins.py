"""Plug-ins: executors and functions, from entry points and from the modules in the configuration."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from aipartnerupflow import taken_name
from aipartnerupflow.executors import Executor, Json, python_function
from aipartnerupflow.executors.functions import Function, given_schema, is_python_function
from aipartnerupflow.workflows.functions import Step, Workflow
from tasks.executors.workflows import WorkflowTask, executor_of
from tasks.rules.extras import EXTRAS
from tasks.rules.pools import POOLS
from tasks.rules.schema import fault

#: The registry's, and `python_function` for plug-ins that are installed already and import it from here.
__all__ = ["ENTRY_POINT_GROUP", "Plugins", "plugins", "python_function"]

ENTRY_POINT_GROUP = "aipartnerupflow.executors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    """Executor classes by id, and the functions that `python_executor` may call by name."""

    executors: Mapping[str, type[Executor]]
    functions: Mapping[str, Function]
    steps: Mapping[str, Step[..., Any]]
    """The steps of workflows, by module and name."""


@cache
def plugins() -> Plugins:
    """Return all that the operator added, loaded once per process.

    Raises ImproperlyConfigured naming the module, entry point or class that is wrong.
    """
    modules = [_load_module(name) for name in settings.APFLOW_EXECUTOR_MODULES]
    executors, functions = list[tuple[str, type[Executor]]](), list[tuple[str, Function]]()
    for value in _of_entry_points():
        if inspect.ismodule(value):
            modules.append(value)
        else:
            executors.append((value.id, value))
    steps, workflows = dict[str, Step[..., Any]](), dict[int, Workflow[..., Any]]()
    named = {module.__name__: module for module in modules}
    for name, value in [(name, value) for name, module in named.items() for value in vars(module).values()]:
        if isinstance(value, Step):  # also one that the module imports: its workflows call it
            steps.setdefault(value.target, _sound(value))
        elif not (isinstance(value, Workflow) or inspect.isclass(value) or inspect.isfunction(value)):
            continue
        elif value.__module__ != name:
            continue  # what the module imports is not its own
        elif isinstance(value, Workflow):
            workflows[id(value)] = _sound(value)  # one that has two names is one
        elif inspect.isclass(value) and issubclass(value, Executor) and not inspect.isabstract(value):
            executors.append((_checked(value).id, value))
        elif inspect.isfunction(value) and is_python_function(value):
            _check_schema(given_schema(value) or {}, f"Function {_path(value)}: its schema")
            functions.append((value.__name__, value))
    executors += [(cls.id, _checked(cls)) for cls in map(executor_of, workflows.values())]
    return Plugins(
        executors=_by_name("executor id", executors),
        functions=_by_name("function", functions),
        steps=MappingProxyType(steps),
    )


OfCode = TypeVar("OfCode", bound=Step[..., Any] | Workflow[..., Any])


def _sound(value: OfCode) -> OfCode:
    """Return the step or workflow. Raises ImproperlyConfigured, with file and line, if it cannot be stored or replayed."""
    try:
        value.check()
        if isinstance(value, Workflow):
            _ = value.version
    except TypeError as error:
        raise ImproperlyConfigured(str(error)) from error
    return value


def _load_module(name: str) -> ModuleType:
    if ours := taken_name(name):
        raise ImproperlyConfigured(f"executors.modules: '{name}' cannot be a plug-in. {ours}")
    try:
        return import_module(name)
    except Exception as error:  # the operator's code may raise anything while it is imported
        problem = f"executors.modules: '{name}' cannot be imported: {type(error).__name__}: {error}"
        if isinstance(error, ImportError):
            problem += f". {_name_is_ours(error) or 'Correct the name, or install the package that has it.'}"
        raise ImproperlyConfigured(problem) from error


def _name_is_ours(error: Exception) -> str | None:
    """Return how to fix a plug-in that imported a package of ours instead of its own; None for
    other errors.
    """
    return taken_name(error.name) if isinstance(error, ImportError) else None


@cache
def installed_plugins() -> tuple[EntryPoint, ...]:
    """Return the entry points, found once per process: that reads the metadata of every package."""
    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def _of_entry_points() -> Iterator[type[Executor] | ModuleType]:
    """Yield the executor class that each entry point names, or the module, of which all is offered."""
    for entry_point in installed_plugins():
        place = f"Entry point '{entry_point.name} = {entry_point.value}' in group {ENTRY_POINT_GROUP}"
        try:
            cls = entry_point.load()
        except Exception as error:  # the plug-in's code may raise anything while it is imported
            remedy = " ".join(filter(None, [f"{type(error).__name__}: {error}.", _name_is_ours(error)]))
            raise ImproperlyConfigured(f"{place} cannot be loaded: {remedy}") from error
        if inspect.ismodule(cls):
            yield cls
            continue
        if not (inspect.isclass(cls) and issubclass(cls, Executor)) or inspect.isabstract(cls):
            raise ImproperlyConfigured(f"{place} is not an Executor class with an `execute`, and no module.")
        if _checked(cls).id != entry_point.name:
            raise ImproperlyConfigured(f"{place}: the class has id '{cls.id}'. Give both the same name.")
        yield cls


def _checked(cls: type[Executor]) -> type[Executor]:
    """Return the class. Raises ImproperlyConfigured if its declarations are incomplete or invalid."""
    place = f"Executor {cls.__module__}.{cls.__qualname__}"
    for attribute in ("id", "name", "description"):
        text = getattr(cls, attribute, None)
        if not isinstance(text, str) or not 0 < len(text) <= 255:
            raise ImproperlyConfigured(f"{place} has no `{attribute}`. Set it to a text of 1 to 255 characters.")
    if not inspect.iscoroutinefunction(cls.execute):
        raise ImproperlyConfigured(f"{place}: `execute` is not async. Write `async def execute`.")
    if cls.pool not in POOLS:
        raise ImproperlyConfigured(f"{place}: unknown pool '{cls.pool}'. The pools are {', '.join(POOLS)}.")
    if cls.extra is not None and cls.extra not in EXTRAS:
        raise ImproperlyConfigured(f"{place}: unknown extra '{cls.extra}'. The extras are {', '.join(EXTRAS)}.")
    _check_schema(cls.input_schema, f"{place}.input_schema")
    _check_schema(cls.result_schema, f"{place}.result_schema")
    return cls


def _check_schema(schema: Json, place: str) -> None:
    if problem := fault(schema):
        raise ImproperlyConfigured(f"{place} is not a valid JSON Schema: {problem}.")


Named = TypeVar("Named", type[Executor], Function)


def _by_name(what: str, pairs: list[tuple[str, Named]]) -> Mapping[str, Named]:
    named: dict[str, Named] = {}
    for name, value in pairs:
        if name in named:
            raise ImproperlyConfigured(
                f"Two plug-ins have the {what} '{name}': {_path(named[name])} and {_path(value)}. Rename one."
            )
        named[name] = value
    return MappingProxyType(named)


def _path(value: type[Executor] | Function) -> str:
    path = f"{value.__module__}.{value.__qualname__}"
    return f"{path} ({value.workflow.place})" if inspect.isclass(value) and issubclass(value, WorkflowTask) else path
