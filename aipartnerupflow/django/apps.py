"""The app for INSTALLED_APPS: it makes the server's packages importable, and gives them their configuration."""

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from aipartnerupflow import PROJECT_PACKAGES, bootstrap, project_folder

METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The settings of the server set this variable. In a project it would change where the metrics of the project are kept."""


class FlowsConfig(AppConfig):
    """Has no models: the tables belong to the server, which migrates them."""

    name = "aipartnerupflow.django"
    label = "aipartnerupflow"
    verbose_name = "aipartnerupflow"

    def ready(self) -> None:
        """Read the server's configuration from the environment.

        Raises ImproperlyConfigured for a package or setting of the project with a name of ours, and ConfigError.
        """
        self._refuse_taken_names()
        try:
            bootstrap()
        except ImportError as error:
            raise ImproperlyConfigured(str(error)) from error
        folder = os.environ.get(METRICS_FOLDER)
        ours = import_module("apflow_site.settings")
        os.environ.pop(METRICS_FOLDER)
        if folder is not None:
            os.environ[METRICS_FOLDER] = folder
        # Without Q_CLUSTER, django-q2 would warn about its own defaults.
        queue = () if hasattr(settings, "Q_CLUSTER") else ("Q_CLUSTER",)
        for name in [*(name for name in vars(ours) if name.startswith("APFLOW")), *queue]:
            setattr(settings, name, getattr(ours, name))

    def _refuse_taken_names(self) -> None:
        """`bootstrap` looks at what is imported. This looks at what would be found."""
        own = project_folder()
        for name in sorted(PROJECT_PACKAGES - {"a2a"}):  # the A2A SDK, whose package has that name, shares it
            found = find_spec(name)
            places = [] if found is None else [*(found.submodule_search_locations or ()), found.origin]
            for place in filter(None, places):
                if not Path(place).resolve().is_relative_to(own):
                    raise ImproperlyConfigured(
                        f"This project has a package '{name}' ({place}), and aipartnerupflow has one of this name. "
                        "Rename it, or start runs with aipartnerupflow.client after the commit."
                    )
