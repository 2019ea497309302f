"""A look at the source of a workflow: its version, and calls whose result would differ in a replay."""

import ast
import builtins
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

IN_A_STEP: Final = "do it in a step"
NOW: Final = "use now() of aipartnerupflow.workflows"
RANDOM: Final = "use random() of aipartnerupflow.workflows"
REMEDIES: Final = {
    "time.sleep": "use sleep() of aipartnerupflow.workflows",
    "time.": NOW,
    "datetime.datetime.now": NOW,
    "datetime.datetime.utcnow": NOW,
    "datetime.datetime.today": NOW,
    "datetime.date.today": NOW,
    "random.": RANDOM,
    "secrets.": RANDOM,
    "uuid.uuid1": "use uuid() of aipartnerupflow.workflows",
    "uuid.uuid4": "use uuid() of aipartnerupflow.workflows",
    **dict.fromkeys(
        "_io.open io.open builtins.open builtins.input os.getenv posix. nt. subprocess. socket. _socket. urllib.request. "
        "urllib3. requests. httpx. aiohttp. smtplib. sqlite3. _sqlite3. psycopg. asyncio.threads. concurrent. threading.".split(),
        IN_A_STEP,
    ),
}
"""The remedies, by the name of a function, or the beginning of it."""


def impure_calls(function: Callable[..., Any]) -> list[str]:
    """Return a sentence, which begins with file and line, for each such call in the function and in those of its module that it calls.

    Names that do not exist yet are left out: look again when the module is loaded.
    """
    return list(_found(function, set()))


def _found(function: Any, visited: set[Any]) -> Iterator[str]:
    visited.add(function)
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, SyntaxError):  # typed into a prompt, or a lambda within an expression
        return
    names = _names_of(function, tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or (called := _resolved(node.func, names)) is None:
            continue
        name = _name_of(called)
        remedy = next((remedy for prefix, remedy in REMEDIES.items() if _matches(name, prefix)), None)
        if remedy is not None:
            place = f"{function.__code__.co_filename}:{first + node.lineno - 1}"
            yield (
                f"{place}: {function.__name__}() calls {ast.unparse(node.func)}(), which is not the same in a replay: {remedy}."
            )
        elif inspect.isfunction(called) and called.__module__ == function.__module__ and called not in visited:
            yield from _found(called, visited)


def _matches(name: str, prefix: str) -> bool:
    return name.startswith(prefix) if prefix.endswith(".") else name == prefix


def _names_of(function: Any, tree: ast.AST) -> dict[str, Any]:
    """Return what names mean in the function, without its parameters and variables, but with what it imports."""
    code = function.__code__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=False)
    names = {**vars(builtins), **function.__globals__}
    for name, cell in cells:
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            names.pop(name, None)
    for name in (*code.co_varnames, *code.co_cellvars):
        names.pop(name, None)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.asname or each.name: sys.modules.get(each.name) for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = sys.modules.get(node.module or "")
            names |= {each.asname or each.name: getattr(module, each.name, None) for each in node.names}
    return names


def _resolved(node: ast.expr, names: dict[str, Any]) -> Any:
    """Return the object that an expression such as `datetime.now` names; None if that is not known."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        base = _resolved(node.value, names)
        return getattr(base, node.attr, None) if inspect.ismodule(base) or inspect.isclass(base) else None
    return None


def _name_of(called: Any) -> str:
    """Return the full name of a function, method or class where it is defined."""
    owner = getattr(called, "__self__", None)
    if owner is not None and not inspect.ismodule(owner):
        kind = owner if inspect.isclass(owner) else type(owner)
        return f"{kind.__module__}.{kind.__qualname__}.{getattr(called, '__name__', '')}"
    return f"{getattr(called, '__module__', '')}.{getattr(called, '__qualname__', '')}"


def version_of(source: str, *, steps: Collection[str]) -> str:
    """Return the version of the code of a module: a digest of its syntax tree, without comments, docstrings and the bodies of its steps.

    A replay does not run steps, so another body is no difference. The digest is the same in each version of Python.
    """
    return hashlib.sha256(repr(_parts(ast.parse(source), steps)).encode()).hexdigest()[:12]


def _parts(node: Any, steps: Collection[str]) -> Any:
    if isinstance(node, list):
        return [_parts(each, steps) for each in node]
    if not isinstance(node, ast.AST):
        return node
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in steps:
        del fields["body"]
    elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
        fields["body"] = node.body[ast.get_docstring(node, clean=False) is not None :]
    # Python adds fields now and then, which are empty in code that does not use them.
    return [
        type(node).__name__,
        *((name, _parts(each, steps)) for name, each in fields.items() if each not in (None, [])),
    ]
