"""Release signers sign one after another: each reads every byte before putting a name under it.

    leeward bundle build ... --unsigned     content, release.json, targets that nobody has signed
    leeward bundle sign  MEDIUM --key K     re-hashes the medium, then adds one signature
    leeward bundle seal  MEDIUM --keys D    when enough have signed: snapshot and timestamp

A pending bundle has no `timestamp.json`, so that nothing imports it. Sealing adds no authority: the
keys of snapshot and timestamp, which a build host may hold, cannot stand for a missing signer, and
a forged seal over too few signatures is refused by every site.

Signers may work on the same medium in turn, or on copies: `collect` takes the signatures of another
copy's targets, where they are over the very same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Root, Targets

from bundles.digest import is_sha256_hex, sha256_hex
from bundles.errors import ContentMismatch, MediaMissing, ReleaseExpired, ReleaseInvalid, SignatureRefused
from bundles.keys import Keyring, key_name, write_new
from bundles.layout import METADATA, RELEASE_SUFFIX, TARGETS, Bundle
from bundles.refusal import MAX_ROOT_BYTES, MAX_TARGETS_BYTES, RoleEvidence, evidence_of, refusals_of_tuf
from bundles.release import MAX_RELEASE_BYTES, Release, release_from_bytes
from bundles.roots import follow_roots
from bundles.signing import MAX_DAYS, RELEASE_TARGET, Expiry, seal, with_signatures
from bundles.transfer import IsCanceled, Progress, fsync_folder, never, silent
from bundles.verify import verify_content

_ROOT = re.compile(r"([1-9][0-9]{0,5})\.root\.json")
_TARGETS = re.compile(r"[1-9][0-9]{0,9}\.targets\.json")
_CLOCKS_DIFFER = timedelta(days=1)
_COPY = "Do not sign. Compare this copy with the one on the build host, and build again if they differ."


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A bundle that waits for signatures: its release, the targets as they are, and the newest root."""

    bundle: Bundle
    name: str
    targets_json: bytes
    release: Release
    release_digest: str
    root: Root
    root_fingerprint: str

    @property
    def evidence(self) -> RoleEvidence:
        """Who has signed the release, and who has not."""
        return evidence_of(Targets.type, _targets(self.targets_json), self.root)

    @property
    def signer_keys(self) -> Mapping[str, Key]:
        """The keys that may sign a release, by their ids."""
        return {key_id: self.root.keys[key_id] for key_id in self.root.roles[Targets.type].keyids}


def open_pending(path: Path) -> Pending:
    """Open a bundle that waits for signatures, and check all of it but its content.

    Raises MediaMissing where none is there or it is sealed already, SignatureRefused for broken
    roots, ContentMismatch, ReleaseInvalid, PairMismatch.
    """
    bundle = Bundle(path)
    names = bundle.names(METADATA)
    found = [name for name in names if _TARGETS.fullmatch(name)]
    if len(found) != 1 or "timestamp.json" in names:
        sealed = "is sealed already" if "timestamp.json" in names else f"holds {len(found)} releases to sign"
        raise MediaMissing(
            detail=f"{path} {sealed}",
            remedy="Name the folder that `leeward bundle build --unsigned` made and that was not sealed yet.",
        )
    of_a_killed_seal = f"{found[0].split('.')[0]}.snapshot.json"  # sealing again replaces it
    beside = [name for name in names if not _ROOT.fullmatch(name) and name not in {found[0], of_a_killed_seal}]
    if beside:
        raise ContentMismatch(detail=f"beside roots and {found[0]} lie {', '.join(map(ascii, beside))}", remedy=_COPY)
    roots = _roots(bundle, names)
    targets_json = bundle.read(METADATA, found[0], limit=MAX_TARGETS_BYTES)
    content = _release_bytes(bundle, targets_json)
    release = release_from_bytes(content)
    metadata = _targets(targets_json)
    if not release.epoch == metadata.signed.version == int(found[0].split(".")[0]):
        raise ContentMismatch(
            detail=f"{found[0]} is for version {metadata.signed.version}, release.json for epoch {release.epoch}",
            remedy=_COPY,
        )
    return Pending(
        bundle=bundle,
        name=found[0],
        targets_json=targets_json,
        release=release,
        release_digest=sha256_hex(content),
        root=follow_roots(roots[0], roots[1:]),
        root_fingerprint=sha256_hex(roots[0]),
    )


