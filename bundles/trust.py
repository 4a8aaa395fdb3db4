"""Whom this machine trusts, and whether a medium passes.

    trust/
      anchor.root.json      the first trusted root; its SHA-256 was compared with paper
      current -> states/N   what was accepted last: TUF metadata, root history, policy.json
      states/N/

A check works on a copy of the state; `Verified.commit` adopts the new one with a single rename, and
is called only when the whole import has passed. So a refused medium changes nothing.

Expiry is judged against the later of the given time and the last trusted time: a clock that was set
back revives nothing. Rollback is judged by version numbers, never by time. Beyond TUF's rules every
root must carry a signature by an ML-DSA key that the root before it names, so that breaking elliptic
curves is not enough to become the publisher.

Specification: The Update Framework 1.0, section 5 (client workflow). python-tuf keeps its reference
time in a private attribute; `tests/unit/bundles/test_trust.py` guards it.
"""

from __future__ import annotations

import hmac
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata, Root, TargetFile
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from bundles import codec
from bundles.digest import sha256_hex
from bundles.errors import ContentMismatch, ReleaseInvalid, RollbackRefused, SignatureRefused, TrustRootMissing
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
from bundles.release import MAX_RELEASE_BYTES, Release, release_from_bytes
from bundles.signing import RELEASE_TARGET
from bundles.transfer import fsync_folder

