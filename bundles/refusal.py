"""Why a medium's metadata was refused, in words; and who signed what when it was not.

python-tuf decides. This module looks again at the same files to tell a person what was required,
what was found and what is missing, and turns TUF's exceptions into Leeward's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from bundles.errors import (
    ContentMismatch,
    LeewardError,
    MediaMissing,
    ReleaseExpired,
    ReleaseInvalid,
    RollbackRefused,
    SignatureRefused,
)
from bundles.keys import key_name
from bundles.layout import METADATA, Bundle

MAX_ROOT_BYTES = 512_000
MAX_TIMESTAMP_BYTES = 64_000
"""python-tuf's default of 16,384 would not hold two ML-DSA-87 signatures."""
MAX_SNAPSHOT_BYTES = 256_000
MAX_TARGETS_BYTES = 1_000_000
POST_QUANTUM = "ml-dsa"

_COPY = "Do not import this medium. Ask the publisher for a good copy and check how it travelled."
_CALL = "Do not import this medium. Call the publisher on a number that you know, and read out the key ids."

AnyMetadata = Metadata[Root] | Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleEvidence:
    """Who signed one role's metadata. Names are the keys' names with the start of the key id."""

    role: str
    version: int
    expires: datetime
    threshold: int
    signed: tuple[str, ...]
    not_signed: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether enough known keys signed."""
        return len(self.signed) >= self.threshold

    def __str__(self) -> str:
        parts = [f"{self.role} version {self.version}: {self.threshold} signatures required, {len(self.signed)} found"]
        for what, names in (
            ("signed by", self.signed),
            ("not signed by", self.not_signed),
            ("signed by unknown keys", self.unknown),
        ):
            if names:
                parts.append(f"{what} {', '.join(names)}")
        return "; ".join(parts)


def collect_evidence(bundle: Bundle, copy: Path, root: Root) -> tuple[RoleEvidence, ...]:
    """Look at the medium's own files of the accepted roles, each against the trusted root.

    python-tuf prefers what it holds already and then does not read the medium's file of the same
    version; so each file must here prove itself, and say the same. Raises SignatureRefused,
    ContentMismatch, MediaMissing.
    """
    evidence = [_of_root(root, copy)]
    vouched: MetaFile | None = None  # what the file before says of the next one's size and digest
    for role in (Timestamp.type, Snapshot.type, Targets.type):
        accepted: AnyMetadata = Metadata.from_bytes((copy / f"{role}.json").read_bytes())
        name = f"{role}.json" if role == Timestamp.type else f"{accepted.signed.version}.{role}.json"
        found = _load(bundle, name, vouched)
        if found is None:
            raise ContentMismatch(detail=f"{METADATA}/{name} is missing or is not what was signed", remedy=_COPY)
        shown = evidence_of(role, found, root)
        if not shown.passed:
            raise SignatureRefused(detail=str(shown), remedy=_CALL)
        if _claims(found) != _claims(accepted):
            raise RollbackRefused(
                detail=f"{METADATA}/{name} says something else than what was accepted before under the same version",
                remedy="The publisher must give the new release a higher epoch.",
            )
        evidence.append(shown)
        vouched = _next(found)
    return tuple(evidence)


def evidence_of(role: str, found: AnyMetadata, root: Root) -> RoleEvidence:
    """Say who signed `found`, as `root` names the keys of `role`."""
    result = root.get_verification_result(role, found.signed_bytes, found.signatures)
    known = set(root.roles[role].keyids)
    return RoleEvidence(
        role=role,
        version=found.signed.version,
        expires=found.signed.expires,
        threshold=result.threshold,
        signed=tuple(f"{key_name(key)} ({_shown(key_id)})" for key_id, key in result.signed.items()),
        not_signed=tuple(f"{key_name(key)} ({_shown(key_id)})" for key_id, key in result.unsigned.items()),
        unknown=tuple(_shown(key_id) for key_id in found.signatures if key_id not in known),
    )


def check_post_quantum(roots: Sequence[bytes]) -> None:
    """Check the local policy: each root is signed by an ML-DSA key that the root before it names.

    The first root answers for itself. Raises SignatureRefused.
    """
    before = Metadata[Root].from_bytes(roots[0]).signed
    for content in roots:
        metadata = Metadata[Root].from_bytes(content)
        for judge in (before, metadata.signed):
            result = judge.get_verification_result(Root.type, metadata.signed_bytes, metadata.signatures)
            if not any(key.keytype == POST_QUANTUM for key in result.signed.values()):
                found = ", ".join(map(_shown, result.signed)) or "no known key"
                raise SignatureRefused(
                    detail=f"root version {metadata.signed.version} has no valid ML-DSA signature; "
                    f"one is required here; found are signatures by {found}",
                    remedy=_CALL,
                )
        before = metadata.signed


@contextmanager
def refusals_of_tuf(bundle: Bundle | None, copy: Path | None, reference: datetime | None) -> Iterator[None]:
    """Turn what python-tuf raises into Leeward's errors, with what a person needs to know."""
    try:
        yield
    except ExpiredMetadataError as error:
        raise ReleaseExpired(
            detail=f"{error}{_dates(bundle, copy)}; judged by {_time(reference)}",
            remedy="Check the clock. If it is right, ask the publisher for a bundle with fresh signatures.",
        ) from error
    except UnsignedMetadataError as error:
        raise SignatureRefused(detail=_signatures(bundle, copy) or str(error), remedy=_CALL) from error
    except BadVersionNumberError as error:
        raise RollbackRefused(
            detail=f"{error}{_versions(bundle, copy)}", remedy="Import a bundle that is newer than the accepted one."
        ) from error
    except (LengthOrHashMismatchError, DownloadLengthMismatchError) as error:
        raise ContentMismatch(detail=f"the metadata is not what was signed: {error}", remedy=_COPY) from error
    except RepositoryError as error:
        raise ReleaseInvalid(detail=f"the metadata cannot be read: {error}", remedy=_COPY) from error
    except DownloadError as error:
        if isinstance(error.__cause__, LeewardError):
            raise error.__cause__ from None
        raise ContentMismatch(detail=f"{error}", remedy=_COPY) from error


