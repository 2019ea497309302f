"""Install locked requirements into .venv: `serve` is what the examples need, `all` also has the large optional executors,
`dev` also what tests and checks need.

scripts/set-up runs it with the Python of .venv. `.venv/installed` keeps the hash of what was installed; nothing happens until that changes.
"""

import hashlib
import os
import subprocess
import sys
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
VENV: Final = ROOT / ".venv"
STAMP: Final = VENV / "installed"
UV: Final = str(VENV / "bin/uv")
PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
PURPOSES: Final = {
    "serve": "what serving needs",
    "all": "what serving with all executors needs",
    "dev": "what serving, tests and checks need",
}
INCLUDED_IN: Final = {"serve": ("serve", "all", "dev"), "all": ("all", "dev"), "dev": ("dev",)}
COMMANDS: Final = {
    # Serving keeps packages that were added by hand; development has exactly what is locked.
    "serve": ("install", "--require-hashes", "--requirements", "requirements/serve.txt"),
    "all": ("install", "--require-hashes", "--requirements", "requirements/all.txt"),
    "dev": ("sync", "--require-hashes", "requirements/dev.txt"),
}


def main(name: str, started: float) -> None:
    """Install unless that was done before. `started` is when set-up began, in seconds since 1970."""
    if STAMP.exists() and STAMP.read_text() in {fingerprint(each) for each in INCLUDED_IN[name]}:
        return
    STAMP.unlink(missing_ok=True)
    say(f"Installing {PURPOSES[name]} into .venv\n")
    run(*PIP, "install", "--require-hashes", "--requirement", "requirements/build.txt")
    run(UV, "pip", *COMMANDS[name])
    run(UV, "pip", "install", "--no-deps", "--no-build-isolation", "--editable", ".")
    STAMP.write_text(fingerprint(name))
    packages, gigabytes = len(list(distributions())), bytes_of(VENV) / 1e9
    say(f"Installed {packages} packages, {gigabytes:.1f} GB, in {time.time() - started:.0f} s\n")
    if sys.version_info >= (3, 14):
        say("Crews need Python 3.13 or older: CrewAI has no release for this Python. Everything else is there.\n")


def fingerprint(name: str) -> str:
    """Return the hash of the files that decide what is installed."""
    files = (f"requirements/{name}.txt", "requirements/build.txt", "pyproject.toml")
    return hashlib.sha256(b"".join((ROOT / file).read_bytes() for file in files)).hexdigest()


def run(*command: str) -> None:
    """Run a command and show on a terminal what it is doing. If it fails, exit with what it printed."""
    environment = os.environ | {"VIRTUAL_ENV": str(VENV), "UV_NO_PROGRESS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        lines = [show(line) for line in process.stdout or ()]
        show("")
    if process.returncode:
        sys.exit("".join(lines))


def show(line: str) -> str:
    """Replace the terminal's last line. Other outputs get nothing."""
    if sys.stdout.isatty():
        say(f"\r\033[K{line.strip()[:70]}")
    return line


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def bytes_of(folder: Path) -> int:
    """Return the room that a folder takes on the disk."""
    measure = ["du", "-sk", str(folder)]
    kibibytes, _ = subprocess.check_output(measure, text=True).split("\t")
    return int(kibibytes) * 1024


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
