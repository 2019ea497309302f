"""The console façade: the command `aipartnerupflow`, import paths of the API guide, plug-in packages.

`bootstrap` makes the Django project importable.
"""

import os
import sys
from pathlib import Path
from typing import Final

__version__ = "1.0.0"

PROJECT_PACKAGES: Final = frozenset({"a2a", "accounts", "apflow_site", "llmkeys", "tasks"})
"""The top-level names that are the Django project's in every process which has called `bootstrap`."""


def bootstrap() -> None:
    """Make the Django project importable and name its settings module.

    Its packages are in the wheel's `_project` folder or in the checkout. Raises ImportError if a
    module of another project with the name of one of them was imported before.
    """
    folder = project_folder()
    for name in sorted(PROJECT_PACKAGES & sys.modules.keys()):
        module = sys.modules[name]
        file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
        place = Path(file).resolve() if file else None
        if place is None or not place.is_relative_to(folder / name):
            raise ImportError(
                f"aipartnerupflow has a package '{name}' of its own, but another module of this name is imported already"
                f"{f', from {place}' if place else ''}. {_remedy(name)}",
                name=name,
            )
    if sys.path[:1] != [str(folder)]:  # before site-packages, where the A2A SDK has an `a2a` too
        sys.path.insert(0, str(folder))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apflow_site.settings")


def project_folder() -> Path:
    """Return the folder with the packages of the Django project."""
    here = Path(__file__).resolve().parent
    project = here / "_project"
    return project if project.is_dir() else here.parent


def taken_name(module: str | None) -> str | None:
    """Return the reason and remedy if a plug-in's module has the name of one of our packages, else None."""
    name = (module or "").partition(".")[0]
    if name not in PROJECT_PACKAGES:
        return None
    return f"'{name}' is a package of aipartnerupflow's own server, and is found before any other. {_remedy(name)}"


def _remedy(name: str) -> str:
    if name == "a2a":
        return "Rename your module. Use the A2A SDK in a process of its own, or call agents with `a2a_executor`."
    return "Rename your module."
