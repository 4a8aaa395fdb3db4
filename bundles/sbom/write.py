"""Make `sbom/` for a tree that is about to be published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bundles.pair import DRAFT_PARAMS, MAX_PARAMS_BYTES, TARGET_PARAMS
from bundles.recipe import Content
from bundles.release import FileEntry, Release
from bundles.sbom.bom import Contents, Origin, bom
from bundles.sbom.notices import notices
from bundles.sbom.packages import Package, read_deb, read_wheel

BOM = "sbom/bom.cdx.json"
NOTICES = "sbom/THIRD-PARTY-NOTICES.txt"
_HOPS = 8
_READERS: Mapping[str, Callable[[Path], Package]] = {".whl": read_wheel, ".deb": read_deb}


def sbom_files(
    tree: Path, release: Release, recipe: Iterable[Content], files: tuple[FileEntry, ...]
) -> Mapping[str, bytes]:
    """Return the files below `sbom/` for the `files` of `tree`, which were hashed already.

    Raises SourceFailed where a package's metadata cannot be read.
    """
    own = {
        entry.path: _READERS[Path(entry.path).suffix](tree / entry.path)
        for entry in files
        if Path(entry.path).suffix in _READERS
    }
    packages = _with_texts(own)
    listed = {entry.path for entry in files}
    contents = Contents(
        release=release,
        files=files,
        packages=packages,
        origins=dict(_origins(recipe)),
        params={path: _start(tree / path) for path in (TARGET_PARAMS, DRAFT_PARAMS) if path in listed},
        tool_version=_own_version(),
    )
    return {BOM: bom(contents), NOTICES: notices(f"{release.name} {release.version}", packages.values())}


def _with_texts(packages: Mapping[str, Package]) -> Mapping[str, Package]:
    """Give a package that points to another one's licence texts those, where that one is here too."""
    by_name = {package.name: package for package in packages.values()}

    def whole(package: Package) -> Package:
        other: Package | None = package
        for _ in range(_HOPS):
            if other is None or other.texts:
                break
            other = by_name.get(other.texts_of or "")
        return replace(package, texts=other.texts, license_names=other.license_names) if other else package

    return {path: whole(package) for path, package in packages.items()}


def _origins(recipe: Iterable[Content]) -> Iterable[tuple[str, Origin]]:
    for content in recipe:
        repository, revision = content.source.get("repository"), content.source.get("revision")
        if content.source.get("kind") == "hub" and isinstance(repository, str) and isinstance(revision, str):
            yield content.into, Origin(purl=f"pkg:huggingface/{repository}@{revision}", version=revision)


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(MAX_PARAMS_BYTES)


def _own_version() -> str:
    try:
        return version("leeward")
    except PackageNotFoundError:
        return "unknown"
