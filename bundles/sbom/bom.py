"""The CycloneDX 1.6 list of a release. Pure; tests check it against the official schema.

Specification: CycloneDX 1.6 (ECMA-424), JSON. Models are `machine-learning-model` components with a
model card of what their own files say, and nothing that they don't.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bundles import codec
from bundles.digest import sha256_hex, tree_digest
from bundles.pair import DRAFT_PARAMS, TARGET_PARAMS
from bundles.release import DRAFT_FOLDER, TARGET_FOLDER, FileEntry, LicenseEntry, Release
from bundles.sbom.packages import Package

SPEC_VERSION = "1.6"
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
"""RFC 4122's namespace for URLs: the serial number follows from the content."""
_CARD_FIELDS = ("dim", "n_layers", "n_heads", "n_kv_heads", "head_dim", "hidden_dim", "vocab_size")
_UNITS = {TARGET_FOLDER: TARGET_PARAMS, DRAFT_FOLDER: DRAFT_PARAMS}

Plain = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a folder of the release came from: a package URL and the revision, where there are such."""

    purl: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What the list is made of: files with digests, packages and origins by path, the two params.json."""

    release: Release
    files: tuple[FileEntry, ...]
    packages: Mapping[str, Package]
    origins: Mapping[str, Origin]
    params: Mapping[str, bytes]
    tool_version: str


def bom(contents: Contents) -> bytes:
    """Return `bom.cdx.json`; the same contents give the same bytes."""
    release = contents.release
    components = [
        *(_model(contents, folder) for folder in _UNITS),
        *(
            _package(entry, contents.packages[entry.path])
            for entry in contents.files
            if entry.path in contents.packages
        ),
        *_others(contents),
    ]
    plain: Plain = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": {
            "timestamp": codec.to_plain(release.created_at),
            "tools": {"components": [{"type": "application", "name": "leeward", "version": contents.tool_version}]},
            "component": {
                "type": "application",
                "bom-ref": "release",
                "name": release.name,
                "version": release.version,
                "properties": _properties(epoch=release.epoch, slot=release.slot),
            },
        },
        "components": components,
        "dependencies": [{"ref": "release", "dependsOn": [component["bom-ref"] for component in components]}],
    }
    plain["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, sha256_hex(codec.canonical_json(plain)))}"
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False).encode("utf-8") + b"\n"


def _model(contents: Contents, folder: str) -> Plain:
    ref = folder.rstrip("/")
    files = [entry for entry in contents.files if entry.path.startswith(folder)]
    origin = contents.origins.get(ref)
    licenses = [entry for entry in contents.release.licenses if entry.applies_to in {ref, ref.rpartition("/")[2]}]
    component: Plain = {
        "type": "machine-learning-model",
        "bom-ref": ref,
        "name": origin.purl.rpartition("/")[2].partition("@")[0] if origin else f"{contents.release.name} {ref}",
        "version": origin.version if origin else contents.release.version,
        "modelCard": _card(contents, folder),
        "properties": [
            *_properties(tree_sha256=tree_digest((entry.path, entry.sha256) for entry in files)),
            *(one for entry in licenses for one in _license_properties(contents, entry)),
        ],
        "components": [
            {"type": "file", "bom-ref": entry.path, "name": entry.path, "hashes": _hashes(entry)} for entry in files
        ],
    }
    if origin:
        component["purl"] = origin.purl
    if licenses:
        component["licenses"] = [{"expression": " AND ".join(dict.fromkeys(entry.spdx_id for entry in licenses))}]
    return component


def _card(contents: Contents, folder: str) -> Plain:
    """Return a model card from what `params.json` says."""
    params = codec.parse_json(contents.params[_UNITS[folder]])
    assert isinstance(params, dict)  # noqa: S101  bundles.pair has read it before
    is_target = folder == TARGET_FOLDER
    inputs = [{"format": "text"}] + ([{"format": "image"}] if params.get("vision_encoder") else [])
    parameters: Plain = {
        "task": "text-generation",
        "modelArchitecture": "decoder-only transformer" if is_target else "EAGLE draft head for speculative decoding",
        "inputs": inputs,
        "outputs": [{"format": "text"}],
    }
    numbers = {field: params[field] for field in _CARD_FIELDS if field in params}
    return {"modelParameters": parameters, "properties": _properties(**numbers)}


def _package(entry: FileEntry, package: Package) -> Plain:
    component: Plain = {
        "type": "library",
        "bom-ref": entry.path,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        "hashes": _hashes(entry),
        "properties": _properties(
            path=entry.path, license_text_sha256=" ".join(sha256_hex(text.encode()) for text in package.texts)
        ),
    }
    if package.expression:
        component["licenses"] = [{"expression": package.expression}]
    elif package.license_names:
        component["licenses"] = [{"license": {"name": name}} for name in package.license_names]
    return component


def _others(contents: Contents) -> Iterable[Plain]:
    """Give everything else as files: playbooks, locks, the repository's own lists."""
    for entry in contents.files:
        if entry.path not in contents.packages and not entry.path.startswith(tuple(_UNITS)):
            yield {"type": "file", "bom-ref": entry.path, "name": entry.path, "hashes": _hashes(entry)}


def _license_properties(contents: Contents, entry: LicenseEntry) -> list[Plain]:
    digest = next((file.sha256 for file in contents.files if file.path == entry.path), "missing")
    return _properties(license_text=entry.path, license_text_sha256=digest)


def _hashes(entry: FileEntry) -> list[Plain]:
    return [{"alg": "SHA-256", "content": entry.sha256}]


def _properties(**values: object) -> list[Plain]:
    return [{"name": f"leeward:{name}", "value": str(value)} for name, value in values.items()]
