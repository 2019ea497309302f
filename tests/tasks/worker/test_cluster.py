"""The process that workers are forked from."""

import subprocess
import sys
from typing import Final

from tests.servers import ROOT

IMPORT: Final = """
import sys
import tasks.worker.cluster
heavy = "a2a.endpoints crewai grpc jwt litellm psycopg tasks.admin tasks.dashboard.views twisted".split()
print([name for name in heavy if name in sys.modules])
"""


def test_on_sqlite_it_imports_no_page_and_no_client_of_another_database() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", done.stdout
