"""What a site's store holds, said by the node and signed with its evidence key.

An inventory names each file with its digest and, where a file is worth cutting (`chunks`), every
chunk of it. A *receipt* is an inventory without files: it names only the releases that are held
intact, so that it fits into a QR code; whoever still has those releases can add the rest. A node
makes it by reading every byte, so what it lists is what it has, and what is damaged stands apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from tuf.api.metadata import Root, Targets

from bundles import codec
from bundles.delta.chunks import Hashed, is_cut
from bundles.digest import is_sha256_hex
from bundles.errors import InventoryInvalid, LeewardError, SignatureRefused
from bundles.keys import Keyring, key_name
from bundles.manifest import MAX_FILES, check_path
from bundles.release import MAX_FILE_BYTES, FileEntry
from bundles.transfer import Meter

PAYLOAD_TYPE = "application/vnd.leeward.inventory+json"
SCHEMA = "leeward-inventory/1"
MAX_INVENTORY_BYTES = 64 * 1024 * 1024
MAX_CHUNKS = 1_000_000
_REMEDY = "Make the inventory again on the node with `leeward bundle inventory`, and bring that file."


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a held file, and the SHA-256 (hex) of its bytes."""

    offset: int
    length: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFile:
    """A file of the store; `path` is its place in one of the releases that have it."""

    path: str
    size_bytes: int
    sha256: str
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRelease:
    """A release that has a slot on the node: the slot's name and the SHA-256 of its `release.json`."""

    slot: str
    release_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a node holds. `damaged` are digests of files that its releases name and that are not intact."""

    schema: str
    node: str
    created_at: datetime
    releases: tuple[HeldRelease, ...]
    damaged: tuple[str, ...]
    files: tuple[HeldFile, ...]

    @property
    def is_receipt(self) -> bool:
        """Whether it names releases only."""
        return bool(self.releases) and not self.files

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"its schema is {self.schema[:80]!a}; this version of Leeward reads {SCHEMA!r}")
        if len(self.files) > MAX_FILES or sum(len(held.chunks) for held in self.files) > MAX_CHUNKS:
            raise ValueError(f"more than {MAX_FILES:,} files or {MAX_CHUNKS:,} chunks")
        digests = [held.release_sha256 for held in self.releases] + list(self.damaged)
        for held in self.files:
            _check_held(held)
            digests += [held.sha256, *(chunk.sha256 for chunk in held.chunks)]
        if not all(map(is_sha256_hex, digests)):
            raise ValueError("a digest is not 64 lower-case hex digits")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedInventory:
    """An inventory with what is known of its signature: names of keys, empty where no root was given."""

    inventory: Inventory
    signed_by: tuple[str, ...]


def chunk_collector(entry: FileEntry, chunks: list[Chunk], meter: Meter) -> Callable[[Hashed], None]:
    """Return what takes a file's chunks into `chunks`, where they are worth naming, and counts their bytes."""
    cut = is_cut(entry.path, entry.size_bytes)

    def take(chunk: Hashed) -> None:
        meter.check()
        if cut and chunk.sha256 is not None:
            chunks.append(Chunk(offset=chunk.at.offset, length=chunk.at.length, sha256=chunk.sha256))
        meter.add(entry.path, chunk.at.length)

    return take


def sign_inventory(inventory: Inventory, keyring: Keyring) -> bytes:
    """Return the file of an inventory: a DSSE envelope, signed by the keyring's targets role.

    Raises SignatureRefused where the keyring lacks the keys, KeyLocked.
    """
    envelope = Envelope(codec.canonical_json(codec.to_plain(inventory)), PAYLOAD_TYPE, {})
    for signer in keyring.signers(Targets.type):
        envelope.sign(signer)
    return codec.canonical_json(envelope.to_dict())


def read_inventory(content: bytes, *, root: Root | None = None) -> SignedInventory:
    """Read an inventory's file; with the site's root, its signature is checked.

    Without one it is still useful: a forged inventory leads to a delta that the node refuses.
    Raises InventoryInvalid, SignatureRefused.
    """
    envelope = _envelope(content)
    signed_by: tuple[str, ...] = ()
    if root is not None:
        keys = [root.keys[key_id] for key_id in root.roles[Targets.type].keyids]
        try:
            accepted = envelope.verify(keys, root.roles[Targets.type].threshold)
        except (VerificationError, UnverifiedSignatureError) as error:
            raise SignatureRefused(
                detail=f"the inventory is not signed by the site whose root was given: {error}",
                remedy="Ask the site for its root's fingerprint and for the inventory again.",
            ) from error
        signed_by = tuple(key_name(key) for key in accepted.values())
    try:
        inventory = codec.from_plain(codec.parse_json(envelope.payload), Inventory)
    except codec.CodecError as error:
        raise _invalid(str(error)) from error
    return SignedInventory(inventory=inventory, signed_by=signed_by)


def _envelope(content: bytes) -> Envelope:
    if len(content) > MAX_INVENTORY_BYTES:
        raise _invalid(f"it has {len(content):,} bytes; {MAX_INVENTORY_BYTES:,} are allowed")
    try:
        plain: Any = codec.parse_json(content)
        envelope = Envelope.from_dict(plain)
    except (ValueError, KeyError, TypeError, AttributeError, LookupError) as error:  # its parser trusts the shape
        raise _invalid(f"it is no signed envelope: {error}") from error
    if envelope.payload_type != PAYLOAD_TYPE:
        raise _invalid(f"it is of type {str(envelope.payload_type)[:80]!a}, not {PAYLOAD_TYPE!r}")
    return envelope


def _check_held(held: HeldFile) -> None:
    try:
        check_path(held.path)
    except LeewardError as error:
        raise ValueError(error.detail) from error
    if not 0 <= held.size_bytes <= MAX_FILE_BYTES:
        raise ValueError(f"{held.path} has size {held.size_bytes}")
    for chunk in held.chunks:
        if chunk.offset < 0 or chunk.length < 1 or chunk.offset + chunk.length > held.size_bytes:
            raise ValueError(f"{held.path} has a chunk of {chunk.length} bytes at {chunk.offset}, outside the file")


def _invalid(detail: str) -> InventoryInvalid:
    return InventoryInvalid(detail=f"the inventory: {detail}", remedy=_REMEDY)
