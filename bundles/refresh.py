"""The client workflow of The Update Framework over a medium instead of a network.

python-tuf decides; what it accepted is looked at again, file by file, so that every file on the
medium proves itself and nothing lies there that is not signed. All happens in a scratch folder.

python-tuf keeps its reference time in a private attribute; `tests/unit/bundles/test_trust.py` guards it.
Specification: The Update Framework 1.0, section 5.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata, Root, TargetFile
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from bundles.digest import sha256_hex
from bundles.errors import ContentMismatch, ReleaseInvalid, SignatureRefused
from bundles.layout import METADATA, RELEASE_SUFFIX, TARGETS, Bundle
from bundles.refusal import (
    MAX_ROOT_BYTES,
    MAX_SNAPSHOT_BYTES,
    MAX_TARGETS_BYTES,
    MAX_TIMESTAMP_BYTES,
    RoleEvidence,
    check_post_quantum,
    collect_evidence,
    refusals_of_tuf,
)
from bundles.release import MAX_RELEASE_BYTES
from bundles.roots import CALL, same_root
from bundles.signing import RELEASE_TARGET
from bundles.trust_state import gather, spread

ROOT_HISTORY = "root_history/"
BEGINNING = datetime.min.replace(tzinfo=UTC)
"""A reference time at which nothing has expired."""
_URL = "bundle:/"
_ROOT = re.compile(r"([1-9][0-9]{0,5})\.root\.json")
_CONFIG = UpdaterConfig(
    root_max_length=MAX_ROOT_BYTES,
    timestamp_max_length=MAX_TIMESTAMP_BYTES,
    snapshot_max_length=MAX_SNAPSHOT_BYTES,
    targets_max_length=MAX_TARGETS_BYTES,
    max_delegations=1,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What the medium's metadata says, after it passed; `state` is the metadata to be trusted from then on."""

    release_json: bytes
    targets_version: int
    root_version: int
    roles: tuple[RoleEvidence, ...]
    state: Mapping[str, bytes] = field(repr=False)


