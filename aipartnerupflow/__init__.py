"""The console façade: the `aipartnerupflow` command and the import paths that the guide promises."""

import os
import sys
from pathlib import Path

__version__ = "0.1.0"


def bootstrap() -> None:
    """Let the Django project's packages be imported: from the wheel's `_project` folder, or from the checkout."""
    here = Path(__file__).resolve().parent
    project = here / "_project"
    folder = str(project if project.is_dir() else here.parent)
    if sys.path[:1] != [folder]:  # before site-packages, where the A2A SDK has an `a2a` too
        sys.path.insert(0, folder)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apflow_site.settings")
