#!/usr/bin/env python
"""Django's command line for this project."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apflow_site.settings")
    if sys.argv[1:2] == ["test"]:  # Django's runner finds none of them, and succeeds
        sys.exit("The tests are for pytest. Run all: make test. Run some: .venv/bin/python -m pytest tests/tasks/rules")
    execute_from_command_line(sys.argv)
