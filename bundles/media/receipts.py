"""Custody receipts: who did what with a bundle, one small signed file for each hop.

A receipt is a DSSE envelope (in-toto) over JSON, signed by the `timestamp` key of the keyring of
whoever acts: the publisher when it builds and burns, the site when it scans and imports. It names the
release, and the SHA-256 of the receipt before it, so that none can be left out, changed or put in
elsewhere without breaking the chain. The last one can be cut off: that the chain is whole is known
when the receipt of the import has come back. Where they lie in `receipts/` on a medium, an import goes
on with them.

    001-build.receipt.json 002-burn.receipt.json 003-scan.receipt.json 004-import.receipt.json
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from tuf.api.metadata import Root, Timestamp

from bundles import codec
from bundles.digest import is_sha256_hex, sha256_hex
from bundles.errors import MediaMissing, ReceiptInvalid
from bundles.keys import Keyring, key_name, write_new
from bundles.layout import RECEIPTS, Bundle
from bundles.transfer import fsync_folder

PAYLOAD_TYPE = "application/vnd.leeward.receipt+json"
SCHEMA = "leeward-receipt/1"
SUFFIX = ".receipt.json"
MAX_RECEIPT_BYTES = 64 * 1024
MAX_RECEIPTS = 999
_NAME = re.compile(r"([0-9]{3})-[a-z]+\.receipt\.json")
_REMEDY = "Ask the people who handed over the medium for the receipts as they were written."


class Act(StrEnum):
    """What was done with the bundle."""

    BUILD = "build"
    BURN = "burn"
    HANDOVER = "handover"
    SCAN = "scan"
    IMPORT = "import"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One hop. `release` is the digest of `release.json`; `previous` of the receipt before, None for the first.

    `volumes` are labels; `said` is free text, such as a scanner's verdict; `root` is the fingerprint of
    the signing keyring's first root.
    """

    schema: str
    act: Act
    release: str
    at: datetime
    by: str
    place: str
    volumes: tuple[str, ...]
    said: str
    root: str
    previous: str | None

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"its schema is {self.schema[:80]!a}; this version of Leeward reads {SCHEMA!r}")
        if not all(is_sha256_hex(digest) for digest in (self.release, self.root, self.previous or self.root)):
            raise ValueError("a digest is not 64 lower-case hex digits")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedReceipt:
    """A receipt whose signature holds: the names of the keys, and the digest of its file."""

    receipt: Receipt
    signed_by: tuple[str, ...]
    sha256: str

    def __str__(self) -> str:
        hop = self.receipt
        place = f", {hop.place}" if hop.place else ""
        return f"{hop.act} {hop.at:%Y-%m-%d %H:%M} UTC by {hop.by}{place}, signed by {', '.join(self.signed_by)}"


def sign_receipt(receipt: Receipt, keyring: Keyring) -> bytes:
    """Return the file of a receipt. Raises SignatureRefused where the keyring lacks the key, KeyLocked."""
    envelope = Envelope(codec.canonical_json(codec.to_plain(receipt)), PAYLOAD_TYPE, {})
    for signer in keyring.signers(Timestamp.type):
        envelope.sign(signer)
    return codec.canonical_json(envelope.to_dict())


def read_receipt(content: bytes, roots: Mapping[str, Root]) -> SignedReceipt:
    """Read a receipt, which one of `roots` (by fingerprint) must vouch for. Raises ReceiptInvalid."""
    if len(content) > MAX_RECEIPT_BYTES:
        raise _invalid(f"it has {len(content):,} bytes; {MAX_RECEIPT_BYTES:,} are allowed")
    try:
        plain: Any = codec.parse_json(content)
        envelope = Envelope.from_dict(plain)
        receipt = codec.from_plain(codec.parse_json(envelope.payload), Receipt)
    except (ValueError, KeyError, TypeError, AttributeError, LookupError) as error:  # its parser trusts the shape
        raise _invalid(f"it is no receipt: {error}") from error
    root = roots.get(receipt.root)
    if envelope.payload_type != PAYLOAD_TYPE or root is None:
        raise _invalid(f"nobody who is known here vouches for it; it names the root {receipt.root[:16]}")
    role = root.roles[Timestamp.type]
    try:
        accepted = envelope.verify([root.keys[key_id] for key_id in role.keyids], role.threshold)
    except (VerificationError, UnverifiedSignatureError) as error:
        raise _invalid(f"its signature does not hold: {error}") from error
    signed_by = tuple(key_name(key) for key in accepted.values())
    return SignedReceipt(receipt=receipt, signed_by=signed_by, sha256=sha256_hex(content))


def check_chain(found: Sequence[SignedReceipt], *, release: str | None = None) -> None:
    """Check that receipts in their order make one chain about one release. Raises ReceiptInvalid."""
    previous = None
    about = release or (found[0].receipt.release if found else "")
    for number, one in enumerate(found, start=1):
        if one.receipt.previous != previous:
            raise _invalid(f"receipt {number} ({one.receipt.act}) does not follow the one before it")
        if one.receipt.release != about:
            raise _invalid(f"receipt {number} ({one.receipt.act}) is about the release {one.receipt.release[:16]}")
        previous = one.sha256


