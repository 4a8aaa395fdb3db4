"""A keyring: the private keys of a publisher, or of a site that signs its evidence.

    keys/            0700
      root-1.pem root-2.pem      ECDSA P-384            any two of the three sign a root
      root-pq.pem                ML-DSA-87              and one of the two must be this kind (bundles.trust)
      targets-1.pem ... -3.pem   ECDSA P-384            any two sign a release
      snapshot.pem timestamp.pem ECDSA P-384            put their date under what two have signed
      weights.pem                ECDSA P-384            signs the weights for peers (bundles.model_signature)
      1.root.json 2.root.json    every root since the first; the SHA-256 of the first goes on paper

A site's keyring has one key for each role, but keeps the ML-DSA key beside root-1, both needed.
Private keys are PKCS #8 PEM files, 0600, one a file, so that each can be moved to its holder's own
safe. A keyring with missing files signs what its files can sign: the build host needs the roots,
`snapshot.pem` and `timestamp.pem`, and can release nothing alone. `NAME.token` instead of `NAME.pem`
holds one line that says where a token keeps the key (`bundles.tokens`).

How keys are replaced: `bundles.ceremony`. Threshold and rotation: The Update Framework, specification
1.0, sections 5.3 and 6.1.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey
from tuf.api.metadata import Metadata, Root

from bundles import private_keys, tokens
from bundles.digest import sha256_hex
from bundles.errors import KeyringExists, MediaMissing, SignatureRefused
from bundles.private_keys import ECDSA, MLDSA, Secret, no_secret
from bundles.transfer import fsync_folder

ROLES = ("root", "targets", "snapshot", "timestamp")
KEY_NAME_FIELD = "x-leeward-name"
"""An unrecognised field of a TUF key: how people call the key. It is signed with the root."""
KEY_NAME = re.compile(r"[a-z0-9-]{1,32}")
ROOT_DAYS = 3650
WEIGHTS = "weights"
"""The key of the build host that signs the weights for peers; no role of a root names it."""

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
    secret: Secret = field(default=no_secret, repr=False, compare=False)

    @classmethod
    def create(
        cls, directory: Path, *, now: datetime | None = None, passphrase: str | None = None, weights: bool = False
    ) -> Keyring:
        """Make a publisher's keys in the new folder `directory`, encrypted where a passphrase is given.

        `weights`: also the key that signs weights for peers. Raises KeyringExists, KeyLocked for a
        passphrase that is too short.
        """
        return _create(directory, _PUBLISHER, now or datetime.now(UTC), passphrase, weights=weights)

    @classmethod
    def create_site(cls, directory: Path, *, now: datetime | None = None) -> Keyring:
        """Make a site's keys for evidence in the new folder `directory`. Raises KeyringExists."""
        return _create(directory, _SITE, now or datetime.now(UTC), None, weights=False)

    @classmethod
    def load(cls, directory: Path, *, secret: Secret = no_secret) -> Keyring:
        """Open the keyring in `directory`; `secret` gives passphrases. Raises MediaMissing where there is none."""
        if not (directory / "1.root.json").is_file():
            raise MediaMissing(
                detail=f"{directory} holds no 1.root.json",
                remedy="Name a keyring's folder, or make one with `leeward bundle keys init DIR`.",
            )
        return cls(directory, secret)

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

    def signers(self, role: str) -> tuple[Signer, ...]:
        """Return the signers of `role` whose private keys are here.

        Raises SignatureRefused when they are fewer than the role's threshold: a bundle that could
        not be verified must not be made. Raises KeyLocked.
        """
        needed = self.root.roles[role]
        found = self.present(role)
        if len(found) < needed.threshold:
            raise SignatureRefused(
                detail=f"role {role} needs {needed.threshold} keys; {self.directory} holds {len(found)} of them",
                remedy="Bring the missing PEM files of the role into the keyring's folder, "
                "or let each holder sign alone: `leeward bundle sign`.",
            )
        return found

    def present(self, role: str) -> tuple[Signer, ...]:
        """Return the signers of `role` whose private keys are here, however few. Raises KeyLocked."""
        root = self.root
        keys = [root.keys[key_id] for key_id in root.roles[role].keyids]
        return tuple(signer for key in keys if (signer := self._signer(key)) is not None)

    def weights_signer(self) -> CryptoSigner | None:
        """Return the key that signs weights for peers; None where it is not here. Raises KeyLocked."""
        path = self.directory / f"{WEIGHTS}.pem"
        return private_keys.open_private(path, self.secret) if path.is_file() else None

    def _signer(self, key: Key) -> Signer | None:
        pem = self.directory / f"{key_name(key)}.pem"
        token = pem.with_suffix(".token")
        if not isinstance(key, SSlibKey) or not (pem.is_file() or token.is_file()):
            return None
        return open_signer(str(pem) if pem.is_file() else token.read_text(encoding="ascii").strip(), key, self.secret)