def add_signature(
    pending: Pending,
    signer: Signer,
    *,
    now: datetime,
    upstream: Mapping[str, str] | None = None,
    progress: Progress = silent,
    is_canceled: IsCanceled = never,
) -> Pending:
    """Read every byte of the medium, and sign only if all is as `release.json` says.

    `upstream` are digests by path that the signer got another way (`read_sums`); each must be among
    the files. `now` is the signer's own clock: a release from the future would become the latest
    time of every site that takes it, and one that hardly expires could be replayed for as long.
    Raises ContentMismatch, ReleaseInvalid, SignatureRefused for a key that may not sign releases,
    MediaMissing, KeyLocked, Canceled; after any of them nothing was signed.
    """
    if signer.public_key.keyid not in pending.signer_keys:
        raise SignatureRefused(
            detail=f"{key_name(signer.public_key)} is no release signer of root version {pending.root.version}",
            remedy="Sign with one of " + ", ".join(sorted(map(key_name, pending.signer_keys.values()))) + ".",
        )
    if pending.release.created_at > now + _CLOCKS_DIFFER:
        raise ReleaseInvalid(
            detail=f"the release was made at {pending.release.created_at:%Y-%m-%d %H:%M} UTC; "
            f"it is {now:%Y-%m-%d %H:%M} UTC here",
            remedy="Do not sign. Correct the build host's clock and build again, or correct this clock.",
        )
    expires = pending.evidence.expires
    if expires > now + timedelta(days=MAX_DAYS) + _CLOCKS_DIFFER:
        raise ReleaseInvalid(
            detail=f"the release would be valid until {expires:%Y-%m-%d}; at most {MAX_DAYS} days are allowed",
            remedy="Do not sign. Build it again with a shorter expiry, and find out who asked for this one.",
        )
    check_upstream(pending.release, upstream or {})
    difference = verify_content(pending.bundle, pending.release, progress=progress, is_canceled=is_canceled)
    if difference:
        raise ContentMismatch(detail=str(difference), remedy=_COPY)
    return _adopt(pending, with_signatures(_targets(pending.targets_json), [signer]))


def collect(pending: Pending, others: Iterable[bytes]) -> Pending:
    """Take over signatures from other copies' targets.

    Raises ContentMismatch where a copy says something else. A signature that does not verify is left out.
    """
    metadata = _targets(pending.targets_json)
    for content in others:
        other = _targets(content)
        if other.signed_bytes != metadata.signed_bytes:
            raise ContentMismatch(detail=f"another copy's {pending.name} is for another release", remedy=_COPY)
        valid = pending.root.get_verification_result(Targets.type, other.signed_bytes, other.signatures)
        for key_id in valid.signed:
            metadata.signatures.setdefault(key_id, other.signatures[key_id])
    return _adopt(pending, metadata.to_bytes())


def seal_pending(pending: Pending, keyring: Keyring, *, now: datetime) -> RoleEvidence:
    """Close the bundle: put snapshot and timestamp over a release that enough have signed, valid as long as it is.

    Raises SignatureRefused with who is missing, or where the keyring lacks the keys, ReleaseExpired, KeyLocked.
    """
    evidence = pending.evidence
    if not evidence.passed:
        raise SignatureRefused(
            detail=str(evidence), remedy="Let the missing signers run `leeward bundle sign`, then seal again."
        )
    days = min((evidence.expires - now).days, MAX_DAYS)
    if days < 1:
        raise ReleaseExpired(
            detail=f"the release is valid until {evidence.expires:%Y-%m-%d}",
            remedy="Build it again, and let it be signed anew.",
        )
    sealed = seal(pending.targets_json, keyring, expiry=Expiry(snapshot_days=days, timestamp_days=days), now=now)
    for name in sorted(sealed):  # timestamp.json comes last: from then on it is a bundle
        _write(pending.bundle.path / METADATA / name, sealed[name])
    return evidence


