"""Write a CycloneDX bill of materials of what serving needs: `make sbom`, which brings the library for it.

    sbom.py FILE

Components, versions and hashes are those of requirements/all.txt; licences and dependencies are those that the metadata
in .venv declares.
"""

import re
import sys
from functools import cache
from pathlib import Path
from typing import Final
from uuid import NAMESPACE_OID, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from licences import LOCK, ROOT, Package, normal, packages
from packageurl import PackageURL

VERSION: Final = SchemaVersion.V1_6


def bill(found: list[Package]) -> Bom:
    """Our package as what the bill is about, its dependencies as components, and which needs which."""
    ours = Component(
        name="aipartnerupflow",
        version=our_version(),
        type=ComponentType.APPLICATION,
        bom_ref="aipartnerupflow",
        purl=PackageURL("pypi", name="aipartnerupflow", version=our_version()),
        licenses=[LicenseFactory().make_from_string("Apache-2.0")],
    )
    components = [component_of(package) for package in found]
    made = Bom(components=components, serial_number=uuid5(NAMESPACE_OID, LOCK.read_text()))
    made.metadata.component = ours
    made.register_dependency(ours, [each for each in components if each.name in direct()])
    for package, one in zip(found, components, strict=True):
        made.register_dependency(
            one, [each for each in components if each.name in package.requires and each.name != one.name]
        )
    return made


def component_of(package: Package) -> Component:
    url = PackageURL("pypi", name=package.name, version=package.version)
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(url.to_string()),
        comment="The hashes are those of the files of this version.",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=value) for value in package.hashes],
    )
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=url.to_string(),
        purl=url,
        licenses=[LicenseFactory().make_from_string(package.licence)] if package.licence else [],
        external_references=[files],
    )


def our_version() -> str:
    (version,) = re.findall(r'^__version__ = "(.+)"', (ROOT / "aipartnerupflow/__init__.py").read_text(), re.MULTILINE)
    return str(version)


@cache
def direct() -> frozenset[str]:
    """Return the names of the packages that pyproject.toml names."""
    text = (ROOT / "pyproject.toml").read_text().partition("[dependency-groups]")[0]
    return frozenset(normal(name) for name in re.findall(r'"([\w.-]+)(?:\[[\w,]+\])?[<>=]', text))


def main(file: Path) -> None:
    text = make_outputter(bill(packages()), OutputFormat.JSON, VERSION).output_as_string(indent=2)
    if (fault := JsonStrictValidator(VERSION).validate_str(text)) is not None:
        sys.exit(f"The bill of materials is not valid: {fault.data}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
