"""A keyring: the private keys of a publisher, or of a site that signs its evidence.

    keys/            0700
      root-1.pem root-2.pem      ECDSA P-384            any two of the three sign a root
      root-pq.pem                ML-DSA-87              and one of the two must be this kind (bundles.trust)
      targets-1.pem ... -3.pem   ECDSA P-384            any two sign a release
      snapshot.pem timestamp.pem ECDSA P-384
      1.root.json 2.root.json    every root since the first; the SHA-256 of the first goes on paper

A site's keyring has one key for each role, but keeps the ML-DSA key beside root-1, both needed.
Private keys are PKCS #8 PEM files, 0600, one a file, so that each can be moved to its holder's own
safe; a keyring with missing files can still sign as long as each threshold is met. Threshold and
rotation: The Update Framework, specification 1.0, sections 5.3 and 6.1.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key, SSlibKey
from tuf.api.metadata import Metadata, Root

from bundles.digest import sha256_hex
from bundles.errors import KeyringExists, MediaMissing, SignatureRefused

ROLES = ("root", "targets", "snapshot", "timestamp")
KEY_NAME_FIELD = "x-leeward-name"
"""An unrecognised field of a TUF key: how people call the key. It is signed with the root."""
ROOT_DAYS = 3650
MLDSA = "ml-dsa-87/1"
ECDSA = "ecdsa-sha2-nistp384"

_PUBLISHER: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "root": (2, ("root-1", "root-2", "root-pq")),
    "targets": (2, ("targets-1", "targets-2", "targets-3")),
    "snapshot": (1, ("snapshot",)),
    "timestamp": (1, ("timestamp",)),
}
_SITE: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "root": (2, ("root-1", "root-pq")),
    "targets": (1, ("targets-1",)),
    "snapshot": (1, ("snapshot",)),
    "timestamp": (1, ("timestamp",)),
}
_ROOT_FILE = re.compile(r"([1-9][0-9]{0,5})\.root\.json")


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys in one folder. Make one with `create`, `create_site` or `load`."""

    directory: Path

    @classmethod
    def create(cls, directory: Path, *, now: datetime | None = None) -> Keyring:
        """Make a publisher's keys in the new folder `directory`. Raises KeyringExists."""
        return _create(directory, _PUBLISHER, now or datetime.now(UTC))

    @classmethod
    def create_site(cls, directory: Path, *, now: datetime | None = None) -> Keyring:
        """Make a site's keys for evidence in the new folder `directory`. Raises KeyringExists."""
        return _create(directory, _SITE, now or datetime.now(UTC))

    @classmethod
    def load(cls, directory: Path) -> Keyring:
        """Open the keyring in `directory`. Raises MediaMissing where there is none."""
        if not (directory / "1.root.json").is_file():
            raise MediaMissing(
                detail=f"{directory} holds no 1.root.json",
                remedy="Name a keyring's folder, or make one with `leeward bundle keys init DIR`.",
            )
        return cls(directory)

    def roots(self) -> tuple[bytes, ...]:
        """Return all roots since version 1, as their exact bytes."""
        versions = sorted(
            int(match[1]) for entry in self.directory.iterdir() if (match := _ROOT_FILE.fullmatch(entry.name))
        )
        return tuple((self.directory / f"{version}.root.json").read_bytes() for version in versions)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 (hex) of the first root's bytes: what travels on paper."""
        return sha256_hex((self.directory / "1.root.json").read_bytes())

    @property
    def root(self) -> Root:
        """The newest root."""
        return Metadata[Root].from_bytes(self.roots()[-1]).signed

    def signers(self, role: str) -> tuple[CryptoSigner, ...]:
        """Return the signers of `role` whose private keys are here.

        Raises SignatureRefused when they are fewer than the role's threshold: a bundle that could
        not be verified must not be made.
        """
        root = self.root
        needed = root.roles[role]
        found = tuple(
            _signer(path, key)
            for key in (root.keys[key_id] for key_id in needed.keyids)
            if (path := self.directory / f"{key_name(key)}.pem").is_file()
        )
        if len(found) < needed.threshold:
            raise SignatureRefused(
                detail=f"role {role} needs {needed.threshold} keys; {self.directory} holds {len(found)} of them",
                remedy="Bring the missing PEM files of the role into the keyring's folder.",
            )
        return found

    def replace(self, name: str, *, now: datetime | None = None) -> bytes:
        """Replace the key called `name` ("targets-1") by a new one and return the next root's bytes.

        The new root is signed by the old and the new root keys. The old private key stays beside the
        new one as `NAME.retired-vN.pem`. Raises SignatureRefused when the root keys are not here.
        """
        old = self.root
        role = next(role for role in ROLES for key_id in old.roles[role].keyids if key_name(old.keys[key_id]) == name)
        signers = list(self.signers("root"))
        new = _generate(name)
        (old_id,) = (key_id for key_id in old.roles[role].keyids if key_name(old.keys[key_id]) == name)
        old.version += 1
        old.expires = _expiry(now or datetime.now(UTC))
        old.revoke_key(old_id, role)
        old.add_key(new.public_key, role)
        if role == "root":
            signers.append(new)
        content = _signed_root(old, signers)
        pem = self.directory / f"{name}.pem"
        if pem.exists():
            pem.rename(self.directory / f"{name}.retired-v{old.version - 1}.pem")
        _write_private(pem, new.private_bytes)
        _write_public(self.directory / f"{old.version}.root.json", content)
        return content


def key_name(key: Key) -> str:
    """Return what people call `key`, or its key id where it has no name."""
    name = key.unrecognized_fields.get(KEY_NAME_FIELD)
    return name if isinstance(name, str) and re.fullmatch(r"[a-z0-9-]{1,32}", name) else key.keyid


def _create(directory: Path, plan: Mapping[str, tuple[int, tuple[str, ...]]], now: datetime) -> Keyring:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise KeyringExists(
            detail=f"{directory} exists and is not empty",
            remedy="Name a new folder; existing keys are never overwritten.",
        )
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    root = Root(expires=_expiry(now), consistent_snapshot=True)
    signers = []
    for role, (threshold, names) in plan.items():
        for name in names:
            signer = _generate(name)
            root.add_key(signer.public_key, role)
            _write_private(partial / f"{name}.pem", signer.private_bytes)
            if role == "root":
                signers.append(signer)
        root.roles[role].threshold = threshold
    _write_public(partial / "1.root.json", _signed_root(root, signers))
    partial.rename(directory)
    return Keyring(directory)


def _generate(name: str) -> CryptoSigner:
    fresh = (
        CryptoSigner.generate_mldsa(scheme=MLDSA) if name.endswith("-pq") else CryptoSigner.generate_ecdsa(scheme=ECDSA)
    )
    fresh.public_key.unrecognized_fields[KEY_NAME_FIELD] = name
    return fresh


def _signer(path: Path, key: Key) -> CryptoSigner:
    if not isinstance(key, SSlibKey):
        raise SignatureRefused(detail=f"{path} is for a key of an unknown kind", remedy="Use the keyring that made it.")
    return CryptoSigner(load_pem_private_key(path.read_bytes(), None), key)


def _signed_root(root: Root, signers: list[CryptoSigner]) -> bytes:
    metadata = Metadata(root)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def _expiry(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(microsecond=0) + timedelta(days=ROOT_DAYS)


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _write_public(path: Path, content: bytes) -> None:
    _write_private(path, content)
    path.chmod(0o644)
