#!/usr/bin/env python
"""Django's command line for this project."""

import os
import sys
from pathlib import Path

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apflow_site.settings")
    if sys.argv[1:2] == ["test"]:  # the tests are for pytest: Django's runner finds none of them, and succeeds
        os.chdir(Path(__file__).resolve().parent)
        os.execv(sys.executable, [sys.executable, "-m", "pytest", "--pyargs", *sys.argv[2:]])  # noqa: S606
    execute_from_command_line(sys.argv)
