"""The version of the static files, which is part of their URLs: browsers then keep them for a year."""

from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDERS: Final = (ROOT / "tasks" / "static", ROOT / "apflow_site" / "static")
PACKAGES: Final = ("django", "django-unfold", "drf-spectacular-sidecar")
PREFIX: Final = "v-"
LENGTH: Final = 12


@cache
def static_version() -> str:
    """Return a hash of our static files and of the versions of the packages that have some, after `v-`.

    The folder has it, not the names of files: scripts and styles refer to each other by relative paths.
    """
    digest = sha256()
    for path in sorted(path for folder in FOLDERS for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(ROOT)}\0".encode())
        digest.update(path.read_bytes())
    for package in PACKAGES:
        digest.update(f"{package} {version(package)}\0".encode())
    return f"{PREFIX}{digest.hexdigest()[:LENGTH]}"