ANCHOR = "anchor.root.json"
CURRENT = "current"
STATES = "states"
POLICY = "policy.json"
_URL = "bundle:/"
_CONFIG = UpdaterConfig(
    root_max_length=MAX_ROOT_BYTES,
    timestamp_max_length=MAX_TIMESTAMP_BYTES,
    snapshot_max_length=MAX_SNAPSHOT_BYTES,
    targets_max_length=MAX_TARGETS_BYTES,
    max_delegations=1,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What was accepted so far: the last trusted time, the newest epoch, the highest rollback floor."""

    time: datetime
    epoch: int
    rollback_floor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The evidence of a check that passed: what was signed, by whom, and what was required.

    `roles` has one entry each for root, targets, snapshot and timestamp; `known_epoch` is the newest
    epoch accepted before (None on a first import); `reference_time` is what expiry was judged by.
    Nothing is adopted until `commit`.
    """

    release: Release
    release_json: bytes
    roles: tuple[RoleEvidence, ...]
    root_fingerprint: str
    root_version: int
    reference_time: datetime
    known_epoch: int | None
    _state: Mapping[str, bytes] = field(repr=False)
    _store: TrustStore = field(repr=False)

    def commit(self) -> None:
        """Adopt the new trusted state, atomically and durably; again does no harm.

        Raises RollbackRefused where something newer was adopted meanwhile, OSError where the store
        cannot be written.
        """
        self._store.adopt(self._state, epoch=self.release.epoch)


class TrustStore:
    """The trusted root and state in one folder. Not safe for two writers at once: the daemon is the only one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def root_fingerprint(self) -> str | None:
        """The SHA-256 (hex) of the anchored root, as it stands on paper; None where nothing is trusted yet."""
        anchor = self._anchor()
        return None if anchor is None else sha256_hex(anchor)

    @property
    def policy(self) -> Policy | None:
        """What was accepted so far; None before the first import."""
        return _policy(self._state())

    def anchor(self, root_json: bytes, expected_fingerprint: str) -> None:
        """Trust `root_json` from now on, because its SHA-256 equals what came on paper.

        `expected_fingerprint` may have spaces, colons or capitals. Doing it again is allowed; another
        root than before is refused. Raises SignatureRefused, OSError.
        """
        found = sha256_hex(root_json)
        if not hmac.compare_digest(found, normalized(expected_fingerprint)):
            raise SignatureRefused(
                detail=f"the root has fingerprint {found}; expected was {expected_fingerprint.strip()[:128]}",
                remedy="Compare both again with the paper. If they differ, do not use this medium.",
            )
        known = self._anchor()
        if known is not None and known != root_json:
            raise SignatureRefused(
                detail=f"this site already trusts the root {sha256_hex(known)}; offered was {found}",
                remedy=f"If the publisher really began anew, two people move {self._directory} away and anchor again.",
            )
        with refusals_of_tuf(None, None, None):
            root = Metadata[Root].from_bytes(root_json)
            root.signed.verify_delegate(Root.type, root.signed_bytes, root.signatures)
        check_post_quantum([root_json])
        if known is None:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o755)
            _write_durably(self._directory / ANCHOR, root_json)
            fsync_folder(self._directory)

    def check(self, bundle: Bundle, *, now: datetime) -> Verified:
        """Check signatures, then release policy, on a copy of the state. Content comes later.

        `now` is the system clock in UTC. Raises TrustRootMissing, SignatureRefused, RollbackRefused,
        ReleaseExpired, ContentMismatch, ReleaseInvalid, PairMismatch, MediaMissing. Changes nothing.
        """
        anchor = self._anchor()
        if anchor is None:
            raise TrustRootMissing(
                detail=f"{self._directory} holds no {ANCHOR}",
                remedy="Give the root fingerprint from the publisher's paper with `--root-fingerprint`.",
            )
        state = self._state()
        policy = _policy(state)
        reference = max(now.astimezone(UTC), policy.time) if policy else now.astimezone(UTC)
        with tempfile.TemporaryDirectory(prefix="leeward-trust-") as scratch:
            copy = Path(scratch)
            _spread(state, copy)
            refreshed = _refresh(bundle, anchor, copy, reference)
            new_state = dict(_gather(copy))
        release_json = _release_bytes(bundle, refreshed.target)
        release = release_from_bytes(release_json)
        check_policy(release, targets_version=refreshed.targets_version, policy=policy)
        _check_names(bundle, refreshed)
        new_state[POLICY] = codec.canonical_json(codec.to_plain(_advanced(policy, release, reference)))
        return Verified(
            release=release,
            release_json=release_json,
            roles=refreshed.roles,
            root_fingerprint=sha256_hex(anchor),
            root_version=refreshed.root_version,
            reference_time=reference,
            known_epoch=policy.epoch if policy else None,
            _state=new_state,
            _store=self,
        )

    def adopt(self, state: Mapping[str, bytes], *, epoch: int) -> None:
        """Make `state` the current one; for `Verified.commit`. Raises RollbackRefused, OSError."""
        known = self.policy
        if known is not None and known.epoch > epoch:
            raise RollbackRefused(
                detail=f"epoch {known.epoch} was accepted while epoch {epoch} was being imported",
                remedy="Import the newer bundle again if in doubt; nothing was changed.",
            )
        states = self._directory / STATES
        states.mkdir(exist_ok=True)
        old = self._current()
        number = 1 + max((int(entry.name) for entry in states.iterdir() if entry.name.isdecimal()), default=0)
        fresh = states / str(number)
        fresh.mkdir()
        _spread(state, fresh, durable=True)
        fsync_folder(states)
        link = self._directory / f".{CURRENT}"
        link.unlink(missing_ok=True)
        link.symlink_to(f"{STATES}/{number}")
        link.replace(self._directory / CURRENT)
        fsync_folder(self._directory)
        for entry in states.iterdir():  # generations of our own making; the one before is kept for a look back
            if entry.name.isdecimal() and entry not in {fresh, old}:
                shutil.rmtree(entry)

    def _anchor(self) -> bytes | None:
        try:
            return (self._directory / ANCHOR).read_bytes()
        except FileNotFoundError:
            return None

    def _current(self) -> Path | None:
        link = self._directory / CURRENT
        return self._directory / link.readlink() if link.is_symlink() else None

    def _state(self) -> Mapping[str, bytes]:
        current = self._current()
        return {} if current is None else dict(_gather(current))


def normalized(fingerprint: str) -> str:
    """Return a fingerprint as people write it (groups, colons, capitals) in plain lower-case hex."""
    return "".join(fingerprint.split()).replace(":", "").lower()


def check_policy(release: Release, *, targets_version: int, policy: Policy | None) -> None:
    """Check the release's own rules against what was accepted before.

    Raises ReleaseInvalid where the epoch is not the signed version, RollbackRefused where the epoch
    lies below the newest accepted one or below its rollback floor.
    """
    if release.epoch != targets_version:
        raise ReleaseInvalid(
            detail=f"release.json says epoch {release.epoch}; its signature is for version {targets_version}",
            remedy="The publisher must sign the release again; do not import this bundle.",
        )
    if policy is None:
        return
    if release.epoch < policy.epoch or release.epoch < policy.rollback_floor:
        raise RollbackRefused(
            detail=f"the bundle has epoch {release.epoch}; this site has accepted epoch {policy.epoch} "
            f"and must not go below epoch {policy.rollback_floor}",
            remedy="Import a bundle with a newer epoch.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refreshed:
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


def _refresh(bundle: Bundle, anchor: bytes, copy: Path, reference: datetime) -> _Refreshed:
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
    return _Refreshed(
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


def _check_names(bundle: Bundle, refreshed: _Refreshed) -> None:
    """Refuse whatever lies in metadata/ or targets/ without being part of the signed set."""
    manifest = f"{refreshed.target.hashes.get('sha256')}{RELEASE_SUFFIX}"
    extra = [f"{METADATA}/{name}" for name in bundle.names(METADATA) if name not in refreshed.names]
    extra += [f"{TARGETS}/{name}" for name in bundle.names(TARGETS) if name != manifest]
    if extra:
        raise ContentMismatch(
            detail=f"on the medium, but not signed: {', '.join(map(ascii, extra[:10]))}"
            + (f" and {len(extra) - 10} more" if len(extra) > 10 else ""),  # noqa: PLR2004  as many as a person reads
            remedy="Someone or something wrote to the medium after it was made. Ask the publisher for a good copy.",
        )


def _advanced(policy: Policy | None, release: Release, reference: datetime) -> Policy:
    return Policy(
        time=max(reference, release.created_at).replace(microsecond=0),
        epoch=release.epoch,
        rollback_floor=max(release.rollback_floor, policy.rollback_floor if policy else 1),
    )


def _policy(state: Mapping[str, bytes]) -> Policy | None:
    content = state.get(POLICY)
    if content is None:
        return None
    try:
        return codec.from_plain(codec.parse_json(content), Policy)
    except codec.CodecError as error:
        raise TrustRootMissing(
            detail=f"{POLICY} of the trusted state is damaged: {error}",
            remedy="Restore /var/lib/leeward/trust from a backup; do not anchor anew without the publisher's paper.",
        ) from error


def _gather(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Give a state's files; links (python-tuf keeps one to the newest root) are not part of it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def _spread(state: Mapping[str, bytes], folder: Path, *, durable: bool = False) -> None:
    for name, content in state.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if durable:
            _write_durably(path, content)
        else:
            path.write_bytes(content)
    if durable:
        for parent in {(folder / name).parent for name in state} | {folder}:
            fsync_folder(parent)


def _write_durably(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