def refresh(bundle: Bundle, anchor: bytes, known: Mapping[str, bytes], reference: datetime) -> Refreshed:
    """Check the medium's metadata and read its release manifest; `known` is what was trusted before.

    Raises SignatureRefused, RollbackRefused, ReleaseExpired, ContentMismatch, ReleaseInvalid, MediaMissing.
    """
    with tempfile.TemporaryDirectory(prefix="leeward-trust-") as scratch:
        copy = Path(scratch)
        spread(known, copy)
        checked = _check(bundle, anchor, copy, reference)
        release_json = _release_bytes(bundle, checked.target)
        _check_roots(bundle, copy, checked.root_version)
        _check_names(bundle, checked)
        return Refreshed(
            release_json=release_json,
            targets_version=checked.targets_version,
            root_version=checked.root_version,
            roles=checked.roles,
            state=dict(gather(copy)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    target: TargetFile
    targets_version: int
    root_version: int
    names: frozenset[str]
    roles: tuple[RoleEvidence, ...]


class _MediumFetcher(FetcherInterface):
    """Gives python-tuf the medium's files instead of a network."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix(f"{_URL}{METADATA}/")
        try:
            content = self._bundle.read(METADATA, name, limit=MAX_TARGETS_BYTES)
        except FileNotFoundError:
            raise DownloadHTTPError(f"{METADATA}/{name} is missing", 404) from None
        return iter((content,))


def _check(bundle: Bundle, anchor: bytes, copy: Path, reference: datetime) -> _Checked:
    """Walk root, timestamp, snapshot and targets as TUF says, then look again at who signed what."""
    with refusals_of_tuf(bundle, copy, reference):
        updater = Updater(
            str(copy), f"{_URL}{METADATA}/", fetcher=_MediumFetcher(bundle), config=_CONFIG, bootstrap=anchor
        )
        trusted = updater._trusted_set  # noqa: SLF001  python-tuf has no public reference time (issue 2359); a test guards it
        trusted.reference_time = reference
        updater.refresh()
        target = updater.get_targetinfo(RELEASE_TARGET)
    check_post_quantum(_walked_roots(copy, anchor))
    if target is None or set(trusted.targets.targets) != {RELEASE_TARGET} or trusted.targets.delegations:
        raise ReleaseInvalid(
            detail=f"the signed targets are {sorted(trusted.targets.targets)}; exactly {RELEASE_TARGET} is expected",
            remedy="The publisher must sign the release again; do not import this bundle.",
        )
    names = {f"{number}.root.json" for number in range(1, trusted.root.version + 1)}
    names |= {f"{trusted.targets.version}.targets.json", f"{trusted.snapshot.version}.snapshot.json", "timestamp.json"}
    return _Checked(
        target=target,
        targets_version=trusted.targets.version,
        root_version=trusted.root.version,
        names=frozenset(names),
        roles=collect_evidence(bundle, copy, trusted.root),
    )


def _walked_roots(copy: Path, anchor: bytes) -> list[bytes]:
    first = Metadata[Root].from_bytes(anchor).signed.version
    roots = [anchor]
    while (path := copy / "root_history" / f"{first + len(roots)}.root.json").is_file():
        roots.append(path.read_bytes())
    return roots


def _release_bytes(bundle: Bundle, target: TargetFile) -> bytes:
    name = f"{target.hashes['sha256']}{RELEASE_SUFFIX}" if "sha256" in target.hashes else RELEASE_TARGET
    if target.length > MAX_RELEASE_BYTES:
        raise ReleaseInvalid(
            detail=f"release.json has {target.length:,} bytes; {MAX_RELEASE_BYTES:,} are allowed",
            remedy="The publisher must sign the release again; do not import this bundle.",
        )
    try:
        content = bundle.read(TARGETS, name, limit=target.length)
    except FileNotFoundError:
        raise ContentMismatch(
            detail=f"{TARGETS}/{name} is missing",
            remedy="The copy is incomplete. Ask the publisher for a good copy and check how it travelled.",
        ) from None
    if len(content) != target.length or f"{sha256_hex(content)}{RELEASE_SUFFIX}" != name:
        raise ContentMismatch(
            detail=f"{TARGETS}/{name} has {len(content):,} bytes with SHA-256 {sha256_hex(content)}; "
            f"signed are {target.length:,} bytes with {target.hashes.get('sha256')}",
            remedy="Do not import this medium. Ask the publisher for a good copy and check how it travelled.",
        )
    return content


def _check_names(bundle: Bundle, checked: _Checked) -> None:
    """Refuse whatever lies in metadata/ or targets/ without being part of the signed set."""
    manifest = f"{checked.target.hashes.get('sha256')}{RELEASE_SUFFIX}"
    extra = [f"{METADATA}/{name}" for name in bundle.names(METADATA) if name not in checked.names]
    extra += [f"{TARGETS}/{name}" for name in bundle.names(TARGETS) if name != manifest]
    if extra:
        raise ContentMismatch(
            detail=f"on the medium, but not signed: {', '.join(map(ascii, extra[:10]))}"
            + (f" and {len(extra) - 10} more" if len(extra) > 10 else ""),  # noqa: PLR2004  as many as a person reads
            remedy="Someone or something wrote to the medium after it was made. Ask the publisher for a good copy.",
        )


def _check_roots(bundle: Bundle, copy: Path, newest: int) -> None:
    """Refuse a gap or a fork in the medium's roots; python-tuf looks only at those that it needs."""
    for name in bundle.names(METADATA):
        match = _ROOT.fullmatch(name)
        if not match:
            continue
        if int(match[1]) > newest:
            raise SignatureRefused(
                detail=f"{METADATA}/{name} does not follow root version {newest}: "
                f"{newest + 1}.root.json is missing or is no root",
                remedy="Ask the publisher for every root since the first; they travel together.",
            )
        known = copy / ROOT_HISTORY / name
        if known.is_file() and not same_root(bundle.read(METADATA, name, limit=MAX_ROOT_BYTES), known.read_bytes()):
            raise SignatureRefused(
                detail=f"{METADATA}/{name} says something else than root version {match[1]} that is trusted here",
                remedy=CALL,
            )
