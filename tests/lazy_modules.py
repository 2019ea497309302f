"""Modules that are imported when a test uses them: every pytest process collects all files, and LiteLLM takes seconds."""

from importlib import import_module
from typing import Any


class LazyModule:
    """Has the attributes of a module, which the first of them imports. Set none of them here: name the module in monkeypatch."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith(("_", "pytest")):  # pytest looks whether this is a test, a fixture or a mock
            raise AttributeError(attribute)
        return getattr(import_module(self._name), attribute)