def open_signer(reference: str, key: SSlibKey, secret: Secret) -> Signer:
    """Open the private half of `key`: a PEM file's path, or a token's place (`hsm:ID?label=TOKEN`).

    Raises KeyLocked, SignatureRefused where it is another key's.
    """
    if reference.startswith(tokens.SCHEME):
        return tokens.signer(reference, key, secret)
    opened = private_keys.open_private(Path(reference), secret)
    if opened.public_key.keyval != key.keyval:
        raise SignatureRefused(
            detail=f"{reference} is not the private half of {key_name(key)}, which the root names",
            remedy="Move the file away and bring the key that the newest root names.",
        )
    return CryptoSigner(opened._private_key, key)  # noqa: SLF001  the same key under its name in the root


def key_name(key: Key) -> str:
    """Return what people call `key`, or its key id where it has no name."""
    name = key.unrecognized_fields.get(KEY_NAME_FIELD)
    return name if isinstance(name, str) and KEY_NAME.fullmatch(name) else key.keyid


def named(key: SSlibKey, name: str) -> SSlibKey:
    """Give `key` the name that people call it by."""
    key.unrecognized_fields[KEY_NAME_FIELD] = name
    return key


def scheme_of(name: str) -> str:
    """Return the scheme of the key called `name`."""
    return MLDSA if name.endswith("-pq") else ECDSA


def root_expiry(now: datetime) -> datetime:
    """Return when a root that is signed now expires."""
    return now.astimezone(UTC).replace(microsecond=0) + timedelta(days=ROOT_DAYS)


def write_new(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a new file durably; an existing one is never overwritten (FileExistsError)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _create(
    directory: Path,
    plan: Mapping[str, tuple[int, tuple[str, ...]]],
    now: datetime,
    passphrase: str | None,
    *,
    weights: bool,
) -> Keyring:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise KeyringExists(
            detail=f"{directory} exists and is not empty",
            remedy="Name a new folder; existing keys are never overwritten.",
        )
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    root = Root(expires=root_expiry(now), consistent_snapshot=True)
    metadata = Metadata(root)
    signers = []
    for role, (threshold, names) in plan.items():
        for name in names:
            signer = private_keys.generate(scheme_of(name))
            root.add_key(named(signer.public_key, name), role)
            write_new(partial / f"{name}.pem", private_keys.private_pem(signer, passphrase))
            if role == "root":
                signers.append(signer)
        root.roles[role].threshold = threshold
    for signer in signers:
        metadata.sign(signer, append=True)
    if weights:
        write_new(partial / f"{WEIGHTS}.pem", private_keys.private_pem(private_keys.generate(ECDSA), passphrase))
    write_new(partial / "1.root.json", metadata.to_bytes(), mode=0o644)
    fsync_folder(partial)
    partial.rename(directory)
    fsync_folder(directory.absolute().parent)
    return Keyring(directory)
