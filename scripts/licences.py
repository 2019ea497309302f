"""List the licences of what serving needs, and check them: `python scripts/licences.py`.

The packages are those of requirements/all.txt, the licences those that their metadata in .venv declares. The exit code
is 1 if one has none, or one that the policy in docs/contributing/release.md does not allow.
"""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final, NamedTuple

from packaging.markers import Marker

ROOT: Final = Path(__file__).resolve().parents[1]
LOCK: Final = ROOT / "requirements/all.txt"
LOCKED: Final = re.compile(
    r"^(?P<name>[a-z0-9._-]+)==(?P<version>\S+?)(?: ; (?P<marker>.+?))? \\$(?P<hashes>(?:\n +--hash=\S+(?: \\)?$)+)",
    re.MULTILINE,
)
ALLOWED: Final = frozenset(
    """
    0BSD Apache-2.0 BSD-2-Clause BSD-3-Clause CC0-1.0 CNRI-Python ISC MIT MIT-0 MIT-CMU PSF-2.0 TCL Unlicense Zlib ZPL-2.1
    EPL-2.0 LGPL-3.0-only MPL-1.1 MPL-2.0
    """.split()
)
"""SPDX identifiers. Those of the second line ask for the source of changes to the package itself, of which we make none."""
SPELLINGS: Final = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD 3-Clause OR Apache-2.0": "BSD-3-Clause OR Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""What metadata without an SPDX expression says."""
READ: Final = {
    "async-timeout": "Apache-2.0",  # only on Python 3.11.0 to 3.11.2
    "asyncssh": "EPL-2.0",  # or GPL-2.0-or-later
    "cel-python": "Apache-2.0",
    "crewai": "MIT",
    "crewai-cli": "MIT",
    "crewai-core": "MIT",
    "pypdfium2": "BSD-3-Clause AND Apache-2.0",
    "tld": "MPL-1.1",  # or GPL-2.0-only, or LGPL-2.1-or-later
}
"""What a person has read in the files or the repository of a package, or has chosen from what it offers."""


class Package(NamedTuple):
    """A locked package. `licence` is an SPDX expression, or empty; `hashes` are the SHA-256 of its files."""

    name: str
    version: str
    licence: str
    hashes: tuple[str, ...]
    requires: tuple[str, ...]


def packages() -> list[Package]:
    """Return the packages that the server needs with all extras, on Linux or macOS and any Python that it supports."""
    installed = {normal(found.name): found for found in distributions(path=[str(site_packages())])}
    return [
        Package(
            name=match["name"],
            version=match["version"],
            licence=licence_of(match["name"], installed.get(match["name"])),
            hashes=tuple(re.findall(r"sha256:(\w+)", match["hashes"])),
            requires=tuple(sorted(_requires(installed.get(match["name"])))),
        )
        for match in LOCKED.finditer(LOCK.read_text())
        if is_installed_somewhere(match["marker"])
    ]


def site_packages() -> Path:
    (folder,) = (ROOT / ".venv/lib").glob("python3.*/site-packages")
    return folder


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def is_installed_somewhere(marker: str | None) -> bool:
    platforms = [
        {"python_full_version": f"3.{minor}.0", "python_version": f"3.{minor}", "sys_platform": system}
        for minor in (11, 12, 13)
        for system in ("linux", "darwin")
    ]
    return marker is None or any(Marker(marker).evaluate({**platform}) for platform in platforms)


def licence_of(name: str, found: Distribution | None) -> str:
    """Return the licence that a person has read, or the metadata declares: as an expression, as classifiers, or as a text."""
    if name in READ or found is None:
        return READ.get(name, "")
    metadata = found.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [text.rsplit(" :: ", 1)[1] for text in metadata.get_all("Classifier", []) if "License ::" in text]
    known = [SPELLINGS.get(text, "") for text in classifiers if text != "OSI Approved"]
    lines = str(metadata.get("License") or "").strip().splitlines()
    text = (
        re.sub(r"^(The )?(MIT|Apache) License( \(MIT\))?,?( Version 2\.0)?$", _spelled, lines[0].strip())
        if lines
        else ""
    )
    return " OR ".join(sorted({*filter(None, known)})) or SPELLINGS.get(text, text)


def _spelled(match: "re.Match[str]") -> str:
    return "MIT" if match[2] == "MIT" else "Apache-2.0"


def _requires(found: Distribution | None) -> Iterator[str]:
    """Return the names of the packages that this one names, also for its extras."""
    for text in (found.requires if found else None) or ():
        if name := re.match(r"[\w.-]+", text):
            yield normal(name[0])


def faults(found: list[Package]) -> Iterator[str]:
    """Return the packages that the policy does not allow, each with the remedy."""
    for package in found:
        names = set(re.findall(r"[\w.+-]+", package.licence)) - {"AND", "OR", "WITH"}
        if refused := sorted(names - ALLOWED):
            yield f"{package.name} {package.version}: {', '.join(refused)} is not allowed. Replace the package."
        elif not names:
            yield f"{package.name} {package.version} declares no licence. Read its files, and add it to READ."


def main() -> int:
    found = packages()
    for package in found:
        sys.stdout.write(f"{package.name:36} {package.version:16} {package.licence}\n")
    wrong = list(faults(found))
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
