"""THIRD-PARTY-NOTICES.txt: each licence text once, with everything that it covers. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from bundles.digest import sha256_hex
from bundles.sbom.packages import Package

_RULE = "=" * 100
_HEAD = """\
Made from the metadata of the Python wheels and Debian packages in this release. Every text stands as
its package has it. The licences of the models stand in licenses/, as files of their own.
"""


def notices(release: str, packages: Iterable[Package]) -> bytes:
    """Return the notices of a release, in name order; the same packages give the same bytes."""
    ordered = sorted({package.purl: package for package in packages}.values(), key=lambda one: (one.name, one.purl))
    covered: dict[str, list[str]] = {}
    for package in ordered:
        for text in package.texts:
            covered.setdefault(text, []).append(f"{package.name} {package.version}")
    silent = [f"{one.name} {one.version} ({license_words(one)}{_elsewhere(one)})" for one in ordered if not one.texts]
    parts = [f"Third-party notices of {release}\n\n{_HEAD}"]
    for text, names in covered.items():
        parts.append(f"{_RULE}\n{_listed(names)}\nSHA-256 of the text: {sha256_hex(text.encode())}\n\n{text}")
    if silent:
        parts.append(f"{_RULE}\nThese packages carry no licence text of their own:\n{_listed(silent)}\n")
    return "\n".join(parts).encode("utf-8", errors="replace")


def license_words(package: Package) -> str:
    """Return what a package says of its licence, for people."""
    return package.expression or ", ".join(package.license_names) or "licence unknown"


def _elsewhere(package: Package) -> str:
    return f"; its text is that of {package.texts_of}, which every Debian 12 has" if package.texts_of else ""


def _listed(names: list[str]) -> str:
    return "\n".join(f"  {name}" for name in names)
