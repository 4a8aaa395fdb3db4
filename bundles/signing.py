"""TUF metadata for one release: targets, snapshot and timestamp, signed by a keyring.

All three carry the release's epoch as their version. Snapshot and timestamp name the size and
SHA-256 of what they vouch for, as strict clients ask. Roots travel along, all since version 1.
Specification: The Update Framework 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from bundles.digest import sha256_hex
from bundles.keys import Keyring

RELEASE_TARGET = "release.json"

S = TypeVar("S", Root, Targets, Snapshot, Timestamp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """After how many days each role's signature ends. Expiry stops imports, never serving."""

    targets_days: int = 400
    snapshot_days: int = 400
    timestamp_days: int = 400

    def __post_init__(self) -> None:
        for days in (self.targets_days, self.snapshot_days, self.timestamp_days):
            if not 1 <= days <= 3650:  # noqa: PLR2004  ten years, as long as a root
                raise ValueError(f"an expiry of {days} days does not lie between 1 and 3650")


def sign_release(
    release_json: bytes, keyring: Keyring, *, version: int, expiry: Expiry, now: datetime
) -> Mapping[str, bytes]:
    """Return the metadata files (name to bytes) for a release's bytes.

    `version` is the release's epoch. Raises SignatureRefused when the keyring cannot meet a threshold.
    """
    target = TargetFile(len(release_json), {"sha256": sha256_hex(release_json)}, RELEASE_TARGET)
    targets = Targets(version=version, expires=_after(now, expiry.targets_days), targets={RELEASE_TARGET: target})
    targets_json = signed_bytes(targets, keyring.signers("targets"))
    snapshot = Snapshot(
        version=version,
        expires=_after(now, expiry.snapshot_days),
        meta={"targets.json": MetaFile.from_data(version, targets_json, ["sha256"])},
    )
    snapshot_json = signed_bytes(snapshot, keyring.signers("snapshot"))
    timestamp = Timestamp(
        version=version,
        expires=_after(now, expiry.timestamp_days),
        snapshot_meta=MetaFile.from_data(version, snapshot_json, ["sha256"]),
    )
    files = {f"{number}.root.json": content for number, content in enumerate(keyring.roots(), start=1)}
    files[f"{version}.targets.json"] = targets_json
    files[f"{version}.snapshot.json"] = snapshot_json
    files["timestamp.json"] = signed_bytes(timestamp, keyring.signers("timestamp"))
    return files


def signed_bytes(signed: S, signers: tuple[CryptoSigner, ...]) -> bytes:
    """Return the metadata file of `signed` with one signature by each of `signers`."""
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def _after(now: datetime, days: int) -> datetime:
    return now.astimezone(UTC).replace(microsecond=0) + timedelta(days=days)
