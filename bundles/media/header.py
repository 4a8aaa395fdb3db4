"""What a volume says of itself, in `volume/header.json`. Unsigned, and never trusted.

The header helps people and the reader to name a volume: which set, which number, of how many, and the
digests of its parity cells, so that one that rotted is not used to mend others. Whatever it says,
bytes count only when they have their signed digest. Reading is bounded and strict; the header
carries its own digest against rot. Whole volumes have `header.json`; while a volume is being
written, it has `header.partial` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bundles import codec
from bundles.digest import is_sha256_hex, sha256_hex
from bundles.errors import ContentMismatch, MediaMissing, VolumeUnfinished
from bundles.layout import VOLUME, Bundle
from bundles.media.parity import MAX_CELLS

SCHEMA = "leeward-volume/1"
HEADER = "header.json"
PARTIAL = "header.partial"
MAX_HEADER_BYTES = 32 * 1024 * 1024
_REMEDY = "Bring another copy of this volume, or go on with the others; parity may stand in for it."


class VolumeKind(StrEnum):
    """What a volume carries."""

    DATA = "data"
    PARITY = "parity"
    REPAIR = "repair"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One file that a volume carries beside the metadata: `blobs/<name>` or `volume/<name>`."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeHeader:
    """`release` is the digest of `release.json`; `number` counts from 1, parity volumes after the data volumes.

    A repair volume has number 0. `holds` lists the files it carries; `digests` are the SHA-256 of the
    parity cells of a parity volume, by row.
    """

    release: str
    kind: VolumeKind
    number: int
    data: int
    parity: int
    holds: tuple[Held, ...]
    digests: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not is_sha256_hex(self.release) or not all(map(is_sha256_hex, self.digests)):
            raise ValueError("a digest is not 64 lower-case hex digits")
        if self.data < 1 or self.parity < 0 or self.data + self.parity > MAX_CELLS:
            raise ValueError(f"a set of {self.data} and {self.parity} volumes cannot be")
        lowest, highest = {
            VolumeKind.DATA: (1, self.data),
            VolumeKind.PARITY: (self.data + 1, self.data + self.parity),
            VolumeKind.REPAIR: (0, 0),
        }[self.kind]
        if not lowest <= self.number <= highest:
            raise ValueError(f"{self.kind} volume {self.number} of {self.data} and {self.parity} cannot be")

    @property
    def label(self) -> str:
        """What stands on the stick and in messages."""
        return volume_label(self.release, self.number, self.data)


def volume_label(release: str, number: int, data: int) -> str:
    """Return a volume's label: the set in four characters, D or P, and the number. It fits FAT's eleven characters."""
    short = release[:4].upper()
    if number == 0:
        return f"LW-{short}-FIX"
    return f"LW-{short}-D{number}" if number <= data else f"LW-{short}-P{number - data}"


def header_to_bytes(header: VolumeHeader) -> bytes:
    """Return the canonical bytes of a header, with its own digest."""
    plain = codec.to_plain(header)
    digest = sha256_hex(codec.canonical_json(plain))
    return codec.canonical_json({"schema": SCHEMA, "volume": plain, "sha256": digest})


def header_from_bytes(content: bytes) -> VolumeHeader:
    """Read a header. Raises ContentMismatch for anything but what `header_to_bytes` makes."""
    try:
        plain = codec.parse_json(content)
        if not isinstance(plain, dict) or plain.keys() != {"schema", "volume", "sha256"} or plain["schema"] != SCHEMA:
            raise codec.CodecError(f"it is not an object of schema {SCHEMA}")
        header = codec.from_plain(plain["volume"], VolumeHeader)
    except ValueError as error:
        raise _damaged(str(error)) from error
    if header_to_bytes(header) != content:
        raise _damaged("its own digest differs")
    return header


def read_header(bundle: Bundle) -> VolumeHeader | None:
    """Return the header of a volume; None where the medium is a plain bundle.

    Raises VolumeUnfinished where writing was interrupted, ContentMismatch for a damaged header,
    MediaMissing.
    """
    try:
        (bundle.path / VOLUME).lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MediaMissing(
            detail=f"{bundle.path / VOLUME} could not be read: {error.strerror}", remedy=_REMEDY
        ) from error
    try:
        return header_from_bytes(bundle.read(VOLUME, HEADER, limit=MAX_HEADER_BYTES))
    except FileNotFoundError as error:
        raise VolumeUnfinished(
            detail=f"{bundle.path} holds a volume without {VOLUME}/{HEADER}, which is written last",
            remedy="Write this volume again with the same `leeward bundle split` command; it goes on where it stopped.",
        ) from error


def _damaged(why: str) -> ContentMismatch:
    return ContentMismatch(detail=f"{VOLUME}/{HEADER} is damaged: {why}", remedy=_REMEDY)