def receipts_on(bundle: Bundle) -> tuple[tuple[str, bytes], ...]:
    """Return name and bytes of each receipt in a medium's `receipts/`, in order, unverified.

    Raises ReceiptInvalid where the names make no chain, ContentMismatch, MediaMissing.
    """
    if not os.path.lexists(bundle.path / RECEIPTS):
        return ()
    names = _in_order(bundle.names(RECEIPTS), bundle.path / RECEIPTS)
    return tuple((name, bundle.read(RECEIPTS, name, limit=MAX_RECEIPT_BYTES)) for name in names)


def checked_chain(
    chain: Iterable[tuple[str, bytes]], roots: Mapping[str, Root], *, release: str
) -> tuple[SignedReceipt, ...]:
    """Return what a chain about `release` (digest of its manifest) says. Raises ReceiptInvalid."""
    found = tuple(_read_named(name, content, roots) for name, content in chain)
    check_chain(found, release=release)
    return found


@dataclass(frozen=True, slots=True)
class ReceiptFolder:
    """The chain of one bundle, in a folder that travels with it or beside it."""

    path: Path

    def read(self, roots: Mapping[str, Root], *, release: str | None = None) -> tuple[SignedReceipt, ...]:
        """Return the whole chain, checked. Raises ReceiptInvalid, MediaMissing."""
        found = tuple(self._read_one(name, roots) for name in self.names())
        check_chain(found, release=release)
        return found

    def add(
        self,
        keyring: Keyring,
        act: Act,
        *,
        release: str,
        by: str,
        place: str,
        at: datetime,
        volumes: Sequence[str] = (),
        said: str = "",
    ) -> Receipt:
        """Sign the next receipt and write it; those before it are not changed.

        Raises MediaMissing, ReceiptInvalid where names in the folder make no chain or it is full,
        SignatureRefused, KeyLocked.
        """
        names = self.names()
        last = self.content(names[-1]) if names else None
        if len(names) >= MAX_RECEIPTS:
            raise _invalid(f"{self.path} holds {len(names)} receipts, which is the most")
        receipt = Receipt(
            schema=SCHEMA,
            act=act,
            release=release,
            at=at.astimezone(UTC).replace(microsecond=0),
            by=by,
            place=place,
            volumes=tuple(volumes),
            said=said,
            root=keyring.fingerprint,
            previous=None if last is None else sha256_hex(last),
        )
        self._write(f"{len(names) + 1:03d}-{act}{SUFFIX}", sign_receipt(receipt, keyring))
        return receipt

    def fits(self, chain: Sequence[tuple[str, bytes]]) -> bool:
        """Whether the receipts here and those of `chain` are one story, however far each of them goes.

        Raises MediaMissing, ReceiptInvalid where names in the folder make no chain.
        """
        return all(self.content(name) == content for name, (_, content) in zip(self.names(), chain, strict=False))

    def take_over(self, chain: Sequence[tuple[str, bytes]]) -> None:
        """Write those receipts of a chain that fits which are not here yet. Raises what `fits` raises, OSError."""
        for name, content in chain[len(self.names()) :]:
            self._write(name, content)

    def _write(self, name: str, content: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        final = self.path / name
        partial = final.with_name(f"{name}.partial")
        partial.unlink(missing_ok=True)  # left by a kill
        write_new(partial, content, mode=0o644)
        partial.rename(final)
        fsync_folder(self.path)

    def holds(self, keyring: Keyring, act: Act, *, release: str, said: str) -> bool:
        """Tell whether `keyring` has signed this very act here already; receipts of others are passed over.

        Raises MediaMissing, ReceiptInvalid where names in the folder make no chain.
        """
        root = {keyring.fingerprint: keyring.root}
        for name in self.names():
            try:
                hop = self._read_one(name, root).receipt
            except ReceiptInvalid:  # somebody else's, or none: `read` judges it
                continue
            if (hop.act, hop.release, hop.said) == (act, release, said):
                return True
        return False

    def names(self) -> tuple[str, ...]:
        """Return the receipts' names in order. Raises MediaMissing, ReceiptInvalid where they make no chain."""
        try:
            return _in_order((path.name for path in self.path.iterdir()), self.path)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def _read_one(self, name: str, roots: Mapping[str, Root]) -> SignedReceipt:
        return _read_named(name, self.content(name), roots)

    def content(self, name: str) -> bytes:
        """Return the bytes of one receipt, unverified; at most one byte more than is allowed. Raises MediaMissing."""
        try:
            with (self.path / name).open("rb") as stream:
                return stream.read(MAX_RECEIPT_BYTES + 1)
        except OSError as error:
            raise _unreadable(self.path / name, error) from error


def _in_order(names: Iterable[str], where: Path) -> tuple[str, ...]:
    ordered = sorted(name for name in names if name.endswith(SUFFIX))
    for number, name in enumerate(ordered, start=1):
        match = _NAME.fullmatch(name)
        if not match or int(match[1]) != number:
            raise _invalid(f"{where} holds {name[:80]!a} where receipt {number:03d} is expected")
    return tuple(ordered)


def _read_named(name: str, content: bytes, roots: Mapping[str, Root]) -> SignedReceipt:
    try:
        return read_receipt(content, roots)
    except ReceiptInvalid as error:
        raise _invalid(f"{name}: {error.detail}") from error


def _unreadable(path: Path, error: OSError) -> MediaMissing:
    return MediaMissing(detail=f"{path} could not be read: {error.strerror}", remedy=_REMEDY)


def _invalid(detail: str) -> ReceiptInvalid:
    return ReceiptInvalid(detail=detail, remedy=_REMEDY)