def _of_root(root: Root, copy: Path) -> RoleEvidence:
    content = (copy / "root_history" / f"{root.version}.root.json").read_bytes()
    return evidence_of(Root.type, Metadata.from_bytes(content), root)


def _shown(key_id: str) -> str:
    return ascii(key_id[:16]).strip("'")


def _claims(found: AnyMetadata) -> object:
    """What metadata says, without its dates: the publisher may sign the same again for longer."""
    signed = found.signed
    if isinstance(signed, Targets):
        return signed.targets
    return signed.version


def _next(found: AnyMetadata) -> MetaFile | None:
    """Return what a file says of the next one."""
    signed = found.signed
    if isinstance(signed, Timestamp):
        return signed.snapshot_meta
    return signed.meta.get("targets.json") if isinstance(signed, Snapshot) else None


def _load(bundle: Bundle, name: str, vouched: MetaFile | None = None) -> AnyMetadata | None:
    """Read metadata from the medium; None where it is missing, unreadable or not what `vouched` says."""
    try:
        content = bundle.read(METADATA, name, limit=MAX_TARGETS_BYTES)
        if vouched is not None:
            vouched.verify_length_and_hashes(content)
        metadata: AnyMetadata = Metadata.from_bytes(content)
    except (RepositoryError, FileNotFoundError, ContentMismatch, MediaMissing):
        return None
    return metadata


def _trusted_root(copy: Path | None) -> Root | None:
    """The newest root that python-tuf had accepted when it refused something."""
    link = copy / "root.json" if copy else None
    return Metadata[Root].from_bytes(link.read_bytes()).signed if link and link.exists() else None


def _medium(bundle: Bundle | None) -> Iterator[tuple[str, AnyMetadata]]:
    """Follow the medium's own metadata from the timestamp down, without trusting it."""
    if bundle is None:
        return
    timestamp = _load(bundle, "timestamp.json")
    if timestamp is None or not isinstance(timestamp.signed, Timestamp):
        return
    yield Timestamp.type, timestamp
    snapshot = _load(bundle, f"{timestamp.signed.snapshot_meta.version}.snapshot.json")
    if snapshot is None or not isinstance(snapshot.signed, Snapshot):
        return
    yield Snapshot.type, snapshot
    named = snapshot.signed.meta.get("targets.json")
    targets = _load(bundle, f"{named.version}.targets.json") if named else None
    if targets is not None and isinstance(targets.signed, Targets):
        yield Targets.type, targets


def _signatures(bundle: Bundle | None, copy: Path | None) -> str | None:
    root = _trusted_root(copy)
    if root is None or bundle is None:
        return None
    following = _load(bundle, f"{root.version + 1}.root.json")
    found = [(Root.type, following)] if following else []
    for role, metadata in (*found, *_medium(bundle)):
        shown = evidence_of(role, metadata, root)
        if not shown.passed:
            return str(shown)
    return None


def _versions(bundle: Bundle | None, copy: Path | None) -> str:
    seen = [f"{role} {metadata.signed.version}" for role, metadata in _medium(bundle)]
    known = []
    for role in (Timestamp.type, Snapshot.type, Targets.type):
        path = copy / f"{role}.json" if copy else None
        if path and path.is_file():
            accepted: AnyMetadata = Metadata.from_bytes(path.read_bytes())
            known.append(f"{role} {accepted.signed.version}")
    return f"; versions on the medium: {', '.join(seen) or 'none'}; accepted here: {', '.join(known) or 'none'}"


def _dates(bundle: Bundle | None, copy: Path | None) -> str:
    root = _trusted_root(copy)
    dates = [f"root until {_time(root.expires)}"] if root else []
    dates += [f"{role} until {_time(metadata.signed.expires)}" for role, metadata in _medium(bundle)]
    return f" ({', '.join(dates)})" if dates else ""


def _time(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if moment else "an unknown time"