def read_sums(text: str) -> Mapping[str, str]:
    """Read a list as `sha256sum` prints it: path to digest.

    Raises ContentMismatch for any other line, for two digests of one path, and where there is no
    line at all: comparing with nothing would always end well.
    """
    sums: dict[str, str] = {}
    for line in filter(None, text.splitlines()):
        digest, _, path = line.partition(" ")
        if not is_sha256_hex(digest) or not path[1:]:
            raise ContentMismatch(
                detail=f"{line[:80]!a} is no line of a list of SHA-256", remedy="Make the list with `sha256sum`."
            )
        if sums.setdefault(path[1:].removeprefix("./"), digest) != digest:
            raise ContentMismatch(
                detail=f"the list has two digests of {path[1:80]!a}", remedy="Make the list with `sha256sum`."
            )
    if not sums:
        raise ContentMismatch(detail="the list of SHA-256 is empty", remedy="Make the list with `sha256sum`.")
    return sums


def check_upstream(release: Release, sums: Mapping[str, str]) -> None:
    """Compare digests that came another way with the release's. Raises ContentMismatch with every difference."""
    files = {entry.path: entry.sha256 for entry in release.files}
    wrong = [f"{path} ({'differs' if path in files else 'missing'})" for path in sums if files.get(path) != sums[path]]
    if wrong:
        raise ContentMismatch(detail=f"not as in the list: {', '.join(sorted(wrong)[:10])}", remedy=_COPY)


def _adopt(pending: Pending, targets_json: bytes) -> Pending:
    _write(pending.bundle.path / METADATA / pending.name, targets_json)
    return replace(pending, targets_json=targets_json)


def _write(path: Path, content: bytes) -> None:
    partial = path.parent.parent / f".{path.name}.partial"  # not in metadata/, where only what is signed may lie
    partial.unlink(missing_ok=True)  # of a killed try, or a link that would lead elsewhere
    write_new(partial, content, mode=0o644)
    partial.replace(path)
    fsync_folder(path.parent)


def _roots(bundle: Bundle, names: tuple[str, ...]) -> list[bytes]:
    versions = sorted(int(match[1]) for name in names if (match := _ROOT.fullmatch(name)))
    if not versions or versions[0] != 1:
        raise MediaMissing(detail=f"{bundle.path} holds no 1.root.json", remedy="Build the bundle again.")
    return [bundle.read(METADATA, f"{version}.root.json", limit=MAX_ROOT_BYTES) for version in versions]


def _targets(content: bytes) -> Metadata[Targets]:
    with refusals_of_tuf(None, None, None):
        return Metadata[Targets].from_bytes(content)


def _release_bytes(bundle: Bundle, targets_json: bytes) -> bytes:
    signed = _targets(targets_json).signed
    target = signed.targets.get(RELEASE_TARGET)
    if target is None or len(signed.targets) != 1 or signed.delegations:
        raise ContentMismatch(
            detail=f"the targets are {sorted(signed.targets)}; exactly {RELEASE_TARGET} is expected", remedy=_COPY
        )
    manifest = f"{target.hashes.get('sha256')}{RELEASE_SUFFIX}"
    if bundle.names(TARGETS) != (manifest,):
        raise ContentMismatch(
            detail=f"targets/ holds {', '.join(map(ascii, bundle.names(TARGETS)[:5]))}, not only {manifest}",
            remedy=_COPY,
        )
    content = bundle.read(TARGETS, manifest, limit=MAX_RELEASE_BYTES)
    if len(content) != target.length or sha256_hex(content) != target.hashes["sha256"]:
        raise ContentMismatch(detail=f"targets/{manifest} is not what its name says", remedy=_COPY)
    return content
