"""The console façade: the command `aipartnerupflow`, and import paths of the API guide."""

import os
import sys
from pathlib import Path

__version__ = "0.1.0"


def bootstrap() -> None:
    """Make the Django project importable and name its settings module.

    Its packages are in the wheel's `_project` folder or in the checkout.
    """
    here = Path(__file__).resolve().parent
    project = here / "_project"
    folder = str(project if project.is_dir() else here.parent)
    if sys.path[:1] != [folder]:  # before site-packages, where the A2A SDK has an `a2a` too
        sys.path.insert(0, folder)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apflow_site.settings")
