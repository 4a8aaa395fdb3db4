"""TUF metadata for one release: targets, snapshot and timestamp; signed at once, or by one holder after another.

All three carry the release's epoch as their version. Snapshot and timestamp name the size and
SHA-256 of what they vouch for, as strict clients ask. Roots travel along, all since version 1.
Specification: The Update Framework 1.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from bundles.digest import sha256_hex
from bundles.keys import Keyring

RELEASE_TARGET = "release.json"
MAX_DAYS = 3650
"""No signature is valid for longer: ten years, as long as a root."""

S = TypeVar("S", Root, Targets, Snapshot, Timestamp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """After how many days each role's signature ends. Expiry stops imports, never serving."""

    targets_days: int = 400
    snapshot_days: int = 400
    timestamp_days: int = 400

    def __post_init__(self) -> None:
        for days in (self.targets_days, self.snapshot_days, self.timestamp_days):
            if not 1 <= days <= MAX_DAYS:
                raise ValueError(f"an expiry of {days} days does not lie between 1 and {MAX_DAYS}")


def sign_release(
    release_json: bytes, keyring: Keyring, *, version: int, expiry: Expiry, now: datetime
) -> Mapping[str, bytes]:
    """Return the metadata files (name to bytes) for a release's bytes, signed by one keyring that holds all keys.

    `version` is the release's epoch. Raises SignatureRefused when the keyring cannot meet a threshold, KeyLocked.
    """
    files = dict(propose_release(release_json, keyring, version=version, expiry=expiry, now=now))
    name = f"{version}.targets.json"
    files[name] = with_signatures(Metadata[Targets].from_bytes(files[name]), keyring.signers(Targets.type))
    return {**files, **seal(files[name], keyring, expiry=expiry, now=now)}


def propose_release(
    release_json: bytes, keyring: Keyring, *, version: int, expiry: Expiry, now: datetime
) -> Mapping[str, bytes]:
    """Return all roots and the targets of a release, which nobody has signed yet.

    Each release signer adds a signature (`bundles.countersigning`), then `seal` closes the set.
    """
    target = TargetFile(len(release_json), {"sha256": sha256_hex(release_json)}, RELEASE_TARGET)
    targets = Targets(version=version, expires=_after(now, expiry.targets_days), targets={RELEASE_TARGET: target})
    files = {f"{number}.root.json": content for number, content in enumerate(keyring.roots(), start=1)}
    return {**files, f"{version}.targets.json": Metadata(targets).to_bytes()}


def seal(targets_json: bytes, keyring: Keyring, *, expiry: Expiry, now: datetime) -> Mapping[str, bytes]:
    """Return snapshot and timestamp over finished targets, under the same version.

    Raises SignatureRefused where the keyring lacks their keys, KeyLocked.
    """
    version = Metadata[Targets].from_bytes(targets_json).signed.version
    snapshot = Snapshot(
        version=version,
        expires=_after(now, expiry.snapshot_days),
        meta={"targets.json": MetaFile.from_data(version, targets_json, ["sha256"])},
    )
    snapshot_json = signed_bytes(snapshot, keyring.signers(Snapshot.type))
    timestamp = Timestamp(
        version=version,
        expires=_after(now, expiry.timestamp_days),
        snapshot_meta=MetaFile.from_data(version, snapshot_json, ["sha256"]),
    )
    timestamp_json = signed_bytes(timestamp, keyring.signers(Timestamp.type))
    return {f"{version}.snapshot.json": snapshot_json, "timestamp.json": timestamp_json}


def signed_bytes(signed: S, signers: Iterable[Signer]) -> bytes:
    """Return the metadata file of `signed` with one signature by each of `signers`."""
    return with_signatures(Metadata(signed), signers)


def with_signatures(metadata: Metadata[S], signers: Iterable[Signer]) -> bytes:
    """Return the metadata file with the signatures that it has and one more by each of `signers`."""
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def _after(now: datetime, days: int) -> datetime:
    return now.astimezone(UTC).replace(microsecond=0) + timedelta(days=days)
