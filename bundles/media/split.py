"""Spread a bundle over volumes: `leeward bundle split`, and repair volumes.

What each volume holds follows from the bundle, the size of a volume and the number of parity
volumes; so volumes can be written at one time into folders, or one by one onto sticks, on any day
and in any order, and a volume that was cut off is gone on with by the same command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from bundles.delta.instructions import NAME as DELTA
from bundles.digest import sha256_hex
from bundles.errors import FileUnusable, VolumeTooSmall
from bundles.layout import BLOBS, manifest_bytes
from bundles.media.header import Held, VolumeHeader, VolumeKind
from bundles.media.opening import Media
from bundles.media.parity import MAX_CELLS
from bundles.media.plan import Leaf, Piece, Plan, cell_bytes, plan_for, runs
from bundles.media.write import Source, VolumeWriter, reserved_bytes
from bundles.release import Release, release_from_bytes
from bundles.transfer import IsCanceled, Meter, Progress, never, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A media set that is to be written: its plan and the header of each volume, parity after data."""

    source: Source
    plan: Plan
    headers: tuple[VolumeHeader, ...]

    def folder(self, header: VolumeHeader, out: Path) -> Path:
        """Return where a volume is written when all go into one folder."""
        return out / f"volume-{header.number:02d}"


def lay_out(media: Media, *, volume_bytes: int, parity: int = 0) -> Layout:
    """Plan a media set from an opened bundle, or from another set of it. Writes nothing.

    The bundle's signatures are not checked here; each volume carries them on. Raises VolumeTooSmall,
    FileUnusable for a delta, ContentMismatch, MediaMissing, ReleaseInvalid.
    """
    if not 0 <= parity < MAX_CELLS:
        raise VolumeTooSmall(detail=f"a set has no {parity} parity volumes", remedy=f"Ask for 0 to {MAX_CELLS - 1}.")
    source, digest = _source(media)
    found = plan_for(
        source.release.files, volume_bytes=volume_bytes, parity=parity, reserved_bytes=reserved_bytes(source)
    )
    data = [
        VolumeHeader(
            release=digest,
            kind=VolumeKind.DATA,
            number=number + 1,
            data=found.data,
            parity=parity,
            holds=_held(found.pieces(number)),
        )
        for number in range(found.data)
    ]
    cells = tuple(
        Held(name=name, size_bytes=sum(place.size_bytes for place in places))
        for name, places in groupby(found.parity_places, lambda place: place.name)
    )
    more = [
        VolumeHeader(
            release=digest,
            kind=VolumeKind.PARITY,
            number=found.data + number + 1,
            data=found.data,
            parity=parity,
            holds=cells,
        )
        for number in range(parity)
    ]
    return Layout(source=source, plan=found, headers=(*data, *more))


def write_volume(
    layout: Layout, header: VolumeHeader, out: Path, *, progress: Progress = silent, is_canceled: IsCanceled = never
) -> VolumeHeader:
    """Write one volume of the set to the folder or stick `out`, or end it; returns its full header.

    Raises VolumeForeign, OutputOccupied, StoreFull, StoreUnusable, ContentMismatch, MediaMissing, Canceled.
    """
    found = layout.plan
    pieces = found.pieces(header.number - 1) if header.kind is VolumeKind.DATA else ()
    cells = found.volume(header.number - 1) if header.kind is VolumeKind.DATA else found.cells
    writer = VolumeWriter(
        source=layout.source,
        header=header,
        out=out,
        readme=_readme(layout.source.release, header),
        meter=Meter(total=sum(map(cell_bytes, cells)), progress=progress, is_canceled=is_canceled),
    )
    return writer.write_pieces(pieces) if header.kind is VolumeKind.DATA else writer.write_parity(found)


def write_repair(
    media: Media, leaves: Sequence[Leaf], out: Path, *, progress: Progress = silent, is_canceled: IsCanceled = never
) -> VolumeHeader:
    """Write a volume with only these leaves; raises what `write_volume` raises."""
    source, digest = _source(media)
    pieces = runs(leaves)
    header = VolumeHeader(release=digest, kind=VolumeKind.REPAIR, number=0, data=1, parity=0, holds=_held(pieces))
    writer = VolumeWriter(
        source=source,
        header=header,
        out=out,
        readme=_readme(source.release, header),
        meter=Meter(total=sum(piece.size_bytes for piece in pieces), progress=progress, is_canceled=is_canceled),
    )
    return writer.write_pieces(pieces)


def _source(media: Media) -> tuple[Source, str]:
    if media.is_plain and DELTA in media.bundle.names(BLOBS):
        raise FileUnusable(
            detail=f"{media.bundle.path} is a delta: it carries only what one node lacks, so it cannot be spread",
            remedy="Copy the delta's folder to one larger disk as it is, or name the full bundle here.",
        )
    content = manifest_bytes(media.bundle)
    release = release_from_bytes(content)
    return Source(bundle=media.bundle, release=release, blobs=media.blobs(release)), sha256_hex(content)


def _held(pieces: Sequence[Piece]) -> tuple[Held, ...]:
    return tuple(Held(name=piece.name, size_bytes=piece.size_bytes) for piece in pieces)


def _readme(release: Release, header: VolumeHeader) -> str:
    what = {
        VolumeKind.DATA: f"data volume {header.number} of {header.data}",
        VolumeKind.PARITY: f"parity volume {header.number - header.data} of {header.parity}, "
        f"beside {header.data} data volumes; it stands in for any one that is lost or damaged",
        VolumeKind.REPAIR: "a repair volume: only the leaves that a repair request named",
    }[header.kind]
    lines = [
        f"Leeward {release.kind} bundle: {release.name} {release.version}, epoch {release.epoch}",
        f"This medium is {what}.",
        f"Label: {header.label}    set: {header.release}",
        "",
        "This text is for people. It is not signed: do not trust fingerprints that stand on the same medium.",
        "The fingerprints come on paper or by telephone, from someone whom you know.",
        "",
        "On a new node, begin with data volume 1, as root:",
        "  sha256sum bootstrap      compare all 64 characters with the paper, two people reading",
        "  sh bootstrap             from a copy; see its first lines",
        "On a node with Leeward:",
        "  leeward import           and name the folder; the other volumes follow in any order",
        "",
    ]
    return "\n".join(lines)
